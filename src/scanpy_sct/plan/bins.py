"""Between expression values and bins, of each cell's own values or of counts.

All functions take a csr matrix whose explicit entries are positive (see :mod:`scanpy_sct.read.reader`), and work
on all cells at once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import entry_rows

CONSTANT_MARGIN = 0.1
LAST_EDGE_MARGIN = 0.01
WHOLE_TOLERANCE, RELATIVE_TOLERANCE = 1e-3, 1e-6
"""Counts that went through logarithms and back are as close to whole numbers as both together allow."""
LOG_BASES = (np.e, 2.0, 10.0)
"""Logarithms that expression comes in; the natural one first, which wins where none can be told from the values."""
WHOLE_SHARE = 0.95
"""A cell holds counts if at least this share of its entries are whole numbers."""

Binning = Literal["uniform", "counts"]


def bin_edges(values: sparse.csr_matrix, n_bins: int = 5, binning: Binning = "uniform") -> np.ndarray:
    """Edges of each cell's bins.

    Parameters
    ----------
    values
        (cells, genes), visible positive entries only: what is to be predicted must have no say in the edges.
    n_bins
        Number of bins, zero included, which has no edges.
    binning
        ``"uniform"``: equal widths.
        ``"counts"``: 1, 2, 3-4, 5-8, ... counts, where ``values`` are their ``log1p``, and the last bin open; in a cell
        whose values are no whole numbers (TPM, corrected counts), as many times its median value. What is visible
        decides, so that a cell on the border may be read either way.

    Returns
    -------
    (cells, n_bins) float64. A cell whose values are all the same has one bin, given by the first two edges around
    its value; the others are NaN. A cell without values has only NaN.
    """
    edges = np.full((values.shape[0], n_bins), np.nan)
    if binning == "counts":
        return _count_edges(values, edges)
    filled = np.flatnonzero(np.diff(values.indptr))
    if len(filled) == 0:
        return edges
    low, high = _extremes(values, filled)
    edges[filled] = np.linspace(low, high, n_bins, axis=-1)
    # The last edge is open: without the margin the largest value would fall beyond the last bin.
    edges[filled, -1] += LAST_EDGE_MARGIN
    constant = filled[low == high]
    edges[constant] = np.nan
    edges[constant, 0] = low[low == high] - CONSTANT_MARGIN
    edges[constant, 1] = low[low == high] + CONSTANT_MARGIN
    return edges


def _count_edges(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    """Fill ``edges``: zero, and half a unit of the cell above 1, 2, 4, 8, ... of them."""
    filled = np.flatnonzero(np.diff(values.indptr))
    if len(filled):
        unit = _count_units(values, filled)
        upper = np.concatenate([[0], 2.0 ** np.arange(edges.shape[1] - 2) + 0.5])
        edges[filled, :-1] = np.log1p(unit[:, None] * upper)
        edges[filled, -1] = np.inf
    return edges


def _count_units(values: sparse.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Tell what counts as one in each of the cells ``rows``: a count, or the median value where there are no counts.

    The median keeps half of the entries of such a cell in the first bin, as most counts are 1. In units of the smallest
    value nearly all would stand in the last.
    """
    linear = np.expm1(values.data.astype(np.float64))
    whole = np.rint(linear)
    is_whole = (whole >= 1) & (np.abs(linear - whole) <= WHOLE_TOLERANCE + RELATIVE_TOLERANCE * linear)
    starts, sizes = values.indptr[rows], np.diff(values.indptr)[rows]
    no_counts = np.add.reduceat(is_whole, starts, dtype=np.int64) < WHOLE_SHARE * sizes
    units = np.ones(len(rows))
    if no_counts.any():
        units[no_counts] = np.expm1(_row_medians(values, rows[no_counts]))
    return units


def _row_medians(values: sparse.csr_matrix, rows: np.ndarray) -> np.ndarray:
    return np.array([np.median(values.data[values.indptr[row] : values.indptr[row + 1]].astype(float)) for row in rows])


