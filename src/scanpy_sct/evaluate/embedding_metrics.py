"""Metrics of embeddings, and what each needs; other packages register theirs in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from scanpy_sct.evaluate.metrics.bootstrap import percentile_interval
from scanpy_sct.evaluate.registry import metric

if TYPE_CHECKING:
    from collections.abc import Callable

N_FOLDS = 5
"""Cells of a label with fewer cells count as unlabelled: it cannot be in every fold."""

N_SPATIAL_NEIGHBORS = 10
"""Neighbours on the tissue; smaller samples have no domains."""

_N_NEIGHBORS = 15
_DEFAULT_DOMAINS = 8


class Score(NamedTuple):
    """One value of a metric, with a 95 % interval where resampling cells makes sense."""

    value: float
    """The metric."""
    n_cells: int
    """Number of cells that it was computed from."""
    lower: float = nan
    """Lower end of the interval; NaN: no interval."""
    upper: float = nan
    """Upper end of the interval; NaN: no interval."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Labels, batches and coordinates of the cells, beside their vectors."""

    labels: np.ndarray | None
    """int (n_cells,): code of the label, -1 where it is missing; None: no labels."""
    batches: np.ndarray | None
    """int (n_cells,)."""
    samples: np.ndarray
    """int (n_cells,): cells of different samples are not neighbours on the tissue."""
    coordinates: np.ndarray | None
    """float (n_cells, 2), in the data's own unit."""
    n_clusters: int | None
    """Number of domains to look for in each sample; None: as many as it has labels."""
    n_bootstrap: int
    seed: int

    @cached_property
    def labelled(self) -> np.ndarray:
        """Rows of the cells with a label."""
        return np.flatnonzero(self.labels >= 0)

    @cached_property
    def sections(self) -> list[np.ndarray]:
        """Rows of each sample with enough cells for domains."""
        fewest = max(N_SPATIAL_NEIGHBORS, self.n_clusters or 0)
        rows = [np.flatnonzero(self.samples == sample) for sample in np.unique(self.samples)]
        return [section for section in rows if len(section) > fewest]

    @cached_property
    def regions(self) -> list[np.ndarray]:
        """Those of `sections` that hold at least two labels, so that clusters can agree with them."""
        return [] if self.labels is None else [rows for rows in self.sections if self.n_labels(rows) > 1]

    def n_labels(self, rows: np.ndarray) -> int:
        """Count the labels of some cells."""
        return len(np.unique(self.labels[rows][self.labels[rows] >= 0]))


@metric("knn_accuracy", "knn_macro_f1", "majority_accuracy", needs="labels")
def knn(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    """Predict the label of each cell from its 15 nearest neighbours in the other four of five folds.

    Only the confusion table matters for the intervals: resampling cells is drawing a table with the same number of
    cells from the multinomial distribution of the one that was found.
    """
    labels, vectors = cells.labels[cells.labelled], vectors[cells.labelled]
    n_neighbors = min(_N_NEIGHBORS, len(labels) - ceil(len(labels) / N_FOLDS))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=cells.seed)
    named = cross_val_predict(KNeighborsClassifier(n_neighbors), vectors, labels, cv=folds)
    table = confusion_matrix(labels, named)
    fraction = table.ravel() / table.sum()
    draws = np.random.default_rng(cells.seed).multinomial(table.sum(), fraction, size=cells.n_bootstrap)
    draws = draws.reshape(-1, *table.shape)
    scores = {
        name: Score(float(of(table)), len(labels), *percentile_interval(of(draws)))
        for name, of in {"knn_accuracy": accuracy, "knn_macro_f1": macro_f1}.items()
    }
    return scores | {"majority_accuracy": Score(np.bincount(labels).max() / len(labels), len(labels))}


def accuracy(tables: np.ndarray) -> np.ndarray:
    """Fraction of the cells on the diagonal of confusion tables, (..., n_labels, n_labels) -> (...)."""
    return np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1))


def macro_f1(tables: np.ndarray) -> np.ndarray:
    """Mean F1 over the labels that occur in confusion tables, (..., n_labels, n_labels) -> (...)."""
    right = np.diagonal(tables, axis1=-2, axis2=-1)
    occurs = tables.sum(axis=-1) + tables.sum(axis=-2)
    return (2 * right / np.maximum(occurs, 1)).sum(axis=-1) / (occurs > 0).sum(axis=-1)


