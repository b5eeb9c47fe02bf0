"""Predict from the nearest cells: in expression, or on the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.evaluate.methods.rates import group_means, pooled_rates
from scanpy_sct.evaluate.observed import Prediction
from scanpy_sct.evaluate.registry import method

if TYPE_CHECKING:
    from scanpy_sct.evaluate.observed import Observed


@method("knn_vote")
def knn_vote(observed: Observed) -> Prediction:
    """Predict the mean over the cell and its 15 nearest ones where the gene is visible: deep and shallow cells alike.

    Where it is visible in none of them, the mean of all cells in which it is.
    """
    nearest = _with_the_cell_itself(observed.neighbors)

    def at_targets(values: sparse.csr_matrix) -> np.ndarray:
        return observed.at_targets(lambda rows: group_means(observed, values, nearest[rows]))

    detected = observed.log_values.sign()
    return Prediction(at_targets(observed.counts), at_targets(detected), at_targets(observed.log_values))


@method("knn_poisson")
def knn_poisson(observed: Observed, prior_cells: float = 5.0) -> np.ndarray:
    """Do as `poisson_bag`, with the cell and its 15 nearest ones in place of a bag."""
    return _rates_times_depth(observed, observed.neighbors, prior_cells)


@method("spatial_mean", needs=("coordinates",))
def spatial_mean(observed: Observed, n_neighbors: int = 15, prior_cells: float = 5.0) -> np.ndarray:
    """Do as `knn_poisson`, with the nearest cells or spots on the tissue, of the same sample.

    Fewer where a sample has not so many; a cell that is alone in its sample gets the rates of the whole data set.
    """
    return _rates_times_depth(observed, _on_the_tissue(observed, n_neighbors), prior_cells)


def _rates_times_depth(observed: Observed, neighbors: sparse.csr_matrix, prior_cells: float) -> np.ndarray:
    nearest = _with_the_cell_itself(neighbors)
    return observed.at_targets(
        lambda rows: pooled_rates(observed, nearest[rows], prior_cells) * observed.depth[rows, None]
    )


def _with_the_cell_itself(neighbors: sparse.csr_matrix) -> sparse.csr_matrix:
    """Count a cell as its own neighbour, which changes nothing where an entry is masked, and helps elsewhere."""
    return (neighbors + sparse.eye(neighbors.shape[0])).tocsr()


def _on_the_tissue(observed: Observed, n_neighbors: int) -> sparse.csr_matrix:
    """Find the nearest cells of the same sample, never the cell itself, 1 where near, (n_cells, n_cells)."""
    n_cells = len(observed.samples)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for sample in np.unique(observed.samples):
        cells = np.flatnonzero(observed.samples == sample)
        k = min(n_neighbors, len(cells) - 1)
        if k > 0:
            near = NearestNeighbors(n_neighbors=k).fit(observed.coordinates[cells]).kneighbors(return_distance=False)
            pairs.append(np.stack([np.repeat(cells, k), cells[near.ravel()]]))
    rows, columns = np.concatenate(pairs, axis=1)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_cells, n_cells))
