"""Metrics of scib-metrics, after Luecken et al. 2022 (Nature Methods 19, 41); higher is better.

========================= =============================================================================================
metric                    meaning
========================= =============================================================================================
silhouette_label          labels are compact and apart (0.5: neither)
leiden_nmi, leiden_ari    agreement of labels with Leiden clusters, at the resolution that fits the labels best
graph_connectivity        cells of a label are connected in the graph of 15 neighbours
isolated_labels           silhouette of the labels that the fewest batches have
bras                      batches mix within labels (Rautenstrauch and Ohler 2025)
ilisi                     batches mix in neighbourhoods (Korsunsky et al. 2019)
kbet                      fraction of the neighbourhoods of 50 cells whose batches are those of all cells (Büttner et
                          al. 2019), whatever the labels: batches that differ in composition fail it
========================= =============================================================================================
"""

from __future__ import annotations

from math import nan

import numpy as np
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.evaluate import Cells, Score, metric

PACKAGE = "package:scib-metrics"
_GRAPH_NEIGHBORS, _KBET_NEIGHBORS, _LISI_NEIGHBORS = 15, 50, 90  # the sizes that scib-metrics takes


@metric("leiden_nmi", "leiden_ari", "graph_connectivity", needs=("labels", PACKAGE), replace=True)
def graph(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    import scib_metrics

    labels, neighbors = cells.labels[cells.labelled], _neighbors(vectors[cells.labelled], _GRAPH_NEIGHBORS)
    values = {"graph_connectivity": scib_metrics.graph_connectivity(neighbors, labels)}
    if requested & {"leiden_nmi", "leiden_ari"}:
        found = scib_metrics.nmi_ari_cluster_labels_leiden(neighbors, labels, seed=cells.seed)
        values |= {f"leiden_{name}": value for name, value in found.items()}
    return _scores(values, len(labels))


@metric("silhouette_label", needs=("labels", PACKAGE), replace=True)
def silhouette(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    import scib_metrics

    labels = cells.labels[cells.labelled]
    return _scores({"silhouette_label": scib_metrics.silhouette_label(vectors[cells.labelled], labels)}, len(labels))


@metric("isolated_labels", "bras", needs=("labels", "batches", PACKAGE), replace=True)
def within_labels(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    import scib_metrics

    vectors, labels, batches = (values[cells.labelled] for values in (vectors, cells.labels, cells.batches))
    values = {"isolated_labels": scib_metrics.isolated_labels(vectors, labels, batches), "bras": nan}
    if any(len(np.unique(batches[labels == label])) > 1 for label in np.unique(labels)):
        values["bras"] = scib_metrics.bras(vectors, labels, batches)
    return _scores(values, len(labels))


@metric("ilisi", "kbet", needs=("batches", PACKAGE), replace=True)
def mixing(cells: Cells, vectors: np.ndarray, requested: set[str]) -> dict[str, Score]:
    import scib_metrics

    neighbors = _neighbors(vectors, _LISI_NEIGHBORS)
    values = {"ilisi": scib_metrics.ilisi_knn(neighbors, cells.batches)}
    if "kbet" in requested:
        nearest = neighbors.subset_neighbors(min(_KBET_NEIGHBORS, neighbors.n_neighbors))
        values["kbet"] = scib_metrics.kbet(nearest, cells.batches)[0]
    return _scores(values, len(vectors))


def _scores(values: dict[str, float], n_cells: int) -> dict[str, Score]:
    return {name: Score(float(value), n_cells) for name, value in values.items()}


def _neighbors(vectors: np.ndarray, n_neighbors: int) -> object:
    """Exact nearest neighbours as scib-metrics expects them, each cell the first neighbour of itself.

    The approximate search of scib-metrics spends most of a minute on compiling itself, for the same neighbours.
    """
    from scib_metrics.nearest_neighbors import NeighborsResults

    n_others = min(n_neighbors, len(vectors)) - 1
    distances, others = NearestNeighbors(n_neighbors=n_others).fit(vectors).kneighbors()
    itself = np.arange(len(vectors))[:, None]
    return NeighborsResults(np.hstack([itself, others]), np.hstack([np.zeros_like(distances[:, :1]), distances]))
