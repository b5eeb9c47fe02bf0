"""Kill imputations, trainings and downloads at random moments, and see that nothing is lost or corrupt.

Each round starts a job in a process of its own, kills the process (SIGKILL) at a random moment, sometimes twice, looks
at what is left, runs the same job to its end, and compares the result with that of an undisturbed job.

    python benchmarks/faults.py --kills 50 --seed 0
    python benchmarks/faults.py --full-disk FOLDER   # a folder on a disk of a few megabytes

The package does not download from the hub here: the files come from a folder, in pieces and slowly.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    """scanpy_sct.train scanpy_sct.tl scanpy_sct.datasets lightning_fabric torch.utils.tensorboard anndata scanpy zarr
    h5py numcodecs tqdm.auto sklearn.decomposition sklearn.metrics sklearn.neighbors""".split()
)
N_CELLS, N_GENES, BLOCK_CELLS = 64, 300, 16
REPOSITORY = "someone/their-sct"
TIMEOUT = 300


# Jobs: each gets a folder with "inputs" and works in "work" beside it.


def make_inputs(folder: Path) -> None:
    """Write a small random checkpoint and a file to train on."""
    import anndata as ad
    import torch

    from scanpy_sct.checkpoints import Checkpoint, TokenSettings, save_checkpoint
    from scanpy_sct.datasets import pbmc68k
    from scanpy_sct.model import CompactConfig, make_network
    from scanpy_sct.read.genes import released_vocabulary, to_ensembl

    cells = pbmc68k()
    ids = to_ensembl(list(cells.var_names)).ensembl_ids
    genes = np.full(512, "", dtype="<U15")
    known = np.unique(ids[np.isin(ids, released_vocabulary()) & (ids != "")])[:500]
    genes[: len(known)] = known
    torch.manual_seed(0)
    network = make_network(CompactConfig(n_bins=5, bag_size=8, cell_dim=16, cell_layers=1), len(genes)).eval()
    save_checkpoint(folder / "model", Checkpoint("tiny", network, TokenSettings(), 0.25, genes))
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 3, (3, 120))[rng.integers(0, 3, 80)]).astype(np.float32)
    names = [name for name in released_vocabulary() if name][:120]
    adata = ad.AnnData(counts)
    adata.var_names = names
    adata.write_h5ad(folder / "train.h5ad")


def impute(inputs: Path, work: Path) -> None:
    """Impute to a store, in several blocks."""
    import scanpy_sct as sct

    sct.settings.block_size = BLOCK_CELLS
    adata = sct.datasets.pbmc68k()[:N_CELLS, :N_GENES].copy()
    sct.tl.impute(adata, model=inputs / "model", out=work / "cells.zarr", device="cpu")


def train(inputs: Path, work: Path) -> None:
    """Pretrain a tiny network, with a saved state after each step."""
    import scanpy_sct as sct
    from scanpy_sct.model import CompactConfig

    config = sct.train.PretrainConfig(
        network=CompactConfig(n_bins=6, bag_size=8, cell_dim=16, cell_layers=1, bag_correction=False),
        steps=8,
        warmup_steps=2,
        bag_sizes=(8,),
        report_every=4,
        checkpoint_minutes=0,
        validation_fraction=0.2,
        panel_fraction=0.0,
        ema_decay=0.5,
    )
    import anndata as ad

    names = list(ad.read_h5ad(inputs / "train.h5ad").var_names)
    sct.train.pretrain([inputs / "train.h5ad"], config, work / "trained", vocabulary=names, device="cpu")


def download(inputs: Path, work: Path) -> None:
    """Get a checkpoint from a stand-in of the hub, whose files arrive in pieces."""
    import os

    import huggingface_hub

    from scanpy_sct.checkpoints import load_model

    def arrive(repository: str, name: str, *, revision: str) -> str:
        source, target = inputs / "model" / name, work / "hub" / "snapshots" / ("0" * 40) / name
        if not source.exists():
            raise huggingface_hub.errors.EntryNotFoundError(name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            incomplete = target.with_name(f"{name}.incomplete")
            with source.open("rb") as whole, incomplete.open("wb") as file:
                while piece := whole.read(20_000):
                    file.write(piece)
                    time.sleep(0.005)
            incomplete.replace(target)
        return str(target)

    huggingface_hub.hf_hub_download = arrive
    os.environ["SCANPY_SCT_CACHE_DIR"] = str(work / "cache")
    load_model(REPOSITORY)


# What a finished job has made, as arrays by name; None: there is nothing in the place of the result.


def imputed(work: Path) -> dict[str, np.ndarray] | None:
    """Read the store."""
    import anndata as ad

    if not (work / "cells.zarr").exists():
        return None
    adata = ad.read_zarr(work / "cells.zarr")
    matrix = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    recovery = adata.var["sct_recovery"].to_numpy()
    return {"layer": adata.layers["sct"], "recovery": recovery, "X": matrix, "cells": adata.obs_names.to_numpy(str)}


def checkpoint(folder: Path) -> dict[str, np.ndarray] | None:
    """Read a checkpoint folder."""
    from scanpy_sct.checkpoints import read_checkpoint

    if not folder.exists():
        return None
    found = read_checkpoint(folder)
    weights = {name: tensor.numpy() for name, tensor in found.network.state_dict().items()}
    return weights | {"genes": found.genes}


def trained(work: Path) -> dict[str, np.ndarray] | None:
    """Read the trained checkpoint."""
    return checkpoint(work / "trained")


def downloaded(work: Path) -> dict[str, np.ndarray] | None:
    """Read the checkpoint in the cache."""
    return checkpoint(work / "cache" / "models" / REPOSITORY.replace("/", "--") / "main")


@dataclass
class Job:
    """Something that is killed."""

    run: Callable[[Path, Path], None]
    result: Callable[[Path], dict[str, np.ndarray] | None]
    seconds: float = 0.0
    """Time of an undisturbed run."""
    expected: dict[str, np.ndarray] = field(default_factory=dict)


def all_jobs() -> dict[str, Job]:
    """Jobs by name."""
    return {"impute": Job(impute, imputed), "train": Job(train, trained), "download": Job(download, downloaded)}


def _work(run: Callable[[Path, Path], None], inputs: Path, work: Path) -> None:
    import torch

    import scanpy_sct as sct

    torch.set_num_threads(1)
    logging.disable()
    sct.settings.progress = False
    work.mkdir(exist_ok=True)
    (work.parent / "started").touch()
    run(inputs, work)


def run_job(job: Job, inputs: Path, work: Path, kill_after: float | None = None) -> int:
    """Run a job in a process of its own; return its exit status, negative if it was killed.

    ``kill_after`` counts from the moment at which all modules are loaded and the work begins.
    """
    started = work.parent / "started"
    started.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_work, args=(job.run, inputs, work))
    process.start()
    if kill_after is not None:
        while not started.exists() and process.is_alive():
            time.sleep(0.001)
        process.join(kill_after)
        process.kill()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def same(found: dict[str, np.ndarray] | None, expected: dict[str, np.ndarray]) -> bool:
    """Whether two results have the same numbers, bit by bit."""
    return (
        found is not None
        and found.keys() == expected.keys()
        and all(
            np.array_equal(found[name], expected[name], equal_nan=found[name].dtype.kind == "f") for name in expected
        )
    )


def prepare(jobs: dict[str, Job], inputs: Path) -> None:
    """Run each job undisturbed."""
    inputs.mkdir()
    make_inputs(inputs)
    for name, job in jobs.items():
        work = inputs.parent / f"whole-{name}" / "work"
        work.parent.mkdir()
        if run_job(job, inputs, work) != 0:
            msg = f"{name} fails undisturbed"
            raise RuntimeError(msg)
        job.seconds = time.time() - (work.parent / "started").stat().st_mtime
        job.expected = job.result(work)


def kill_round(job: Job, inputs: Path, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a job once or twice, run it to its end, and report what was found."""
    work = folder / "work"
    folder.mkdir()
    report: dict[str, Any] = {"kills": 0, "corrupt": False, "finished_before": False}
    for _ in range(int(rng.integers(1, 3))):
        status = run_job(job, inputs, work, float(rng.uniform(0, job.seconds)))
        report["kills"] += status < 0
        try:
            found = job.result(work)
        except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
            return report | {"corrupt": True, "error": repr(error)}
        if found is not None:  # it must be the whole result
            report |= {"finished_before": True, "corrupt": not same(found, job.expected)}
            break
    if not report["finished_before"]:
        report["rerun"] = run_job(job, inputs, work)
        report["same"] = report["rerun"] == 0 and same(job.result(work), job.expected)
    else:
        report["same"] = not report["corrupt"]
    report["left"] = sorted(path.name for path in work.iterdir()) if work.exists() else []
    return report


