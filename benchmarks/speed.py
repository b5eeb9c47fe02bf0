"""Time and peak memory of one bag, and how far the released network is from a plain layout and from the hardware.

    python benchmarks/speed.py [--cells 10] [--threads 1]

Every case runs in a process of its own, in turn with the others, so that a busy machine slows down all of them; the
fastest round counts. "plain" is `plain.py`. "bare" is nothing but the convolutions, matrix products and attention of
the network (without the stem, which is looked up). The results of each machine are kept in results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import plain
import torch
from common import HERE, circumstances
from torch import Tensor
from torch.nn import functional as F

import scanpy_sct as sct
from scanpy_sct.model import Bags, Network, ReleasedConfig, convolution, make_network
from scanpy_sct.run.device import bfloat16_pays

N_GENES, N_CELLS, MASKED_FRACTION = 19_968, 50, 0.15
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CASES = {
    f"{work} {precision}": (work, precision)
    for precision in DTYPES
    for work in ("prediction", "prediction, public operations", "embedding", "bare")
} | {"plain float32": ("plain", "float32"), "agreement bfloat16": ("agreement", "bfloat16")}
CASES |= {f"sct-mini {work} float32": (f"sct-mini {work}", "float32") for work in ("prediction", "embedding")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=N_CELLS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed.json")
    parser.add_argument("--single", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.single:
        print(json.dumps(measure(*CASES[options.single], options.cells, options.device)))
        return
    found: dict[str, list[dict[str, float]]] = {case: [] for case in options.cases}
    for _ in range(options.rounds):
        for case, rounds in found.items():
            command = [sys.executable, __file__, "--single", case, "--cells", str(options.cells)]
            command += ["--threads", str(options.threads), "--device", options.device]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rounds.append(json.loads(output.splitlines()[-1]))
            print(case, rounds[-1], flush=True)
    best = {case: min(rounds, key=lambda each: each["cpu_seconds"]) for case, rounds in found.items()}
    report = {"cells": options.cells, "threads": options.threads, "device": options.device, "cases": best}
    report |= {"ratios of CPU seconds": ratios(best), "bfloat16 is the default here": bfloat16_pays()}
    for title, ratio in report["ratios of CPU seconds"].items():
        print(f"{title}: {ratio:.2f}")
    keep(options.output, report | circumstances())


def ratios(best: dict[str, dict[str, float]]) -> dict[str, float]:
    """Compare cases of the same run."""
    pairs = {
        "plain float32 / bfloat16": ("plain float32", "prediction bfloat16"),
        "plain float32 / float32": ("plain float32", "prediction float32"),
        "bfloat16 / bare operations": ("prediction bfloat16", "bare bfloat16"),
        "float32 / bare operations": ("prediction float32", "bare float32"),
        "prediction / embedding, bfloat16": ("prediction bfloat16", "embedding bfloat16"),
    }
    seconds = {case: each["cpu_seconds"] for case, each in best.items()}
    return {
        title: round(seconds[one] / seconds[other], 3)
        for title, (one, other) in pairs.items()
        if {one, other} <= set(seconds)
    }


def keep(file: Path, report: dict[str, object]) -> None:
    """Add the report to the file, in the place of an older one of the same machine and options."""
    reports = json.loads(file.read_text()) if file.exists() else {}
    name = f"{processor()}, {report['device']}, {report['threads']} threads, {report['cells']} cells"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(reports | {name: report}, indent=2) + "\n")


def processor() -> str:
    """Return the name of the processor and, since some names say little, its family and model."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in info.read_text().splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, _, value in lines}
    name = values.get("model name", platform.machine())
    return f"{name} (family {values.get('cpu family', '?')}, model {values.get('model', '?')})"


def measure(work: str, precision: str, n_cells: int, device: str) -> dict[str, float]:
    """Measure one case in this process, after a bag of one cell as a warm-up."""
    mini = work.startswith("sct-mini")
    torch.manual_seed(0)
    network = sct.load_model("sct-mini").network if mini else make_network(ReleasedConfig(), N_GENES)
    network = network.to(device).eval()
    run = work_of(work.removeprefix("sct-mini "), network, DTYPES[precision])
    with torch.inference_mode():
        run(random_bag(network, 2 if mini else 1, device))
        bag = random_bag(network, n_cells, device)
        cpu, wall = time.process_time(), time.perf_counter()
        extra = run(bag)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = {"cpu_seconds": cpu, "wall_seconds": wall, "peak_memory_gb": peak}
    return {name: round(value, 4) for name, value in (found | (extra if isinstance(extra, dict) else {})).items()}


