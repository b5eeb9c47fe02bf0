"""Divide the vectors of cells by powers of their length, and predict labels by neighbours among them.

    python benchmarks/lengths.py

measures labelled data that `sct-mini` was trained on (never on their labels), since the power was chosen here, and
writes results/lengths.csv. `depth` is Spearman's correlation of the length of a vector, before the division, with the
counts of the cell, among cells of one label. Takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from common import HERE, SAMPLE_KEY, as_markdown, cached, circumstances, default_data, hash_of_code, without_copies
from embedding import MODEL_CODE, TASK_CODE, blank_unlabelled
from scipy.stats import spearmanr

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.workflow import open_cells

POWERS = (0.0, 0.5, 1.0)
# File, column of labels, and of samples where these are sections; sorted cells have one sample for each type.
DATA_SETS = {
    "sorted blood (facs)": ("pbmc_facs_zheng", "cell_type", None),
    "sorted blood (14k)": ("pbmc_sorted_14k", "cell_type", None),
    "sorted blood (mudan)": ("pbmc_sorted_mudan", "cell_type", None),
    "liver": ("liver_he2020", "cell_type", None),
    "lung tumours": ("lung_nsclc_zilionis", "cell_type", None),
    "dendritic cells": ("lung_nsclc_dc_zilionis", "cell_type", None),
    "midbrain": ("midbrain_ipsc_lamanno", "cell_type", None),
    "cardiac, day 2": ("cardiac_diff_day2_10x", "cell_type", None),
    "cardiac, day 5": ("cardiac_diff_day5_10x", "cell_type", None),
    "heart CN74": ("heart_dev_ST_CN74", "region", SAMPLE_KEY),
    "her2st A-F": ("her2st_breast_train", "region", SAMPLE_KEY),
}
FEWEST_CELLS = 10
"""Labels with fewer cells are left out."""
METRICS = {"knn_accuracy": "Accuracy of the 15 nearest neighbours", "depth": "Correlation of length and depth"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "lengths.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    checkpoint = sct.load_model(options.model)
    table = pd.concat(result(name, checkpoint, options.data) for name in DATA_SETS)
    table = table.assign(weights=checkpoint.sha256, **circumstances())
    table.to_csv(options.output, index=False)
    for metric, title in METRICS.items():
        part = table[table["metric"] == metric]
        print(as_markdown(part.pivot(index="power", columns="data_set", values="value"), title), end="\n\n")


def result(name: str, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    """Measure one data set, or find it in the cache."""
    file = data / "train" / f"{DATA_SETS[name][0]}.h5ad"
    depends_on = {
        "data": [*DATA_SETS[name], file.stat().st_size, FEWEST_CELLS],
        "powers": POWERS,
        "weights": checkpoint.sha256,
        "code": hash_of_code(*TASK_CODE, *MODEL_CODE, Path(__file__)),
    }
    return cached(f"lengths-{name}".replace(" ", "_"), depends_on, partial(measured, name, checkpoint, file), False)


def measured(name: str, checkpoint: Checkpoint, file: Path) -> pd.DataFrame:
    _, labels_key, library_key = DATA_SETS[name]
    adata = without_copies(ad.read_h5ad(file))
    _, cells = open_cells(adata, checkpoint, ReadOptions(library_key=library_key))
    vectors = embed_cells(checkpoint, cells)
    length = np.linalg.norm(vectors, axis=1)
    blank_unlabelled(adata, labels_key)
    counts = adata.obs[labels_key].value_counts()
    kept = adata.obs[labels_key].isin(counts.index[counts >= FEWEST_CELLS])
    for power in POWERS:
        adata.obsm[str(power)] = vectors / length[:, None] ** power  # no cell of these data is empty
    found = sct.evaluate.embedding(
        adata[kept].copy(),
        methods=[str(power) for power in POWERS],
        labels_key=labels_key,
        metrics=["knn_accuracy"],
        n_bootstrap=0,
    )
    found = found.assign(power=found["method"].astype(float))[["power", "metric", "value"]]
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    labels = adata.obs[labels_key][kept]
    within = [spearmanr(depth[kept][labels == each], length[kept][labels == each])[0] for each in labels.unique()]
    row = {"power": POWERS[0], "metric": "depth", "value": np.mean(within)}
    return pd.concat([found, pd.DataFrame([row])]).assign(data_set=name)


if __name__ == "__main__":
    main()
