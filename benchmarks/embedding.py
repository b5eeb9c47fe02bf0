"""What is an embedding worth? Accuracy of the 15 nearest neighbours in naming cells, beside PCA.

    python benchmarks/embedding.py

Five-fold cross-validation on the labelled cells of each data set; writes results/embedding.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from hidden_entries import HERE, circumstances, default_data
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

import scanpy_sct as sct

DATA_SETS = {
    "pbmc3k": ("dev/pbmc3k.h5ad", "cell_type"),
    "breast_wu": ("dev/breast_wu_CID4465.h5ad", "cell_type"),
    "heart CN73": ("dev/heart_dev_ST_CN73.h5ad", "region"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--model", default="sct-mini")
    parser.add_argument("--sources", nargs="+", default=["cell"], help="cell, transformer")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "embedding.csv")
    options = parser.parse_args()
    checkpoint = sct.load_model(options.model)
    rows = []
    for name, (file, key) in DATA_SETS.items():
        adata = ad.read_h5ad(options.data / file)
        for source in options.sources:
            sct.tl.embed(adata, model=checkpoint, source=source, key_added=f"sct {source}")
        adata.obsm["PCA-50 of 2,000 variable genes"] = pca(adata)
        keys = [*(f"sct {source}" for source in options.sources), "PCA-50 of 2,000 variable genes"]
        rows += [{"data_set": name, "embedding": each} | accuracy(adata, each, key) for each in keys]
    results = pd.DataFrame(rows).assign(model=checkpoint.name, weights=checkpoint.sha256, **circumstances())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print(results[["data_set", "embedding", "accuracy", "macro_f1", "majority"]].to_string(index=False))


def pca(adata: ad.AnnData) -> np.ndarray:
    cells = ad.AnnData(adata.X.copy(), obs=adata.obs[[]], var=adata.var[[]])
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=2000)
    cells = cells[:, cells.var["highly_variable"]].copy()
    sc.pp.scale(cells, max_value=10)
    sc.pp.pca(cells, n_comps=50, random_state=0)
    return cells.obsm["X_pca"]


def accuracy(adata: ad.AnnData, embedding: str, key: str) -> dict[str, float]:
    labels = adata.obs[key].astype(str).to_numpy()
    frequent = np.isin(labels, [label for label in np.unique(labels) if (labels == label).sum() >= 5])
    vectors, labels = adata.obsm[embedding][frequent], labels[frequent]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    named = cross_val_predict(KNeighborsClassifier(15), vectors, labels, cv=folds)
    return {
        "accuracy": accuracy_score(labels, named),
        "macro_f1": f1_score(labels, named, average="macro"),
        "majority": pd.Series(labels).value_counts(normalize=True).iloc[0],
    }


if __name__ == "__main__":
    main()