def random_bag(network: Network, n_cells: int, device: str) -> tuple[Bags, Tensor]:
    """Return a bag and the index of its masked tokens."""
    tokens = torch.randint(0, network.config.n_bins, (1, n_cells, network.n_genes))
    masked = torch.randperm(tokens.numel())[: int(MASKED_FRACTION * tokens.numel())].sort().values
    tokens.view(-1)[masked] = network.config.mask_token
    return Bags(tokens.to(device)), masked.to(device)


def work_of(work: str, network: Network, dtype: torch.dtype) -> Callable[[tuple[Bags, Tensor]], object]:
    """Return the function of a bag that is measured."""

    def autocast(bags: Bags) -> AbstractContextManager:
        return torch.autocast(bags.tokens.device.type, dtype, enabled=dtype != torch.float32)

    def predict(bag: tuple[Bags, Tensor]) -> Tensor:
        with autocast(bag[0]):
            return network.bin_logits(*bag)

    def embed(bag: tuple[Bags, Tensor]) -> Tensor:
        with autocast(bag[0]):
            return network.cell_embedding(bag[0])

    def in_plain_layout(bag: tuple[Bags, Tensor]) -> None:
        plain.outputs(network.config, network.state_dict(), bag[0].tokens, token_index=bag[1])

    def compare(bag: tuple[Bags, Tensor]) -> dict[str, float]:
        vectors = embed(bag)
        rough, exact = predict(bag), network.bin_logits(*bag)
        return agreement(rough, exact) | {
            "correlation_of_embeddings": torch.corrcoef(
                torch.stack([vectors.flatten(), network.cell_embedding(bag[0]).flatten()])
            )[0, 1].item()
        }

    if work == "prediction, public operations":
        convolution.has_fused_gelu = lambda dtype: False
    if work == "bare":
        return lambda bag: bare_operations(network.config, bag[0].tokens.shape[1], dtype)
    return {"embedding": embed, "plain": in_plain_layout, "agreement": compare}.get(work, predict)


def agreement(rough: Tensor, exact: Tensor) -> dict[str, float]:
    """Compare the logits (tokens, bins) of two types."""
    bins = torch.arange(exact.shape[1], dtype=torch.float32)
    difference = (rough.softmax(1) - exact.softmax(1)) @ bins
    return {
        "same_most_probable_bin": (rough.argmax(1) == exact.argmax(1)).float().mean().item(),
        "mean_difference_of_expected_bin": difference.abs().mean().item(),
    }


def bare_operations(config: ReleasedConfig, n_cells: int, dtype: torch.dtype) -> None:
    """Run the multiplications of the network in the fastest layout, cell by cell, always on the same numbers."""
    depth, channels = config.num_downsamples, [config.token_embed_dim, *config.channels[1:]]
    for i in range(depth):
        length = N_GENES >> i
        repeat_convolution(n_cells, length, channels[i], channels[i + 1], 5, dtype)
        repeat_convolution(n_cells, length, channels[i + 1], channels[i + 1], 1, dtype)
    out = config.channels
    for i in range(depth, 0, -1):
        length = N_GENES >> i
        for kernel in (2, 3):  # the even and the odd results of a transposed convolution
            repeat_convolution(n_cells, length, out[i], out[i - 1], kernel, dtype)
        repeat_convolution(n_cells, 2 * length, out[i - 1], out[i - 1], 1, dtype)
    dim, length = config.embed_dim, N_GENES >> depth
    width = config.attention_heads * config.key_size
    sizes = [(dim, width)] * 3 + [(width, dim), (dim, 2 * config.ffn_embed_dim), (config.ffn_embed_dim, dim)]
    query = torch.ones(1, config.attention_heads, n_cells * length, config.key_size, dtype=dtype)
    for _ in range(config.num_layers):
        for n_in, n_out in sizes:
            repeat_convolution(n_cells, length, n_in, n_out, 1, dtype)
        F.scaled_dot_product_attention(query, query, query)
    sizes = [out[0], *[dim] * config.num_hidden_layers_head]
    for n_in, n_out in zip(sizes, [*sizes[1:], config.alphabet_size], strict=True):
        repeat_convolution(n_cells, int(MASKED_FRACTION * N_GENES), n_in, n_out, 1, dtype)


def repeat_convolution(times: int, length: int, n_in: int, n_out: int, kernel: int, dtype: torch.dtype) -> None:
    x = torch.ones(1, length, n_in, dtype=dtype).transpose(1, 2).unsqueeze(2)
    weight = torch.ones(n_out, n_in, 1, kernel, dtype=dtype).contiguous(memory_format=torch.channels_last)
    bias = torch.zeros(n_out, dtype=dtype)
    for _ in range(times):
        F.conv2d(x, weight, bias, padding=(0, kernel // 2))


if __name__ == "__main__":
    main()
