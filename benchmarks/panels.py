"""Predict the genes that a targeted panel did not measure from matched cells, by `tl.impute(reference=)` and others.

    python benchmarks/panels.py                  # eight pairs of data and reference, results/panels.csv
    python benchmarks/panels.py --scale          # time and memory for 100,000 cells x 2,000 genes

A pair is 300 cells of which only a panel of 300 genes is kept (half markers, half variable genes, chosen on the
reference), and up to 2,500 cells of the reference; the targets are 1,500 genes that are detected in at least 5 % of
the cells. One pair has probe effects: counts of each gene are thinned by a factor of its own. `her2st <- breast_wu`
has a reference of another technology and disease, to see whether a method notices.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from common import HERE, as_markdown, circumstances, default_data, without_copies
from measure import forget_peak, memory
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

import scanpy_sct as sct

N_CELLS, N_REFERENCE, N_PANEL, N_TARGETS = 300, 2500, 300, 1500
MIN_RATE = 0.05
NO_LABEL = ("unlabelled", "undetermined")
PAIRS = {
    "breast_wu, same donor": ("dev/breast_wu_CID4465", None),
    "breast_wu, probe effects": ("dev/breast_wu_CID4465", None),
    "her2st <- her2st": ("dev/her2st_breast_heldout", "train/her2st_breast_train"),
    "her2st <- breast_wu": ("dev/her2st_breast_heldout", "dev/breast_wu_CID4465"),
    "heart CN73 <- CN74": ("dev/heart_dev_ST_CN73", "train/heart_dev_ST_CN74"),
    "pbmc3k <- sorted v1": ("dev/pbmc3k", "train/pbmc_facs_zheng"),
    "pbmc3k <- v2": ("dev/pbmc3k", "train/pbmc_1k_v2"),
    "pbmc3k <- 5'": ("dev/pbmc3k", "train/pbmc_5prime_1k"),
}


@dataclass(frozen=True)
class Pair:
    """A panel, what was measured beside it, and a reference."""

    panel: ad.AnnData
    truth: ad.AnnData
    totals: np.ndarray
    """Counts of each cell in all genes."""
    reference: ad.AnnData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), metavar="NAME")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--seeds", type=int, default=1, help="number of draws of cells, panels and targets")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "panels.csv")
    parser.add_argument("--scale", action="store_true", help="measure time and memory on many cells instead")
    options = parser.parse_args()
    sct.settings.progress = False
    if options.scale:
        print(measure_scale(options.data, options.model))
        return
    known = sct.load_model(options.model).genes
    table = pd.concat(
        measured(name, make_pair(name, options.data, known, seed), options.model).assign(seed=seed)
        for name in options.pairs
        for seed in range(options.seeds)
    )
    weights = np.where(table["method"].str.startswith("sct"), sct.load_model(options.model).sha256, "")
    table.assign(weights=weights, **circumstances()).to_csv(options.output, index=False)
    for metric, part in table.groupby("metric", sort=False):
        wide = part.pivot_table(index="method", columns="pair", values="value", sort=False)
        print(as_markdown(wide.assign(mean=wide.mean(axis=1)), metric, "max"), end="\n\n")


def make_pair(name: str, data: Path, known: np.ndarray, seed: int) -> Pair:
    """Draw cells, panel and targets, which are genes that the model knows."""
    of_cells, of_reference = PAIRS[name]
    cells = read(data / f"{of_cells}.h5ad")
    if of_reference is None:
        order = np.random.default_rng(seed).permutation(cells.n_obs)
        cells, reference = cells[order[: len(order) // 2]].copy(), cells[order[len(order) // 2 :]].copy()
    else:
        reference = read(data / f"{of_reference}.h5ad")
    if "probe effects" in name:
        rng = np.random.default_rng([seed, 1])
        efficiency = np.minimum(1, np.exp(rng.normal(-0.5, 0.7, cells.n_vars)))
        cells.X.data = rng.binomial(cells.X.data.astype(int), efficiency[cells.X.indices]).astype(np.float32)
        cells.X.eliminate_zeros()
    cells, reference = draw(cells, N_CELLS, [seed, 2]), draw(reference, N_REFERENCE, [seed, 3])
    shared = cells.var_names.intersection(reference.var_names)
    panel = choose_panel(reference[:, shared].copy(), seed)
    rate = pd.Series(cells[:, shared].X.getnnz(axis=0) / cells.n_obs, shared)
    targets = rate.index[(rate >= MIN_RATE) & rate.index.isin(known)].difference(panel, sort=False)
    targets = np.random.default_rng([seed, 4]).permutation(targets.to_numpy(dtype=object))[:N_TARGETS]
    cells = cells[cells[:, panel].X.sum(axis=1).A1 > 0].copy()
    return Pair(cells[:, panel].copy(), cells[:, targets].copy(), cells.X.sum(axis=1).A1, reference)


def read(path: Path) -> ad.AnnData:
    """Read the protein-coding genes of a file of counts."""
    adata = without_copies(ad.read_h5ad(path))
    adata = adata[:, adata.var["protein_coding"].to_numpy(dtype=bool)].copy()
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    return adata


def draw(adata: ad.AnnData, number: int, seed: list[int]) -> ad.AnnData:
    return adata[np.sort(np.random.default_rng(seed).permutation(adata.n_obs)[:number])].copy()


def choose_panel(reference: ad.AnnData, seed: int) -> list[str]:
    """Choose markers of the labels (of clusters, where there are none), then the most variable genes."""
    cells = reference[reference.X.sum(axis=1).A1 > 0, reference.X.getnnz(axis=0) >= 0.02 * reference.n_obs].copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    table = sc.pp.highly_variable_genes(cells, n_top_genes=min(2000, cells.n_vars), inplace=False)
    variable = cells.var_names[np.argsort(-table["dispersions_norm"].to_numpy(), kind="stable")]
    labels = next((cells.obs[name].astype(str) for name in ("cell_type", "region") if name in cells.obs), None)
    if labels is None or (~labels.isin(NO_LABEL)).sum() < 200:
        sc.pp.pca(cells, n_comps=30, random_state=seed)
        found = KMeans(10, n_init=3, random_state=seed).fit_predict(cells.obsm["X_pca"])
        labels = pd.Series(found.astype(str), cells.obs_names)
    numbers = labels[~labels.isin(NO_LABEL)].value_counts()
    labelled = cells[labels.isin(numbers.index[numbers >= 10])].copy()
    labelled.obs["label"] = labels[labelled.obs_names].astype("category")
    sc.tl.rank_genes_groups(labelled, "label", method="t-test", n_genes=60)
    ranked = pd.DataFrame(labelled.uns["rank_genes_groups"]["names"]).to_numpy().ravel()
    markers = list(dict.fromkeys(ranked))[: N_PANEL // 2]
    return [*markers, *[name for name in variable if name not in set(markers)][: N_PANEL - len(markers)]]


def measured(name: str, pair: Pair, model: str) -> pd.DataFrame:
    """Measure all methods on a pair."""
    measured_values = np.log1p(pair.truth.X.toarray())
    normalised = np.log1p(sparse.diags(1e4 / pair.totals) @ pair.truth.X).toarray()
    rows = []
    for method, function in METHODS.items():
        values, log_normalised, trust = function(pair, model)
        metrics = {
            "average precision, all entries": average_precision_score(measured_values.ravel() > 0, values.ravel()),
            "average precision, mean over genes": np.mean(
                [average_precision_score(*each) for each in zip(measured_values.T > 0, values.T, strict=True)]
            ),
            "gene Pearson, log counts": np.nanmean(correlation(values, measured_values)),
            "gene Pearson, log-normalised": np.nanmean(correlation(log_normalised, normalised)),
        }
        if trust is not None:
            true = correlation(values, measured_values)
            usable = ~np.isnan(true)
            metrics["trust: rank correlation with the true correlation"] = spearmanr(trust[usable], true[usable])[0]
            metrics["trust: mean absolute error"] = np.abs(trust - true)[usable].mean()
        rows += [{"pair": name, "method": method, "metric": key, "value": value} for key, value in metrics.items()]
        print(name, method, {key: round(float(value), 3) for key, value in metrics.items()}, flush=True)
    return pd.DataFrame(rows)


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column; NaN for constant ones."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide((first * second).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 1e-9)


Answer = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Values that rank as counts do, log-normalised values, and trust: of each target."""