@metric("kmeans_nmi", "kmeans_ari", needs="labels")
def kmeans(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    """Compare labels with as many clusters as there are labels, all samples together."""
    labels = cells.labels[cells.labelled]
    clusters = _clusters(vectors[cells.labelled], len(np.unique(labels)), cells.seed)
    return {name: Score(of(labels, clusters), len(labels)) for name, of in _agreement("kmeans").items()}


@metric("domain_pas", "domain_chaos", "domain_neighbors", "domain_neighbors_chance", needs="sections")
@metric("domain_nmi", "domain_ari", needs=("labels", "sections", "regions"))
def domains(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    """Cluster each sample by itself, and measure the clusters on the tissue; means over cells of all samples."""
    found: dict[str, list[tuple[float, int]]] = {}
    for rows in cells.sections:
        clusters = _clusters(vectors[rows], _n_domains(cells, rows), cells.seed)
        for name, value in continuity(clusters, cells.coordinates[rows]).items():
            found.setdefault(name, []).append((value, len(rows)))
        if cells.labels is not None and cells.n_labels(rows) > 1:
            labels = cells.labels[rows]
            known = labels >= 0
            for name, of in _agreement("domain").items():
                found.setdefault(name, []).append((of(labels[known], clusters[known]), int(known.sum())))
    scores = {}
    for name, parts in found.items():
        values, sizes = np.array(parts).T
        scores[name] = Score(float(np.average(values, weights=sizes)), int(sizes.sum()))
    return scores


def continuity(clusters: np.ndarray, coordinates: np.ndarray) -> dict[str, float]:
    """Measure how coherent clusters are on the tissue of one sample.

    Parameters
    ----------
    clusters
        int (n_cells,).
    coordinates
        (n_cells, 2), more than ten cells; the unit does not matter.

    Returns
    -------
    `domain_pas`
        Fraction of the cells whose cluster is that of fewer than half of their ten neighbours (Shang and Zhou 2022,
        Nature Communications 13, 7203).
    `domain_chaos`
        Mean distance to the nearest cell of the same cluster, as there, but in units of the median distance
        between nearest neighbours: 1 where clusters are whole. Clusters of one cell have no such distance.
    `domain_neighbors`
        Fraction of the ten neighbours that are in the cluster of the cell.
    `domain_neighbors_chance`
        The same for clusters assigned to the cells at random.
    """
    finder = NearestNeighbors(n_neighbors=N_SPATIAL_NEIGHBORS).fit(coordinates)
    distances, neighbors = finder.kneighbors()
    same = clusters[neighbors] == clusters[:, None]
    sizes = np.bincount(clusters).astype(np.float64)
    within = [
        NearestNeighbors(n_neighbors=1).fit(coordinates[clusters == cluster]).kneighbors()[0].ravel()
        for cluster in np.flatnonzero(sizes > 1)
    ]
    unit = np.median(distances[:, 0])
    return {
        "domain_pas": float((same.sum(axis=1) < N_SPATIAL_NEIGHBORS / 2).mean()),
        "domain_chaos": float(np.concatenate(within).mean() / unit) if within and unit > 0 else nan,
        "domain_neighbors": float(same.mean()),
        "domain_neighbors_chance": float((sizes * (sizes - 1)).sum() / (sizes.sum() * (sizes.sum() - 1))),
    }


def _n_domains(cells: Cells, rows: np.ndarray) -> int:
    """Choose the number of clusters of a sample: as requested, else of its labels, else of all labels, else eight."""
    if cells.n_clusters is not None:
        return cells.n_clusters
    if cells.labels is None:
        return _DEFAULT_DOMAINS
    n_labels = cells.n_labels(rows)
    return min(n_labels if n_labels > 1 else cells.n_labels(cells.labelled), len(rows))


def _clusters(vectors: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    return KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(vectors)


def _agreement(prefix: str) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    return {f"{prefix}_nmi": normalized_mutual_info_score, f"{prefix}_ari": adjusted_rand_score}
