"""What coordinates add to an annotation: expression relative to the sample, and the labels of the nearest cells.

Sections of one tissue differ in ways that shift all of their cells alike, and regions are contiguous.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

N_NEAREST = 12
CENTRING = np.float32(0.5)
"""Fraction of the mean of a sample that is subtracted from its cells.

With 0, differences between sections are confused with those between regions; with 1, a section of few regions is
annotated as if it had as much of each region as those of the reference.
"""
_TINY = 1e-9


def has_coordinates(coordinates: np.ndarray | None) -> bool:
    """Whether all cells have coordinates, (n_cells, 2)."""
    return coordinates is not None and bool(np.isfinite(coordinates).all())


def mean_of_nearest(coordinates: np.ndarray, samples: np.ndarray, empty: np.ndarray) -> sparse.csr_matrix:
    """Return a matrix (n_cells, n_cells) that averages values over the 12 nearest cells of each cell.

    Neighbours are of the same sample and not empty; a sample may have fewer. The cell itself only counts where it has
    no neighbours.
    """
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for sample in np.unique(samples):
        rows = np.flatnonzero((samples == sample) & ~empty)
        n_nearest = min(N_NEAREST, len(rows) - 1)
        if n_nearest > 0:
            found = NearestNeighbors(n_neighbors=n_nearest).fit(coordinates[rows]).kneighbors(return_distance=False)
            pairs.append(np.stack([np.repeat(rows, n_nearest), rows[found.ravel()]]))
    cells, near = np.concatenate(pairs, axis=1)
    alone = np.setdiff1d(np.arange(len(samples)), cells)
    cells, near = np.append(cells, alone), np.append(near, alone)
    weights = 1 / np.bincount(cells)[cells]
    return sparse.csr_matrix((weights, (cells, near)), shape=(len(samples), len(samples)))


def sample_means(
    values: np.ndarray | sparse.csr_matrix, samples: np.ndarray, empty: np.ndarray
) -> np.ndarray | sparse.csr_matrix:
    """Average values (n_cells, n_features) over the cells of each sample that are not empty, (n_samples, n_features).

    ``samples`` are integers from 0.
    """
    rows = np.flatnonzero(~empty)
    n_samples = int(samples.max()) + 1
    weights = 1 / np.bincount(samples[rows], minlength=n_samples)[samples[rows]]
    return sparse.csr_matrix((weights, (samples[rows], rows)), shape=(n_samples, len(samples))) @ values


def centred(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Subtract half of the mean of its sample from each cell; both are (n_cells, n_features)."""
    return values - CENTRING * means.astype(np.float32)


def with_nearest(log_probabilities: np.ndarray, nearest: sparse.csr_matrix) -> np.ndarray:
    """Multiply the probabilities of each cell by the mean ones of its nearest cells; all are logarithms.

    ``nearest`` is from :func:`mean_of_nearest`.
    """
    return log_probabilities + np.log(nearest @ np.exp(log_probabilities) + _TINY)
