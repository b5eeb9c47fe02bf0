"""Train the recipe of sct-mini with one thing changed at a time, for a short while, and evaluate on held-out data.

    python benchmarks/ablations.py

Each variant takes a quarter of an hour on one core, and its evaluation half as long. Trained networks are kept in the
cache folder, and the same command goes on where it was stopped. The rows go to results/ablations.csv.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from common import (
    DATA_SETS,
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
from embedding import blank_unlabelled
from imputation import MODEL_CODE, TASK_CODE, WHOLE
from pretrained import prepared_files, pretrained
from recipe import PRETRAINING

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.train import PretrainConfig


def variants(steps: int) -> dict[str, PretrainConfig]:
    """Return the recipes, by their difference from the first."""
    # What is added after training, and would hide the differences, is left out.
    base = replace(PRETRAINING, steps=steps, ema_decay=0.998, prior_cells=None, whitening=0.0)

    def network(**changes: object) -> PretrainConfig:
        return replace(base, network=replace(base.network, **changes))

    return {
        "the recipe": base,
        "four bins of equal width": replace(network(n_bins=5), binning="uniform"),
        "with the correction by the bag": network(bag_correction=True),
        "no attention among cells": network(cell_layers=0),
        "cell embedding of 32": network(cell_dim=32),
        "cell embedding of 128": network(cell_dim=128),
        "bags of 50": replace(base, bag_sizes=(50,)),
        "bags of 10": replace(base, bag_sizes=(10,)),
        "bags of 100": replace(base, bag_sizes=(100,)),
        "random bags": replace(base, near_fraction=0.0),
        "bags of similar cells": replace(base, near_fraction=1.0),
        "no genes masked, no panels": replace(base, masked_gene_fraction=0.0, panel_fraction=0.0),
        "half of the bags with masked genes": replace(base, masked_gene_fraction=0.5),
        "15 % masked": replace(base, mask_range=(0.15, 0.15)),
        "no thinning": replace(base, thin_fraction=0.0),
        "no average of weights": replace(base, ema_decay=0.0),
        "files as large as they are": replace(base, balance=1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", nargs="+", choices=list(variants(1)), default=list(variants(1)), metavar="VARIANT")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "ablations.csv")
    options = parser.parse_args()
    files = prepared_files(options.data)
    rows = []
    for name, config in variants(options.steps).items():
        if name in options.only:
            rows.append(evaluated(config, files, options.data).assign(variant=name))
            table = pd.concat(rows)
            table.assign(steps=options.steps, **circumstances()).to_csv(options.output, index=False)
    for (task, metric), part in table.groupby(["task", "metric"], sort=False):
        wide = part.pivot(index="variant", columns="data_set", values="value")
        print(as_markdown(wide.loc[part["variant"].unique()], f"{task}, {metric}"), end="\n\n")


def evaluated(config: PretrainConfig, files: list[Path], data: Path) -> pd.DataFrame:
    """Train a variant, or find it trained, and measure it on each data set."""
    checkpoint = sct.load_model(pretrained(files, replace(config, name="variant")))
    tables = []
    for dataset in WHOLE:
        depends_on = {
            "data": hash_of_data(dataset, data),
            "weights": checkpoint.sha256,
            "code": hash_of_code(*TASK_CODE, *MODEL_CODE, "embed", "evaluate"),
        }
        tables.append(cached(f"ablation-{dataset}", depends_on, partial(measured, checkpoint, dataset, data), False))
    return pd.concat(tables)


def measured(checkpoint: Checkpoint, dataset: str, data: Path) -> pd.DataFrame:
    """Mask entries and genes and predict them by the network alone; predict labels by neighbours in the embedding."""
    adata = read(dataset, data)
    options = {"model": checkpoint, "n_bootstrap": 0}
    found = sct.evaluate.imputation(
        adata, tasks=["entries_15", "genes"], methods=["sct_network"], library_key=SAMPLE_KEY, **options
    )
    strata = {"average_precision": "all", "gene_pearson": "all", "level_mcc": "non-zero", "rmse": "non-zero"}
    found = found[found["stratum"] == found["metric"].map(strata)]
    labels_key = DATA_SETS[dataset][2]
    blank_unlabelled(adata, labels_key)
    nearest = sct.evaluate.embedding(
        adata, methods=["sct"], labels_key=labels_key, metrics=["knn_accuracy"], library_key=SAMPLE_KEY, **options
    )
    table = pd.concat([found[["task", "metric", "value"]], nearest[["metric", "value"]].assign(task="embedding")])
    return table.assign(data_set=dataset)


if __name__ == "__main__":
    main()
