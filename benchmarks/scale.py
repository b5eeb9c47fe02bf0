"""Time per cell and peak memory for objects that are larger and larger, on disk, and what a million cells would take.

    python benchmarks/scale.py                    # all cases, hours
    python benchmarks/scale.py --cases embed-20000 impute-20000
    python benchmarks/scale.py --table            # what was measured on this machine, and a million cells computed

Cells are drawn from a real data set with replacement, their counts thinned so that no two are the same, and written as
zarr. Each case runs in a process of its own on lazy data; imputed values go to a zarr store. With `--stop-after` a case
is killed after some seconds, and goes on where it was when the command is run again; its seconds add up. Cases on a
cluster run on two dask workers of one thread each on this machine. Writes results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from common import HERE, default_data, keep_for_machine, kept_for_machine
from measure import forget_peak, memory
from scipy import sparse

KEPT = (0.5, 1.0)
"""Range of the fraction of its counts that a drawn cell keeps."""
CELLS_AT_ONCE = 4000


@dataclass(frozen=True)
class Case:
    """One run."""

    what: str
    cells: int
    genes: int
    on_cluster: bool = False

    @property
    def name(self) -> str:
        """Name on the command line."""
        return f"{self.what}-{self.cells}" + ("-cluster" if self.on_cluster else "")


ALL_GENES, PANEL = 12_333, 500
CASES = [
    *(Case("embed", n, ALL_GENES) for n in (2_000, 20_000, 200_000, 1_000_000)),
    *(Case("impute", n, ALL_GENES) for n in (2_000, 20_000, 200_000)),
    *(Case("impute_panel", n, PANEL) for n in (2_000, 20_000, 200_000, 1_000_000)),
    *(Case(what, 20_000, ALL_GENES, on_cluster=True) for what in ("embed", "impute")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--file", default="dev/pbmc3k.h5ad", help="counts of the cells to draw from")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], metavar="CASE")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="folder for simulated data and results")
    parser.add_argument("--stop-after", type=float, help="seconds after which a case is killed, to be resumed")
    parser.add_argument("--table", action="store_true", help="print what was measured before, and stop")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table(kept_for_machine("scale")))
        return
    if options.measure:
        print(json.dumps(measure(Case(**json.loads(options.measure)), options.work)))
        return
    options.work.mkdir(exist_ok=True)
    for case in CASES:
        if options.cases is None or case.name in options.cases:
            simulate(options.data / options.file, case, options.work)
            found = run(case, options.work, options.stop_after)
            if found is not None:
                rows = {row["case"]: row for row in kept_for_machine("scale")} | {case.name: found}
                keep_for_machine("scale", list(rows.values()))
                print(" ".join(f"{name}={value}" for name, value in found.items()), flush=True)


def input_path(case: Case, work: Path) -> Path:
    return work / f"cells-{case.cells}-{case.genes}.zarr"


def simulate(file: Path, case: Case, work: Path) -> None:
    """Write the cells of a case, chunk by chunk; the genes are those detected most often."""
    import dask.array as da

    path = input_path(case, work)
    if path.exists():
        return
    cells = ad.read_h5ad(file)
    counts = sparse.csr_matrix(cells.X)
    genes = np.sort(np.argsort(-counts.getnnz(axis=0), kind="stable")[: case.genes])
    counts = counts[:, genes]

    def draw(block: np.ndarray, block_info: dict | None = None) -> sparse.csr_matrix:
        first, last = block_info[0]["array-location"][0] if block_info else (0, 0)
        rng = np.random.default_rng([0, first])
        drawn = counts[rng.integers(counts.shape[0], size=last - first)]
        kept = np.repeat(rng.uniform(*KEPT, last - first), np.diff(drawn.indptr))
        drawn.data = rng.binomial(np.rint(drawn.data).astype(np.int64), kept).astype(np.float32)
        drawn.eliminate_zeros()
        return drawn

    shape, chunks = (case.cells, case.genes), (CELLS_AT_ONCE, case.genes)
    meta = sparse.csr_matrix((0, 0), dtype=np.float32)
    matrix = da.map_blocks(draw, da.zeros(shape, chunks=chunks, dtype=np.float32), dtype=np.float32, meta=meta)
    names = pd.DataFrame(index=[f"cell {number}" for number in range(case.cells)])
    unfinished = path.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    ad.AnnData(matrix, obs=names, var=cells.var[[]].iloc[genes]).write_zarr(unfinished)
    unfinished.rename(path)


def run(case: Case, work: Path, stop_after: float | None) -> dict[str, object] | None:
    """Run a case in a process of its own; None: it was stopped."""
    clock = work / f"{case.name}.json"
    before = json.loads(clock.read_text())["seconds"] if clock.exists() else 0.0
    command = [sys.executable, __file__, "--work", str(work), "--measure", json.dumps(asdict(case))]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=stop_after)
    except subprocess.TimeoutExpired:
        clock.write_text(json.dumps({"seconds": before + time.perf_counter() - start}))
        print(f"{case.name}: stopped; run the command again to go on", flush=True)
        return None
    clock.unlink(missing_ok=True)
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = before + found.pop("seconds")
    per_cell = {"seconds": round(seconds, 1), "ms_per_cell": round(1000 * seconds / case.cells, 3)}
    if before == 0:
        per_cell["cpu_ms_per_cell"] = round(1000 * found["cpu_seconds"] / case.cells, 3)
    return {"case": case.name, **asdict(case), **per_cell, "in_parts": before > 0, **found}


def measure(case: Case, work: Path) -> dict[str, float]:
    """Run a case in this process; sizes in MiB, times in seconds."""
    import scanpy_sct as sct
    from scanpy_sct.read.whole import opened

    sct.settings.progress = False
    model = sct.load_model("sct-mini")
    out = work / f"{case.name}-result.zarr"
    with opened(input_path(case, work)) as adata, cluster() if case.on_cluster else nullcontext() as client:
        # What is imported, and what torch allocates once, is there before the cells.
        function = sct.tl.embed if case.what == "embed" else sct.tl.impute
        function(adata[:60].to_memory(), model=model, client=client)
        if client is not None:
            client.run(function, adata[:60].to_memory(), model=model)
        forget_peak()
        start, cpu = time.perf_counter(), time.process_time()
        if case.what == "embed":
            sct.tl.embed(adata, model=model, client=client)
        else:
            sct.tl.impute(adata, model=model, out=out, client=client)
        found = {"seconds": time.perf_counter() - start, "cpu_seconds": round(time.process_time() - cpu, 1)}
        found["peak_mib"] = round(memory("VmHWM"))
        if client is not None:
            found["worker_peak_mib"] = round(max(client.run(memory, "VmHWM").values()))
    if out.exists():
        found["stored_mib"] = round(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20)
        shutil.rmtree(out)
    return found


CORES = 16
"""Cores of the machine of a GPU, for what is computed."""


def table(rows: list[dict[str, object]]) -> str:
    """Write the results as a table, and compute a million cells from them."""
    title = "| | cells | genes | ms a cell | CPU-ms a cell | peak memory, MiB | of a worker |"
    order = [case.name for case in CASES]
    rows = sorted(rows, key=lambda row: order.index(row["case"]))
    lines = [title, "|---" * 7 + "|"]
    for row in rows:
        where = ", two dask workers" if row["on_cluster"] else ""
        lines.append(
            f"| {row['what']}{where} | {row['cells']:,} | {row['genes']:,} | {row['ms_per_cell']:.2f} | "
            f"{row.get('cpu_ms_per_cell', '-')} | {row['peak_mib']:,} | {row.get('worker_peak_mib', '')} |"
        )
    for what in ("embed", "impute", "impute_panel"):
        found = [row for row in rows if row["what"] == what and not row["on_cluster"] and "cpu_ms_per_cell" in row]
        if found:
            row = max(found, key=lambda each: each["cells"])
            here, there = row["ms_per_cell"] * 1000 / 3600, row["cpu_ms_per_cell"] * 1000 / CORES / 60
            lines.append(
                f"Computed from {row['case']}, a million cells: {here:.2f} hours here; with {CORES} cores and the GPU "
                f"doing nothing {there:.1f} minutes; with eight such machines {there / 8:.2f} minutes, without the fit."
            )
    return "\n".join(lines)


def cluster():
    """Start a dask cluster of two processes with one thread each."""
    from distributed import Client

    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    return Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")


if __name__ == "__main__":
    main()
