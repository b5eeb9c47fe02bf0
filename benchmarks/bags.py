"""Measure what a bag contributes: bags of 1 to 100 cells, neighbours on the tissue, similar cells, or at random.

    python benchmarks/bags.py

masks 15 % of the entries of four data sets, predicts them by the network alone with bags of each size and kind, and
writes results/bags.csv. `ablated` is the network with the output of its attention among cells replaced by its mean,
`uncorrected` without the correction of each gene by the bag.
"""

from __future__ import annotations

import argparse
import copy
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
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
from imputation import MODEL_CODE, TASK_CODE, WHOLE

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.evaluate.methods.sct import predict_with
from scanpy_sct.train.held_out import ablated, transformer_layers

SECTIONS = ("her2st G, H", "heart CN73")
SIZES = (1, 10, 50, 100)
WITHOUT = ("ablated", "uncorrected")
METRICS = {"average_precision": "all", "gene_pearson": "all", "level_mcc": "non-zero"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--data-sets", nargs="+", choices=WHOLE, default=list(WHOLE), metavar="NAME")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "bags.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    checkpoint = sct.load_model(options.model)
    rows = [
        result(name, kind, size, checkpoint, options.data)
        for name in options.data_sets
        for kind in ("similar", "random", *(("spatial",) if name in SECTIONS else ()))
        for size in SIZES
    ]
    without = WITHOUT if checkpoint.config.bag_correction else WITHOUT[:1]
    rows += [result(name, kind, 50, checkpoint, options.data) for name in options.data_sets for kind in without]
    table = pd.concat(rows)
    table.to_csv(options.output, index=False)
    for metric in METRICS:
        part = table[table["metric"] == metric]
        wide = part.pivot(index=["data_set", "bags"], columns="size", values="value")
        wide.index = wide.index.map(", ".join)
        print(as_markdown(wide, metric, digits=4), end="\n\n")


def result(name: str, kind: str, size: int, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    """Measure one data set with bags of one kind and size."""
    depends_on = {
        "data": hash_of_data(name, data),
        "weights": checkpoint.sha256,
        "bags": (kind, size),
        "code": hash_of_code(*TASK_CODE, *MODEL_CODE, "train/held_out.py"),
    }
    compute = partial(measured, name, kind, size, checkpoint, data)
    return cached(f"bags-{name}-{kind}-{size}".replace(" ", "_"), depends_on, compute, False)


def measured(name: str, kind: str, size: int, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    network = copy.deepcopy(checkpoint.network)
    network.config = replace(checkpoint.config, bag_size=size)
    if kind == "uncorrected":
        network.config = replace(network.config, bag_correction=False)
        network.correction = None
    model = replace(checkpoint, network=network)

    @sct.evaluate.method("network", replace=True)
    def predict(observed):
        """Predict with bags of this kind and size."""
        with ablated(transformer_layers(network)) if kind == "ablated" else nullcontext():
            return predict_with(observed, model, blend=False, bags="auto" if kind in WITHOUT else kind)

    adata = read(name, data)
    found = sct.evaluate.imputation(
        adata, tasks="entries_15", methods="network", model=model, library_key=SAMPLE_KEY, n_bootstrap=0
    )
    found = found[found["stratum"] == found["metric"].map(METRICS)][["metric", "value"]]
    return found.assign(data_set=name, bags=kind, size=size, weights=checkpoint.sha256, **circumstances())


if __name__ == "__main__":
    main()
