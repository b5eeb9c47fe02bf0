"""Set entries to zero as dropouts do, and measure how well imputed values recover what was there.

    python benchmarks/dropouts.py

sets 15 % of all entries, detected or not, to zero and tells no method which. Their values are then compared with
`log1p` of counts per 10,000 of the data as they were: Pearson correlation within each gene over the changed entries,
mean over genes that are detected in at least ten of them. Writes results/dropouts.csv.

The measure is confounded by depth. In a shallow cell a single count is worth more, so a detected gene has a high value
there and an undetected one is likelier: the method `depth`, which knows the mean rate of each gene and the depth of
each cell and nothing else, measures how much of a correlation this is. So all is measured a second time at one common
depth: cells with fewer counts than the lower quartile are left out, and the others are sampled down to it.

`sct` is `tl.impute(values="lognorm")` from counts, `sct_auto` the same with `values="auto"`; `nearest` is the mean of
the 15 nearest cells in 50 principal components.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
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
from imputation import MODEL_CODE
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.evaluate.masking import mask_entries
from scanpy_sct.evaluate.metrics.correlation import mean_pearson, often_detected, pearson_sums
from scanpy_sct.sparse_tools import log_normalise

DATA_SETS = ("pbmc3k", "her2st H1", "heart CN73", "breast_wu")
DEPTHS = ("as it is", "one depth")
FRACTION = 0.15
N_NEIGHBORS = 15
N_COMPONENTS = 50
PER = 10_000

Method = Callable[[ad.AnnData, Checkpoint], np.ndarray]
"""From counts to values of all entries, (cells, genes)."""


def by_depth(adata: ad.AnnData, checkpoint: Checkpoint) -> np.ndarray:
    """Probability of a count in a cell of this depth, times the value of the expected one, for Poisson counts."""
    depth = np.asarray(adata.X.sum(axis=1, dtype=np.float64))
    rate = np.asarray(adata.X.sum(axis=0, dtype=np.float64)) / depth.sum()
    detected = np.maximum(-np.expm1(-depth * rate), 1e-12)
    return (detected * np.log1p(PER * rate / detected)).astype(np.float32)


def by_nearest(adata: ad.AnnData, checkpoint: Checkpoint) -> np.ndarray:
    values = log_normalise(adata.X)
    scores = PCA(N_COMPONENTS, svd_solver="arpack", random_state=0).fit_transform(values)
    graph = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(scores).kneighbors_graph()
    return (graph @ values / N_NEIGHBORS).toarray()


def by_sct(kind: str, adata: ad.AnnData, checkpoint: Checkpoint) -> np.ndarray:
    library_key = SAMPLE_KEY if SAMPLE_KEY in adata.obs else None
    found = sct.tl.impute(adata, values=kind, model=checkpoint, library_key=library_key, copy=True)
    return np.asarray(found.layers["sct"], dtype=np.float32)


METHODS: dict[str, Method] = {
    "depth": by_depth,
    "nearest": by_nearest,
    "sct": partial(by_sct, "lognorm"),
    "sct_auto": partial(by_sct, "auto"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "dropouts.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    checkpoint = sct.load_model(options.model)
    table = pd.concat(
        result(name, depth, method, checkpoint, options.data)
        for depth in DEPTHS
        for name in options.data_sets
        for method in options.methods
    )
    table.to_csv(options.output, index=False)
    for depth in DEPTHS:
        wide = table[table["depth"] == depth].pivot_table(
            index="method", columns="data_set", values="value", sort=False
        )
        print(as_markdown(wide, f"gene Pearson, {depth}"), end="\n\n")


def result(name: str, depth: str, method: str, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    """Measure one method, or find it in the cache."""
    is_model = method.startswith("sct")
    depends_on = {
        "data": hash_of_data(name, data),
        "depth": depth,
        "method": method,
        "genes": "".join(checkpoint.genes),
        "weights": checkpoint.sha256 if is_model else "",
        "code": hash_of_code(Path(__file__), "evaluate/masking.py", *(MODEL_CODE if is_model else ())),
    }
    compute = partial(measured, name, depth, method, checkpoint, data)
    return cached(f"dropouts-{name}-{depth}-{method}".replace(" ", "_"), depends_on, compute, False)


def measured(name: str, depth: str, method: str, checkpoint: Checkpoint, data: Path) -> pd.DataFrame:
    adata = of_known_genes(read(name, data), checkpoint)
    if depth == "one depth":
        adata = at_one_depth(adata)
    truth = log_normalise(adata.X).toarray()
    dropped = mask_entries(*adata.shape, FRACTION)
    adata.X = sparse.csr_matrix(np.where(dropped, 0, adata.X.toarray()))
    found = METHODS[method](adata, checkpoint)
    gene = dropped.nonzero()[1]
    value = correlation(truth[dropped], found[dropped], gene)
    row = {"data_set": name, "depth": depth, "method": method, "metric": "gene_pearson", "value": value}
    return pd.DataFrame([{**row, "weights": checkpoint.sha256, **circumstances()}])


def of_known_genes(adata: ad.AnnData, checkpoint: Checkpoint) -> ad.AnnData:
    """Return the cells with the genes that the model knows, which are those that it imputes."""
    adata = adata[:, np.isin(adata.var_names, checkpoint.genes)]
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def at_one_depth(adata: ad.AnnData) -> ad.AnnData:
    """Leave out the shallowest quarter of the cells, and sample the others down to the shallowest that is left."""
    depths = np.asarray(adata.X.sum(axis=1)).ravel()
    depth = int(np.quantile(depths, 0.25))
    adata = adata[depths >= depth].copy()
    sc.pp.downsample_counts(adata, counts_per_cell=depth, random_state=0)
    return adata


def correlation(truth: np.ndarray, found: np.ndarray, gene: np.ndarray) -> float:
    """Mean over genes of the correlation between entries."""
    kept, unit, genes = often_detected(truth, gene)
    sums = pearson_sums(truth[kept], found[kept], unit, len(genes), np.zeros_like(unit), 1)
    return float(mean_pearson(sums)[0])


if __name__ == "__main__":
    main()