def kill_many(n_kills: int, seed: int, folder: Path, names: tuple[str, ...] = ("impute", "train", "download")) -> list:
    """Run rounds of the jobs in turn until ``n_kills`` processes have been killed; return the reports."""
    rng, jobs = np.random.default_rng(seed), {name: job for name, job in all_jobs().items() if name in names}
    prepare(jobs, folder / "inputs")
    reports: list[dict[str, Any]] = []
    while sum(report["kills"] for report in reports) < n_kills:
        name = names[len(reports) % len(names)]
        report = kill_round(jobs[name], folder / "inputs", folder / f"round-{len(reports)}", rng)
        reports.append({"job": name, **report})
        shutil.rmtree(folder / f"round-{len(reports) - 1}", ignore_errors=True)
    return reports


def fill_disk(folder: Path) -> dict[str, Any]:
    """Impute and train on a disk that is full, make room, and go on."""
    import os

    jobs = {name: job for name, job in all_jobs().items() if name != "download"}
    report = {}
    with tempfile.TemporaryDirectory() as elsewhere:
        prepare(jobs, Path(elsewhere) / "inputs")
        for name, job in jobs.items():
            for free in (20_000, 60_000, 150_000, 300_000):
                work = folder / f"{name}-{free}" / "work"
                work.mkdir(parents=True)
                ballast = folder / "ballast"
                ballast.write_bytes(bytes(max(shutil.disk_usage(folder).free - free, 0)))
                status = run_job(job, Path(elsewhere) / "inputs", work)
                ballast.unlink()
                nothing = job.result(work) is None
                again = run_job(job, Path(elsewhere) / "inputs", work)
                report[f"{name}, {free} bytes left"] = {
                    "status": status,
                    "no result": nothing,
                    "rerun": again,
                    "same": same(job.result(work), job.expected),
                }
                shutil.rmtree(work.parent)
                os.sync()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", type=Path, help="a folder on a disk of a few megabytes; no kills")
    arguments = parser.parse_args()
    if arguments.full_disk is not None:
        print(json.dumps(fill_disk(arguments.full_disk), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        reports = kill_many(arguments.kills, arguments.seed, Path(folder))
    for name in ("impute", "train", "download"):
        of_job = [report for report in reports if report["job"] == name]
        print(
            f"{name}: {sum(each['kills'] for each in of_job)} kills in {len(of_job)} rounds, "
            f"{sum(each['finished_before'] for each in of_job)} after the result was complete; "
            f"{sum(each['corrupt'] for each in of_job)} corrupt, {sum(each['same'] for each in of_job)} with the same "
            "numbers as undisturbed"
        )
    for report in reports:
        if report["corrupt"] or not report["same"]:
            print(json.dumps(report))


if __name__ == "__main__":
    main()