def by_impute(pair: Pair, model: str, *, with_reference: bool) -> Answer:
    genes, found, trust = list(pair.truth.var_names), [], None
    for values in ("auto", "lognorm"):
        adata = pair.panel.copy()
        sct.tl.impute(adata, genes, model=model, reference=pair.reference if with_reference else None, values=values)
        found.append(adata.obsm["sct_unmeasured"][genes].to_numpy())
        if with_reference and values == "auto":
            trust = adata.uns["sct"]["unmeasured"].loc[genes, "trust"].to_numpy()
    return found[0], found[1], trust


@dataclass(frozen=True)
class _Shared:
    """The shared genes of panel and reference in 30 principal components of the reference."""

    of_panel: np.ndarray
    of_reference: np.ndarray
    totals: np.ndarray
    reference_totals: np.ndarray
    targets: sparse.csr_matrix

    @classmethod
    def of(cls, pair: Pair) -> _Shared:
        kept = pair.reference[:, pair.panel.var_names].X
        used = kept.sum(axis=1).A1 > 0
        kept, totals, usual = kept[used], kept[used].sum(axis=1).A1, np.median(pair.panel.X.sum(axis=1).A1)
        own = pair.panel.X.sum(axis=1).A1
        both = (totals, kept), (own, pair.panel.X)
        normalised = [np.log1p(sparse.diags(usual / depth) @ counts).toarray() for depth, counts in both]
        pca = PCA(30, svd_solver="arpack", random_state=0).fit(normalised[0])
        targets = pair.reference[:, pair.truth.var_names].X[used]
        return cls(pca.transform(normalised[1]), pca.transform(normalised[0]), own, totals, targets)


