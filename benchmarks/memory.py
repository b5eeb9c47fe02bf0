"""Measure peak memory and time of `sct.tl.impute` for objects of growing size.

    python benchmarks/memory.py

draws cells of a real data set with replacement and thins their counts, so that no two are the same, writes them as
h5ad and imputes them in a process of its own. Memory is counted beyond that of the input and of the result, which
have to be held; where it is bounded by a block of cells, it does not grow with them. Writes results/memory.csv.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from common import HERE, circumstances, default_data
from scipy import sparse

STATUS = Path("/proc/self/status")
N_GENES = 2000
KEPT = (0.5, 1.0)
"""Range of the fraction of its counts that a drawn cell keeps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--file", default="dev/pbmc3k.h5ad", help="counts of the cells to draw from")
    parser.add_argument("--cells", type=int, nargs="+", default=[2_000, 8_000, 32_000])
    parser.add_argument("--genes", type=int, default=N_GENES)
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "memory.csv")
    parser.add_argument("--impute", nargs=2, metavar=("FILE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.impute:
        print(json.dumps(measure(*options.impute)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_cells in options.cells:
            file = Path(folder) / f"{n_cells}.h5ad"
            resampled(options.data / options.file, n_cells, options.genes).write_h5ad(file)
            command = [sys.executable, __file__, "--impute", str(file), options.model]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"cells": n_cells, "genes": options.genes} | json.loads(done.stdout.splitlines()[-1]))
            print(" ".join(f"{name}={value:,.0f}" for name, value in rows[-1].items()), flush=True)
            file.unlink()
            options.output.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).assign(model=options.model, **circumstances()).to_csv(options.output, index=False)


def resampled(file: Path, n_cells: int, n_genes: int, seed: int = 0) -> ad.AnnData:
    """Draw cells with replacement and thin their counts; the genes are those detected most often."""
    rng = np.random.default_rng(seed)
    cells = ad.read_h5ad(file)
    counts = sparse.csr_matrix(cells.X)
    genes = np.sort(np.argsort(-counts.getnnz(axis=0), kind="stable")[:n_genes])
    drawn = counts[rng.integers(counts.shape[0], size=n_cells)][:, genes].tocsr()
    kept = np.repeat(rng.uniform(*KEPT, n_cells), np.diff(drawn.indptr))
    drawn.data = rng.binomial(np.rint(drawn.data).astype(np.int64), kept).astype(np.float32)
    drawn.eliminate_zeros()
    names = pd.DataFrame(index=[f"cell {number}" for number in range(n_cells)])
    return ad.AnnData(drawn, obs=names, var=cells.var[[]].iloc[genes])


def measure(file: str, model: str) -> dict[str, float]:
    """Impute a file in this process; sizes in MiB, times in seconds."""
    import scanpy_sct as sct

    sct.settings.progress = False
    checkpoint = sct.load_model(model)
    # What is imported, and what torch allocates once, is there before the input.
    sct.tl.impute(ad.read_h5ad(file, backed="r")[:60].to_memory(), model=checkpoint)
    adata = ad.read_h5ad(file)
    of_input = (adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes) / 2**20
    before = memory("VmRSS")
    forget_peak()
    start, cpu = time.perf_counter(), time.process_time()
    sct.tl.impute(adata, model=checkpoint)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    of_result = sum(layer.nbytes for name, layer in adata.layers.items() if name) / 2**20
    peak = memory("VmHWM")
    return {
        "input_mib": of_input,
        "result_mib": of_result,
        "before_mib": before,
        "peak_mib": peak,
        "beyond_mib": peak - before - of_result,
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def memory(field: str) -> float:
    """Return the memory of this process now (VmRSS) or at most (VmHWM), in MiB; at most everywhere but on Linux.

    `ru_maxrss` is at least what the parent had when it started this process, which may be more.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Let VmHWM start again from the memory that is used now."""
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")


if __name__ == "__main__":
    main()
