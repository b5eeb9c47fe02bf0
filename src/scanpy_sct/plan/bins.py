"""Between expression values and bins: every cell has its own bins, between its smallest and largest value.

All functions take a csr matrix whose explicit entries are positive (see :mod:`scanpy_sct.read.expression`), and work
on all cells at once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

CONSTANT_MARGIN = 0.1
LAST_EDGE_MARGIN = 0.01

Binning = Literal["uniform", "quantile"]


def entry_rows(values: sparse.csr_matrix) -> np.ndarray:
    """Row number of every explicit entry."""
    return np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))


def bin_edges(values: sparse.csr_matrix, n_bins: int = 4, binning: Binning = "uniform") -> np.ndarray:
    """Edges of each cell's bins.

    Parameters
    ----------
    values
        (cells, genes), visible positive entries only: what is to be predicted must have no say in the edges.
    n_bins
        Number of bins.
    binning
        ``"uniform"``: equal widths. ``"quantile"``: equal numbers of entries; equal edges make unused bins.

    Returns
    -------
    (cells, n_bins + 1) float64. A cell whose values are all the same has one bin, given by the first two edges around
    its value; the others are NaN. A cell without values has only NaN.
    """
    edges = np.full((values.shape[0], n_bins + 1), np.nan)
    filled = np.flatnonzero(np.diff(values.indptr))
    if len(filled) == 0:
        return edges
    data = values.data.astype(np.float64)
    starts = values.indptr[filled]
    low, high = np.minimum.reduceat(data, starts), np.maximum.reduceat(data, starts)
    if binning == "uniform":
        edges[filled] = np.linspace(low, high, n_bins + 1, axis=-1)
    else:
        edges[filled] = _row_quantiles(values, filled, np.linspace(0, 1, n_bins + 1))
    # The last edge is open: without the margin the largest value would fall beyond the last bin.
    edges[filled, -1] += LAST_EDGE_MARGIN
    constant = filled[low == high]
    edges[constant] = np.nan
    edges[constant, 0] = low[low == high] - CONSTANT_MARGIN
    edges[constant, 1] = low[low == high] + CONSTANT_MARGIN
    return edges


def _row_quantiles(values: sparse.csr_matrix, rows: np.ndarray, levels: np.ndarray) -> np.ndarray:
    order = np.lexsort((values.data, entry_rows(values)))
    ordered = values.data[order].astype(np.float64)
    counts = np.diff(values.indptr)[rows]
    place = levels * (counts[:, None] - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, counts[:, None] - 1)
    start = values.indptr[rows][:, None]
    lower, upper, weight = ordered[start + below], ordered[start + above], place - below
    # Interpolating from the nearer end keeps the result exact at both ends.
    return np.where(weight < 0.5, lower + (upper - lower) * weight, upper - (upper - lower) * (1 - weight))


def assign_bins(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    """Bin (1, 2, ...) of every explicit entry: the number of its cell's edges that are not above it."""
    rows = entry_rows(values)
    bins = np.zeros(len(values.data), dtype=np.uint8)
    for column in range(edges.shape[1]):
        bins += values.data.astype(np.float64) >= edges[rows, column]
    return bins


def bin_values(values: sparse.csr_matrix, bins: np.ndarray, n_bins: int = 4) -> np.ndarray:
    """Typical value of each bin in each cell, to turn predicted bins back into expression.

    The mean of the cell's own entries in that bin; where there are none, the place of the bin's centre between the
    smallest and the largest value of the cell; for a cell without entries, the means over all cells.

    Parameters
    ----------
    values
        (cells, genes), visible positive entries, on the scale on which the prediction is wanted.
    bins
        Bin of every entry of ``values``, from :func:`assign_bins`.
    n_bins
        Number of bins.

    Returns
    -------
    (cells, n_bins) float32.
    """
    n_cells = values.shape[0]
    cell_and_bin = entry_rows(values) * n_bins + (bins.astype(np.int64) - 1)
    counts = np.bincount(cell_and_bin, minlength=n_cells * n_bins).reshape(n_cells, n_bins)
    sums = np.bincount(cell_and_bin, weights=values.data, minlength=n_cells * n_bins).reshape(n_cells, n_bins)
    filled = np.flatnonzero(np.diff(values.indptr))
    result = np.tile(sums.sum(0) / np.maximum(counts.sum(0), 1), (n_cells, 1))
    if len(filled):
        starts = values.indptr[filled]
        low = np.minimum.reduceat(values.data, starts)[:, None]
        high = np.maximum.reduceat(values.data, starts)[:, None]
        result[filled] = low + (np.arange(n_bins) + 0.5) / n_bins * (high - low)
    np.divide(sums, counts, out=result, where=counts > 0)
    return result.astype(np.float32)
