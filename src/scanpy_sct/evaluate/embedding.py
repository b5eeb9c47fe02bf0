"""Compare embeddings of the same cells."""

from __future__ import annotations

import logging
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.evaluate._arguments import check_number, read_strings
from scanpy_sct.evaluate.embedding_methods import EmbeddingInput, check_vectors, stored_embeddings
from scanpy_sct.evaluate.embedding_metrics import N_FOLDS, Cells
from scanpy_sct.evaluate.registry import NEEDS, choose, registered
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.coordinates import read_coordinates
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.samples import read_samples
from scanpy_sct.run.options import as_seed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.evaluate.registry import Function, Method

logger = logging.getLogger(__name__)

_COLUMNS = ["method", "metric", "value", "lower", "upper", "n_cells"]


def embedding(
    adata: AnnData,
    *,
    labels_key: str | None = None,
    batch_key: str | None = None,
    methods: str | Function | Iterable[str | Function] = ("sct", "pca", "pca_unscaled"),
    metrics: str | Iterable[str] = "all",
    model: str | PathLike[str] | Checkpoint | None = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    n_clusters: int | None = None,
    n_bootstrap: int = 200,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Measure how well embeddings separate labels, mix batches and follow the tissue, side by side.

    Parameters
    ----------
    adata
        Counts or log-normalised values; never changed.
    labels_key
        Column of `.obs` with cell types or regions. A cell without a label (NaN), or with a label that fewer than five
        cells have, takes part in no metric of labels.
    batch_key
        Column of `.obs` with batches, for methods and metrics that use them.
    methods
        Any of

        - `sct`: what :func:`scanpy_sct.tl.embed` computes by default;
        - `pca`: 50 principal components of the 2,000 most variable genes of these very cells, log-normalised and scaled
          to unit variance; `pca_unscaled`: 20 components of the same genes, not scaled, often the stronger one;
        - the name of an entry of `.obsm`;
        - the name of a method registered with :func:`scanpy_sct.evaluate.method`;
        - a function that takes an :class:`~scanpy_sct.evaluate.EmbeddingInput` (with a copy of the object in `.adata`)
          and returns an array with one row per cell.
    metrics
        Names from the table below, or of metrics registered with :func:`scanpy_sct.evaluate.metric`; or "all":
        every metric that the data, the keys and the installed packages allow.
    model
        The model to test, as in :func:`scanpy_sct.load_model`.
    layer
        Layer to read; None: `.X`.
    library_key
        Column of `.obs` with samples: cells of different ones are never in one bag, nor neighbours on the tissue.
    gene_names
        Column of `.var` with gene names; None: `.var_names`.
    scale
        What the values are, as in :func:`scanpy_sct.tl.impute`.
    n_clusters
        Number of domains to look for in each sample of spatial data; None: as many as it has labels, eight without.
    n_bootstrap
        Resamplings for intervals; 0: none.
    rng
        Seed or generator. All methods are evaluated on the same folds and resamplings.

    Returns
    -------
    One row for each method and metric, with the columns `method`, `metric`, `value`, `lower` and `upper` (95 %
    bootstrap interval over cells; NaN for all but the first two metrics, since a resampling contains cells several
    times, which changes clusters and neighbour graphs) and `n_cells`, the number of cells behind the value. Higher is
    better unless stated otherwise.

    ========================= =========================================================================================
    metric                    meaning
    ========================= =========================================================================================
    knn_accuracy              fraction of the cells whose label the 15 nearest neighbours predict, in five folds
    knn_macro_f1              F1 of the same, mean over labels
    majority_accuracy         accuracy of predicting the most frequent label for all cells, as a baseline
    kmeans_nmi, kmeans_ari    agreement of labels with as many k-means clusters
    domain_nmi, domain_ari    agreement of annotated regions with as many k-means clusters, sample by sample; samples
                              with one region only have no part in it
    domain_pas                fraction of the cells whose cluster differs from most of their ten neighbours on the
                              tissue; lower is better
    domain_chaos              distance to the nearest cell of the same cluster, in median distances; lower is better
    domain_neighbors          fraction of the ten neighbours on the tissue that are in the same cluster
    domain_neighbors_chance   the same for clusters assigned at random: compare with this
    ========================= =========================================================================================

    Raises
    ------
    ValueError, TypeError, KeyError
        An argument or the object cannot be used; before anything is computed.
    ImportError
        A method or metric is requested by name whose package is not installed.

    Notes
    -----
    Labels were often made by clustering a PCA of the very same cells, which favours PCA. PCA is fitted to the data at
    hand and uses all of its genes; `sct` is not fitted, and uses the genes that the model knows. Coherent domains alone
    prove nothing (a single domain is coherent): read them beside `domain_ari`. Cells of one tissue are not
    independent, so that intervals are too narrow for other donors.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> table = sct.evaluate.embedding(adata, labels_key="bulk_labels", metrics=["knn_accuracy", "kmeans_ari"])
    """
    check_is_anndata(adata)
    seed = as_seed(rng)
    check_number("n_bootstrap", n_bootstrap)
    if n_clusters is not None:
        check_number("n_clusters", n_clusters, 2)
    cells = Cells(
        labels=_read_labels(adata, labels_key),
        batches=_read_batches(adata, batch_key),
        samples=read_samples(adata, library_key)[0],
        coordinates=_read_complete(adata),
        n_clusters=n_clusters,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    scored_by = _choose_metrics(metrics, cells)
    options = ReadOptions(layer=layer, library_key=library_key, gene_names=gene_names, scale=scale)
    given = EmbeddingInput(adata, options, cells.batches, model, seed)
    stored = stored_embeddings(adata)
    chosen = choose("embedding", methods, given.has, more=stored)
    # Stored embeddings are checked before anything is computed.
    ready = {each.name: _vectors(each, given) for each in chosen if stored.get(each.name) is each}
    rows = []
    for each in chosen:
        logger.info("Embedding %d cells by %s.", adata.n_obs, each.name)
        vectors = ready[each.name] if each.name in ready else _vectors(each, given)
        rows += [{"method": each.name, **row} for row in _score(cells, vectors, scored_by)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _read_complete(adata: AnnData) -> np.ndarray | None:
    """Read the coordinates of all cells; None if any has none, with a warning."""
    coordinates, findings = read_coordinates(adata)
    for text in findings:
        logger.warning(text)
    return coordinates if coordinates is not None and np.isfinite(coordinates).all() else None


def _vectors(chosen: Method, given: EmbeddingInput) -> np.ndarray:
    """Run a method; a copy of `given` has its own `.adata`, and shares what was read before."""
    return check_vectors(chosen.function(copy(given)), chosen.name, given.source.n_obs)


def _score(cells: Cells, vectors: np.ndarray, chosen: list[Method]) -> list[dict[str, str | float]]:
    """Compute all metrics of one embedding; a function with several names is called once."""
    scores = {}
    for function in dict.fromkeys(each.function for each in chosen):
        scores |= function(cells, vectors, {each.name for each in chosen if each.function is function})
    return [{"metric": each.name, **scores[each.name]._asdict()} for each in chosen]


def _choose_metrics(metrics: str | Iterable[str], cells: Cells) -> list[Method]:
    """Find the metrics that can be computed, in the order of registration; raise an error where there are none."""
    is_spatial = cells.coordinates is not None and len(cells.sections) > 0
    available = {
        "labels": cells.labels is not None,
        "batches": cells.batches is not None,
        "sections": is_spatial,
        # Missing only where there are labels and sections: without these, they are what is missing.
        "regions": cells.labels is None or not is_spatial or len(cells.regions) > 0,
    }
    chosen = choose("embedding metric", metrics, lambda need: available.get(need, False))
    if not chosen:
        hints = "; or ".join(NEEDS[need] for need in ("labels", "batches", "sections"))
        msg = f"`metrics`: there is nothing to compare embeddings with: {hints}."
        raise ValueError(msg)
    order = list(registered("embedding metric"))
    return sorted(chosen, key=lambda each: order.index(each.name))


def _read_labels(adata: AnnData, key: str | None) -> np.ndarray | None:
    """Return the code of the label of each cell, -1 for none, (n_cells,)."""
    if key is None:
        return None
    names = read_strings(adata, key, "labels_key")
    sizes = names.value_counts()
    frequent = sizes.index[sizes >= N_FOLDS]
    if len(frequent) < 2:
        msg = (
            f"labels_key={key!r} must name a column with at least two labels of {N_FOLDS} cells each; the most "
            f"frequent are {sizes.head(3).to_dict()}. Name another column of adata.obs."
        )
        raise ValueError(msg)
    n_rare = int(names.notna().sum() - names.isin(frequent).sum())
    if n_rare:
        logger.info("%d cells whose label fewer than %d cells have count as unlabelled.", n_rare, N_FOLDS)
    return pd.Categorical(names.where(names.isin(frequent)), categories=sorted(frequent)).codes.astype(np.int64)


def _read_batches(adata: AnnData, key: str | None) -> np.ndarray | None:
    """Return the code of the batch of each cell, (n_cells,)."""
    if key is None:
        return None
    names = read_strings(adata, key, "batch_key", complete=True)
    if names.nunique() < 2:
        msg = f"adata.obs[{key!r}] (batch_key) has one batch only; leave `batch_key` out."
        raise ValueError(msg)
    return pd.Categorical(names).codes.astype(np.int64)