def assign_bins(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    """Bin (1, 2, ...) of every explicit entry: the number of its cell's edges that are not above it."""
    rows = entry_rows(values)
    bins = np.zeros(len(values.data), dtype=np.uint8)
    for column in range(edges.shape[1]):
        bins += values.data.astype(np.float64) >= edges[rows, column]
    return bins


def bin_values(
    values: sparse.csr_matrix, bins: np.ndarray, n_bins: int = 5, *, typical: np.ndarray | None = None
) -> np.ndarray:
    """Typical value of each bin but zero in each cell, to turn predicted bins back into expression.

    The mean of the cell's own entries in that bin; where there are none, ``typical``, by default the place of the
    bin's centre between the smallest and the largest value of the cell; for a cell without entries, the means over all
    cells.

    Parameters
    ----------
    values
        (cells, genes), visible positive entries, on the scale on which the prediction is wanted.
    bins
        Bin of every entry of ``values``, from :func:`assign_bins`.
    n_bins
        Number of bins, zero included.
    typical
        (cells, n_bins - 1) values of empty bins, e.g. from :func:`count_bin_values`.

    Returns
    -------
    (cells, n_bins - 1) float32.
    """
    n_bins -= 1
    n_cells = values.shape[0]
    cell_and_bin = entry_rows(values) * n_bins + (bins.astype(np.int64) - 1)
    counts = np.bincount(cell_and_bin, minlength=n_cells * n_bins).reshape(n_cells, n_bins)
    sums = np.bincount(cell_and_bin, weights=values.data, minlength=n_cells * n_bins).reshape(n_cells, n_bins)
    result = np.tile(sums.sum(0) / np.maximum(counts.sum(0), 1), (n_cells, 1))
    filled = np.flatnonzero(np.diff(values.indptr))
    if len(filled) and typical is not None:
        result = np.where(counts.sum(0) > 0, result, typical[filled].mean(0))
        result[filled] = typical[filled]
    elif len(filled):
        low, high = _extremes(values, filled)
        result[filled] = low[:, None] + (np.arange(n_bins) + 0.5) / n_bins * (high - low)[:, None]
    np.divide(sums, counts, out=result, where=counts > 0)
    return result.astype(np.float32)


def count_bin_values(binned: sparse.csr_matrix, wanted: sparse.csr_matrix, n_bins: int) -> np.ndarray:
    """Value of the middle of each bin of counts but zero, (cells, n_bins - 1), on the scale of ``wanted``.

    Parameters
    ----------
    binned, wanted
        (cells, genes) with the same visible positive entries: ``log1p`` of counts or other values, and logarithms, to
        base e, 2 or 10, of 1 + values times a number of each cell's own.
    n_bins
        Number of bins, zero included.
    """
    highest = 2.0 ** np.arange(n_bins - 1)
    lowest = np.concatenate([[1], highest[:-1] + 1])
    middle = np.sqrt(lowest * highest)
    result = np.tile(np.log1p(middle), (binned.shape[0], 1))
    filled = np.flatnonzero(np.diff(binned.indptr))
    if len(filled):
        log_of_base = np.log(_log_base(binned, wanted, filled))
        linear = np.expm1(_extremes(wanted, filled)[0] * log_of_base)
        factor = linear / np.expm1(_extremes(binned, filled)[0]) * _count_units(binned, filled)
        result[filled] = np.log1p(factor[:, None] * middle) / log_of_base
    return result


def _log_base(binned: sparse.csr_matrix, wanted: sparse.csr_matrix, filled: np.ndarray) -> float:
    """Return the base of the logarithms in ``wanted`` for which each cell's values are multiples of those binned."""
    if np.array_equal(binned.data, wanted.data):
        return LOG_BASES[0]
    log_binned = np.log(np.expm1(binned.data.astype(np.float64)))

    def spread(base: float) -> float:
        ratio = np.log(np.expm1(wanted.data.astype(np.float64) * np.log(base))) - log_binned
        low, high = _extremes(sparse.csr_matrix((ratio, wanted.indices, wanted.indptr), wanted.shape), filled)
        return float((high - low).sum())

    return min(LOG_BASES, key=spread)


def _extremes(values: sparse.csr_matrix, filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest entry of the rows ``filled``, float64."""
    data, starts = values.data.astype(np.float64), values.indptr[filled]
    return np.minimum.reduceat(data, starts), np.maximum.reduceat(data, starts)
