"""Sample the counts of each cell down to a few hundred, and measure how much is lost.

    python benchmarks/depth.py

samples without replacement to 500, 1,000 and 2,000 counts a cell (cells with fewer keep what they have), masks 15 % of
the entries, and writes results/depth.csv.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
import scanpy as sc
from common import (
    HERE,
    SAMPLE_KEY,
    as_markdown,
    cached,
    circumstances,
    default_data,
    hash_of_code,
    hash_of_data,
    read,
)
from imputation import METHOD_CODE, OTHER_CODE, TASK_CODE, WHOLE

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint

DEPTHS = (500, 1000, 2000)
METHODS = ("poisson_dataset", "knn_poisson", "svd", "sct_network", "sct")
METRICS = ("average_precision", "gene_pearson", "calibration_error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--data-sets", nargs="+", choices=WHOLE, default=list(WHOLE), metavar="NAME")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "depth.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    checkpoint = sct.load_model(options.model)
    table = pd.concat(
        result(name, depth, method, checkpoint, options.data)
        for name in options.data_sets
        for depth in DEPTHS
        for method in METHODS
    )
    table.to_csv(options.output, index=False)
    for metric in METRICS:
        part = table[table["metric"] == metric]
        wide = part.pivot(index=["data_set", "depth"], columns="method", values="value")[list(METHODS)]
        wide.index = wide.index.map("{0[0]}, {0[1]} counts".format)
        print(as_markdown(wide.T, metric, "min" if metric == "calibration_error" else "max"), end="\n\n")


def result(name: str, depth: int, method: str, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    """Measure one method at one depth, or find it in the cache."""
    depends_on = {
        "data": hash_of_data(name, data),
        "depth": depth,
        "method": method,
        "genes": "".join(checkpoint.genes),
        "weights": checkpoint.sha256 if method.startswith("sct") else "",
        "code": hash_of_code(*TASK_CODE, *METHOD_CODE.get(method, OTHER_CODE)),
    }
    compute = partial(measured, name, depth, method, checkpoint, data)
    return cached(f"depth-{name}-{depth}-{method}".replace(" ", "_"), depends_on, compute, False)


def measured(name: str, depth: int, method: str, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    adata = read(name, data)
    sc.pp.downsample_counts(adata, counts_per_cell=depth, random_state=0)
    found = sct.evaluate.imputation(
        adata, tasks="entries_15", methods=method, model=checkpoint, library_key=SAMPLE_KEY, n_bootstrap=0
    )
    found = found[(found["stratum"] == "all") & found["metric"].isin(METRICS)]
    found = found.assign(data_set=name, depth=depth, weights=checkpoint.sha256, **circumstances())
    return found[["data_set", "depth", "method", "metric", "value", "weights", *circumstances()]]


if __name__ == "__main__":
    main()
