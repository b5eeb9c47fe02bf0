"""Seconds and peak memory of one bag: the released size with random weights, and `sct-mini`.

    python benchmarks/speed.py

Each case runs in a process of its own, one warm-up and three timed runs; the median counts. Writes results/speed.csv.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from common import HERE, circumstances

N_CELLS, MASKED_FRACTION, RUNS = 50, 0.15, 3
CASES = [
    ("released size", "prediction", "float32"),
    ("released size", "prediction", "bfloat16"),
    ("released size", "embedding", "float32"),
    ("sct-mini", "prediction", "float32"),
    ("sct-mini", "embedding", "float32"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed.csv")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case), options.device)))
        return
    rows = []
    for case in CASES:
        command = [sys.executable, __file__, "--device", options.device, "--case", json.dumps(case)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]) | {"device": options.device} | circumstances())
        print(
            rows[-1]["network"],
            rows[-1]["work"],
            rows[-1]["precision"],
            f"{rows[-1]['seconds_per_bag']:.2f} s",
            flush=True,
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(options.output, index=False)


def measure(network: str, work: str, precision: str, device: str) -> dict[str, object]:
    import torch

    import scanpy_sct as sct
    from scanpy_sct.model import Bags, ReleasedConfig, make_network

    made = make_network(ReleasedConfig(), 19_968) if network == "released size" else sct.load_model(network).network
    made = made.to(device).eval()
    bags = Bags(torch.randint(0, 5, (1, N_CELLS, made.n_genes), device=device))
    n_tokens = bags.tokens.numel()
    masked = torch.randperm(n_tokens, device=device)[: int(MASKED_FRACTION * n_tokens)].sort().values
    bags.tokens.view(-1)[masked] = made.config.mask_token
    seconds = []
    half = precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            _ = made.bin_logits(bags, masked) if work == "prediction" else made.cell_embedding(bags)
            if bags.tokens.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return {
        "network": network,
        "work": work,
        "precision": precision,
        "cells": N_CELLS,
        "seconds_per_bag": statistics.median(seconds[1:]),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