def by_rate(pair: Pair, model: str) -> Answer:
    shared = _Shared.of(pair)
    rate = shared.targets.sum(axis=0).A1 / shared.reference_totals.sum()
    values = np.log1p(rate * shared.totals[:, None])
    return values, values, None


def by_neighbors(pair: Pair, model: str) -> Answer:
    """Means over the 50 nearest reference cells, at the depth of the cell."""
    shared = _Shared.of(pair)
    near = NearestNeighbors(n_neighbors=50).fit(shared.of_reference).kneighbors_graph(shared.of_panel)
    rate = (near @ shared.targets).toarray() / (near @ shared.reference_totals)[:, None]
    return np.log1p(rate * shared.totals[:, None]), np.log1p(1e4 * rate), None


def by_ridge(pair: Pair, model: str) -> Answer:
    """Ridge regression of counts (of log-normalised values) on 30 components and, for counts, the depth of the cell."""
    shared = _Shared.of(pair)
    usual = np.log(shared.reference_totals).mean()
    features = [
        np.column_stack([scores, np.log(totals) - usual])
        for scores, totals in ((shared.of_reference, shared.reference_totals), (shared.of_panel, shared.totals))
    ]
    values = Ridge(100.0).fit(features[0], np.log1p(shared.targets.toarray())).predict(features[1])
    whole = pair.reference[:, pair.panel.var_names].X.sum(axis=1).A1 > 0
    totals = pair.reference.X.sum(axis=1).A1[whole]
    normalised = np.log1p(sparse.diags(1e4 / totals) @ shared.targets).toarray()
    return values, Ridge(100.0).fit(shared.of_reference, normalised).predict(shared.of_panel), None


METHODS: dict[str, Callable[[Pair, str], Answer]] = {
    "reference rate": by_rate,
    "50 nearest neighbours": by_neighbors,
    "ridge regression": by_ridge,
    "sct, without reference": lambda pair, model: by_impute(pair, model, with_reference=False),
    "sct": lambda pair, model: by_impute(pair, model, with_reference=True),
}


def measure_scale(data: Path, model: str) -> dict[str, float]:
    """Time and peak memory for 100,000 cells of a panel x 2,000 genes against 20,000 reference cells."""
    pool = read(data / "train/her2st_breast_train.h5ad")
    rng = np.random.default_rng(0)
    panel, n_cells = choose_panel(draw(pool, N_REFERENCE, [0]), 0), 100_000
    others = [name for name in pool.var_names[np.argsort(-pool.X.getnnz(axis=0))] if name not in set(panel)][:2000]
    cells = pool[rng.integers(0, pool.n_obs, n_cells), panel].copy()
    cells.obs_names_make_unique()
    reference = pool[rng.integers(0, pool.n_obs, 20_000)].copy()
    reference.obs_names_make_unique()
    for adata in (cells, reference):
        adata.X.data = rng.binomial(adata.X.data.astype(int), 0.9).astype(np.float32)
        adata.X.eliminate_zeros()
    cells = cells[cells.X.sum(axis=1).A1 > 0].copy()
    sct.tl.impute(cells[:60].copy(), others[:5], model=model, reference=reference[:200].copy())
    before = memory("VmRSS")
    forget_peak()
    start, cpu = time.perf_counter(), time.process_time()
    sct.tl.impute(cells, others, model=model, reference=reference)
    return {
        "cells": cells.n_obs,
        "genes": len(others),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "mib_before": round(before),
        "peak_mib": round(memory("VmHWM")),
        "result_mib": round(cells.obsm["sct_unmeasured"].memory_usage(index=False).sum() / 2**20),
    }


if __name__ == "__main__":
    main()
