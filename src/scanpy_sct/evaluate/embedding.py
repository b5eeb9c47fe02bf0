"""Compare embeddings of the same cells."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.evaluate._arguments import check_number, read_column
from scanpy_sct.evaluate._embedding_metrics import METRICS, N_FOLDS, N_SPATIAL_NEIGHBORS, Cells
from scanpy_sct.evaluate._embeddings import choose_vectors
from scanpy_sct.read.samples import read_coordinates, read_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

_COLUMNS = ["method", "metric", "value", "lower", "upper", "n_cells"]
_INSTALL = '`pip install "scanpy_sct[evaluate]"`'
# What a metric may need, and what a user can do about it.
_NEEDS = {
    "labels": "name the column of adata.obs with labels with `labels_key=`",
    "batches": "name the column of adata.obs with batches with `batch_key=`",
    "spatial": f"put the place of each cell in adata.obsm['spatial'] (samples of over {N_SPATIAL_NEIGHBORS} cells)",
    "regions": "give labels of which a sample holds at least two, as sections are compared by themselves",
    "scib_metrics": f"install scib-metrics: {_INSTALL}",
}


def embedding(
    adata: AnnData,
    *,
    labels_key: str | None = None,
    batch_key: str | None = None,
    methods: str | Callable[[AnnData], np.ndarray] | Iterable[str | Callable[[AnnData], np.ndarray]] = (
        "sct",
        "pca",
        "pca_unscaled",
    ),
    metrics: str | Iterable[str] = "all",
    model: str | PathLike[str] | Checkpoint | None = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    n_clusters: int | None = None,
    n_bootstrap: int = 200,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Measure what embeddings say of labels, batches and the tissue, side by side.

    Parameters
    ----------
    adata
        Counts or log-normalised values; never changed.
    labels_key
        Column of `.obs` with cell types or regions. A cell without a label (NaN), or with a label that fewer than five
        cells have, takes part in no metric of labels.
    batch_key
        Column of `.obs` with batches, to see how well these mix.
    methods
        Any of

        - `sct`: what :func:`scanpy_sct.tl.embed` computes by default; `sct_transformer`: the same with
          `source="transformer"`, for networks with convolutions;
        - `pca`: 50 principal components of the 2,000 most variable genes of these very cells, log-normalised and scaled
          to unit variance; `pca_unscaled`: 20 components of the same genes, not scaled, often the stronger one;
        - `scvi`: scVI fitted to these cells, told of the batches (needs counts and the package scvi-tools);
        - the name of an entry of `.obsm`;
        - a function that takes an AnnData (it gets a copy) and returns an array with one row a cell.
    metrics
        Names from the table below, or "all": whatever the data, the keys and the installed packages allow.
    model
        The model to test, as in :func:`scanpy_sct.load_model`.
    layer
        Layer to read; None: `.X`.
    library_key
        Column of `.obs` with samples: cells of different ones share no bag, and are not neighbours on the tissue.
    gene_names
        Column of `.var` with gene names; None: `.var_names`.
    n_clusters
        Number of domains to look for in each sample of spatial data; None: as many as it has labels, eight without.
    n_bootstrap
        Resamplings for intervals; 0: none.
    rng
        Seed or generator. All methods are judged on the same folds and the same resamplings.

    Returns
    -------
    One row for each method and metric, with the columns `method`, `metric`, `value`, `lower` and `upper` (95 %
    bootstrap interval over cells; NaN for all but the first two metrics: clusters and neighbour graphs of a resampling,
    which holds the same cells several times, are not those of other cells) and `n_cells`, the number of cells behind
    the value. More is better unless it says otherwise.

    ========================= =========================================================================================
    metric                    meaning
    ========================= =========================================================================================
    knn_accuracy              share of the labels that the 15 nearest neighbours name rightly, in five folds
    knn_macro_f1              F1 of the same, mean over labels
    majority_accuracy         what naming all cells by the most frequent label scores: the mark to beat
    kmeans_nmi, kmeans_ari    agreement of labels with as many k-means clusters
    silhouette_label *        labels are compact and apart (0.5: neither)
    leiden_nmi, leiden_ari *  agreement of labels with Leiden clusters, at the resolution that fits the labels best
    graph_connectivity *      cells of a label hang together in the graph of 15 neighbours
    isolated_labels *         silhouette of the labels that the fewest batches have
    bras *                    batches mix within labels (Rautenstrauch and Ohler 2025)
    ilisi *                   batches mix in neighbourhoods (Korsunsky et al. 2019)
    kbet *                    share of the neighbourhoods of 50 cells whose batches are those of all cells (Büttner et
                              al. 2019), whatever the labels: batches that differ in composition are to fail it
    domain_nmi, domain_ari    agreement of annotated regions with as many k-means clusters, sample by sample; samples
                              with one region only have no part in it
    domain_pas                share of the cells at odds with most of their ten neighbours on the tissue; less is better
    domain_chaos              distance to the nearest cell of the same cluster, in median distances; less is better
    domain_neighbors          share of the ten neighbours on the tissue that are in the same cluster
    domain_neighbors_chance   the same if clusters were dealt out by chance: compare with this
    ========================= =========================================================================================

    Metrics with a star are those of scib-metrics, after Luecken et al. 2022 (Nature Methods 19, 41).

    Raises
    ------
    ValueError, TypeError, KeyError
        An argument or the object cannot be used; before anything is computed.
    ImportError
        A method or metric is asked for by name whose package is not installed.

    Notes
    -----
    Labels were often made by clustering a PCA of the very same cells, which favours PCA. PCA and scVI are fitted
    to the data at hand and see all of its genes; `sct` is not fitted, and sees the genes that the model knows. That
    domains hang together is no merit by itself (one domain everywhere would): read it beside `domain_ari`. Cells of one
    tissue are not independent, so that intervals are too narrow for what another donor would give.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.evaluate.embedding(adata, labels_key="bulk_labels", metrics=["knn_accuracy", "kmeans_ari"])
    """
    from scanpy_sct.tl._common import as_seed

    seed = as_seed(rng)
    check_number("n_bootstrap", n_bootstrap)
    if n_clusters is not None:
        check_number("n_clusters", n_clusters, 2)
    cells = Cells(
        labels=_read_labels(adata, labels_key),
        batches=_read_batches(adata, batch_key),
        samples=read_samples(adata, library_key)[0],
        coordinates=read_coordinates(adata),
        n_clusters=n_clusters,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    wanted = _choose_metrics(metrics, cells)
    names = {"layer": layer, "library_key": library_key, "gene_names": gene_names}
    makers = choose_vectors(adata, methods, model=model, batches=cells.batches, seed=seed, **names)
    rows = []
    for method, make in makers.items():
        logger.info("Embedding %d cells by %s.", adata.n_obs, method)
        rows += [{"method": method, **row} for row in _score(cells, make(), wanted)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _score(cells: Cells, vectors: np.ndarray, wanted: list[str]) -> list[dict[str, str | float]]:
    """All metrics of one embedding; those that are computed together are computed once."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    scores = {}
    for scorer in dict.fromkeys(METRICS[name][0] for name in wanted):
        scores |= scorer(cells, vectors, {name for name in wanted if METRICS[name][0] is scorer})
    return [{"metric": name, **scores[name]._asdict()} for name in wanted]


def _choose_metrics(metrics: str | Iterable[str], cells: Cells) -> list[str]:
    """Find the metrics that can be computed, in the order of `METRICS`; refuse those that were named and cannot."""
    is_spatial = cells.coordinates is not None and len(cells.sections) > 0
    available = {
        "labels": cells.labels is not None,
        "batches": cells.batches is not None,
        "spatial": is_spatial,
        # Asked for only where there are labels and sections: without these, they are what is missing.
        "regions": cells.labels is None or not is_spatial or len(cells.regions) > 0,
        "scib_metrics": find_spec("scib_metrics") is not None,
    }
    lacks = {
        name: [need for need in _NEEDS if need in needs and not available[need]] for name, (_, needs) in METRICS.items()
    }
    if isinstance(metrics, str) and metrics == "all":
        return _all_metrics(lacks)
    named = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in named if name not in METRICS]
    if unknown or not named:
        msg = f"`metrics` must be 'all' or some of {', '.join(METRICS)}; found {unknown or 'none'}."
        raise ValueError(msg)
    for name in named:
        if lacks[name]:
            msg = f"Metric {name!r} of `metrics` lacks {' and '.join(lacks[name])}: "
            msg += "; ".join(_NEEDS[need] for need in lacks[name]) + "; or leave it out."
            raise (ImportError if lacks[name] == ["scib_metrics"] else ValueError)(msg)
    return [name for name in METRICS if name in named]


def _all_metrics(lacks: dict[str, list[str]]) -> list[str]:
    """Keep the metrics that lack nothing, and say which an optional package would add."""
    found = [name for name, lacking in lacks.items() if not lacking]
    without_package = [name for name, lacking in lacks.items() if lacking == ["scib_metrics"]]
    if without_package:
        logger.info("Left out, as scib-metrics is not installed (%s): %s.", _INSTALL, ", ".join(without_package))
    if not found:
        ways_out = "; or ".join(_NEEDS[need] for need in ("labels", "batches", "spatial"))
        msg = f"`metrics`: there is nothing to hold embeddings against: {ways_out}."
        if without_package:
            msg = f"`metrics`: {', '.join(without_package)} could be computed if you {_NEEDS['scib_metrics']}."
        raise (ImportError if without_package else ValueError)(msg)
    return found


def _read_labels(adata: AnnData, key: str | None) -> np.ndarray | None:
    """Give each label a number, -1 for none, (n_cells,)."""
    if key is None:
        return None
    names = _column(adata, key, "labels_key")
    frequent = names.value_counts().loc[lambda sizes: sizes >= N_FOLDS].index
    if len(frequent) < 2:
        sizes = names.value_counts().head(3).to_dict()
        msg = (
            f"labels_key={key!r} must name a column with at least two labels of {N_FOLDS} cells each; the most "
            f"frequent are {sizes}. Name another column of adata.obs."
        )
        raise ValueError(msg)
    n_rare = int(names.notna().sum() - names.isin(frequent).sum())
    if n_rare:
        logger.info("%d cells whose label fewer than %d cells have count as unlabelled.", n_rare, N_FOLDS)
    return pd.Categorical(names.where(names.isin(frequent)), categories=sorted(frequent)).codes.astype(np.int64)


def _read_batches(adata: AnnData, key: str | None) -> np.ndarray | None:
    """Give each batch a number, (n_cells,)."""
    if key is None:
        return None
    names = _column(adata, key, "batch_key")
    n_missing = int(names.isna().sum())
    if n_missing or names.nunique() < 2:
        found = f"is missing for {n_missing} of {adata.n_obs} cells" if n_missing else "holds one batch only"
        way_out = "Name the batch of every cell, or leave these cells out" if n_missing else "Leave `batch_key` out"
        msg = f"adata.obs[{key!r}] (batch_key) {found}. {way_out}."
        raise ValueError(msg)
    return pd.Categorical(names).codes.astype(np.int64)


def _column(adata: AnnData, key: str, argument: str) -> pd.Series:
    """Read a column of names; what is missing stays missing."""
    values = read_column(adata.obs, key, argument, "adata.obs").astype(object)
    return values.where(values.isna(), values.astype(str))
