"""Name cells whose names are known: from a reference of other studies, from half of the same data set, from markers.

    python benchmarks/annotation.py

prints a table and writes results/annotation.csv. All methods see the same cells; each cell counts with its most
probable name, and only cells whose type the method could know are counted. The rows "expression only" and "expression
+ embedding" show what `sct.tl.annotate` does without and with the cell embedding; "sct.tl.annotate" is what users get.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split

import scanpy_sct as sct
from scanpy_sct.tl import _name_sources

HERE = Path(__file__).resolve().parent
SORTED_BLOOD = ("pbmc_facs_zheng", "pbmc_sorted_14k", "pbmc_sorted_mudan", "pbmc_sorted_zheng500")
# One language for sorted cells and for the clusters of pbmc3k. Sorting does not separate naive from memory cells the
# way clustering does, so these are joined; FCGR3A+ monocytes are monocytes. DC and platelets were never sorted.
COMMON_NAMES = {
    "CD19+ B": "B",
    "CD34+": "CD34+",
    "CD56+ NK": "NK",
    "CD8+ Cytotoxic T": "CD8 T",
    "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T",
    "CD4+ T Helper": "CD4 T",
    "CD4+/CD45RO+ Memory": "CD4 T",
    "CD4+/CD25 T Reg": "CD4 T",
    "CD4+/CD45RA+/CD25- Naive T": "CD4 T",
    "CD14+ Monocyte": "Monocyte",
    "Naive CD4 T": "CD4 T",
    "Memory CD4 T": "CD4 T",
    "CD14+ Mono": "Monocyte",
    "FCGR3A+ Mono": "Monocyte",
}
MARKERS = {
    "T": ["CD3D", "CD3E", "CD3G", "TRAC", "IL7R"],
    "B": ["CD79A", "CD79B", "MS4A1", "CD19"],
    "NK": ["NKG7", "GNLY", "KLRD1", "KLRF1", "NCAM1"],
    "Monocyte": ["LYZ", "CD14", "FCGR3A", "S100A8", "MS4A7"],
    "DC": ["FCER1A", "CLEC10A", "CD1C"],
    "Platelet": ["PPBP", "PF4", "GNG11"],
}
MARKER_NAMES = {"CD4 T": "T", "CD8 T": "T"}
# Beyond this difference between reference and query annotate leaves the embedding out; see there.
VARIANTS = {"sct.tl.annotate": None, "expression only": -1.0, "expression + embedding": 2.0}


def main() -> None:
    options = parse()
    checkpoint = sct.load_model(options.model)
    reference, query = blood(options.data)
    rows = []
    for labels_key in ("name", "cell_type"):
        rows += by_reference(f"sorted blood -> pbmc3k ({labels_key})", reference, query, labels_key, checkpoint)
    breast = ad.read_h5ad(options.data / "dev" / "breast_wu_CID4465.h5ad")
    breast.obs["name"] = breast.obs["cell_type"].astype(str)
    for seed in range(options.seeds):
        known, rest = train_test_split(
            np.arange(breast.n_obs), test_size=0.5, stratify=breast.obs["name"], random_state=seed
        )
        rows += by_reference("breast, half -> half", breast[known].copy(), breast[rest].copy(), "name", checkpoint)
    rows += by_markers(query, checkpoint, options.marker_cells)
    table = pd.DataFrame(rows).groupby(["task", "method"], sort=False).mean().round(4).reset_index()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    table.assign(model=checkpoint.name, weights=checkpoint.sha256).to_csv(options.output, index=False)
    print(table.to_string(index=False))
    print(f"Written to {options.output}")


def parse() -> argparse.Namespace:
    default_data = os.environ.get("SCANPY_SCT_DATA_DIR") or HERE.parents[1] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data, help="folder with train/ and dev/ (%(default)s)")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--seeds", type=int, default=3, help="splits of the breast data")
    parser.add_argument("--marker-cells", type=int, default=1000, help="cells of pbmc3k to name by markers")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "annotation.csv")
    return parser.parse_args()


def blood(data: Path) -> tuple[ad.AnnData, ad.AnnData]:
    """Four sets of sorted cells, and pbmc3k, with common names in `.obs["name"]` ("DC" and "Platelet" as they are)."""
    sets = {name: ad.read_h5ad(data / "train" / f"{name}.h5ad") for name in SORTED_BLOOD}
    reference = ad.concat(sets, index_unique="-")
    query = ad.read_h5ad(data / "dev" / "pbmc3k.h5ad")
    for cells in (reference, query):
        cells.obs["name"] = common(cells.obs["cell_type"])
    return reference, query


def common(labels: pd.Series) -> np.ndarray:
    return labels.astype(str).map(lambda name: COMMON_NAMES.get(name, name)).to_numpy()


def by_reference(
    task: str, reference: ad.AnnData, query: ad.AnnData, labels_key: str, checkpoint: sct.checkpoints.Checkpoint
) -> list[dict[str, object]]:
    """Rows of the table for one pair of reference and query; finer labels are joined before they are judged."""
    methods: dict[str, Callable[[], pd.DataFrame]] = {
        "PCA-50 + logistic regression": lambda: plain(reference, query, labels_key),
        "the same, 2000 variable genes": lambda: plain(reference, query, labels_key, n_variable=2000),
    }
    for name, difference in VARIANTS.items():
        methods[name] = lambda difference=difference: annotated(query, difference, checkpoint, reference, labels_key)
    return [{"task": task, "method": name} | judged(query, method) for name, method in methods.items()]


def annotated(query, difference, model, reference, labels_key) -> pd.DataFrame:
    difference = _name_sources.MAX_DIFFERENCE if difference is None else difference
    with mock.patch.object(_name_sources, "MAX_DIFFERENCE", difference):
        named = sct.tl.annotate(query, reference=reference, labels_key=labels_key, model=model, copy=True)
    return named.obsm["sct_label_probs"]


def plain(reference: ad.AnnData, query: ad.AnnData, labels_key: str, n_variable: int | None = None) -> pd.DataFrame:
    """Do what a user of scanpy would try first: log-normalise, 50 principal components, logistic regression."""
    shared = reference.var_names.intersection(query.var_names)
    reference, query = reference[:, shared].copy(), query[:, shared].copy()
    for cells in (reference, query):
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    if n_variable is not None:
        sc.pp.highly_variable_genes(reference, n_top_genes=n_variable)
        chosen = reference.var["highly_variable"].to_numpy()
        reference, query = reference[:, chosen], query[:, chosen]
    pca = PCA(50, svd_solver="arpack", random_state=0).fit(reference.X)
    model = LogisticRegression(max_iter=1000).fit(pca.transform(reference.X), reference.obs[labels_key].astype(str))
    return pd.DataFrame(model.predict_proba(pca.transform(query.X)), columns=model.classes_)


def by_markers(query: ad.AnnData, checkpoint: sct.checkpoints.Checkpoint, n_cells: int) -> list[dict[str, object]]:
    """Names from markers on what the network predicts, and on what was measured."""
    query = query[np.random.default_rng(0).permutation(query.n_obs)[:n_cells]].copy()
    query.obs["name"] = query.obs["name"].replace(MARKER_NAMES)

    def measured() -> pd.DataFrame:
        normalised = query.copy()
        normalised.var_names = normalised.var["gene_symbol"].astype(str)
        normalised.var_names_make_unique()
        sc.pp.normalize_total(normalised, target_sum=1e4)
        sc.pp.log1p(normalised)
        for name, genes in MARKERS.items():
            sc.tl.score_genes(normalised, [gene for gene in genes if gene in normalised.var_names], score_name=name)
        return normalised.obs[list(MARKERS)]

    def predicted() -> pd.DataFrame:
        return sct.tl.annotate(query, markers=MARKERS, model=checkpoint, copy=True).obsm["sct_label_probs"]

    methods = {"sct.tl.annotate": predicted, "scanpy.tl.score_genes": measured}
    rows = [{"task": "markers, pbmc3k", "method": name} | judged(query, method) for name, method in methods.items()]
    del rows[1]["ece"]  # its scores are no probabilities
    return rows


def judged(query: ad.AnnData, method: Callable[[], pd.DataFrame]) -> dict[str, float]:
    """Accuracy, macro F1 and expected calibration error over cells whose type could be known."""
    started = time.perf_counter()
    table = method()
    seconds = time.perf_counter() - started
    table = table.T.groupby(common(table.columns.to_series().str.replace("|", "/"))).sum().T
    truth, best = query.obs["name"].astype(str).to_numpy(), table.idxmax(axis=1).to_numpy()
    score = table.max(axis=1).to_numpy()
    known = np.isin(truth, table.columns)
    return {
        "accuracy": accuracy_score(truth[known], best[known]),
        "macro_f1": f1_score(truth[known], best[known], labels=np.unique(truth[known]), average="macro"),
        "ece": calibration_error(score[known], truth[known] == best[known]),
        "unknown": (score[known] < 0.5).mean(),
        "unknown_of_new_types": (score[~known] < 0.5).mean() if (~known).any() else np.nan,
        "seconds": seconds,
    }


def calibration_error(score: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    """Mean distance of score and accuracy over bins of equal width, weighted by cells."""
    bins = pd.Series(np.clip(score * n_bins, 0, n_bins - 1).astype(int))
    groups = pd.DataFrame({"score": score, "right": right}).groupby(bins)
    return float((groups.size() * (groups["score"].mean() - groups["right"].mean()).abs()).sum() / len(score))


if __name__ == "__main__":
    main()
