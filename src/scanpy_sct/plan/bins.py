"""Convert expression values to bins and back.

All functions take a CSR matrix of cells x genes whose explicit entries are positive.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import LOG_BASES, entry_rows, row_extremes, with_data

CONSTANT_MARGIN = 0.1
LAST_EDGE_MARGIN = 0.01
ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE = 1e-3, 1e-6
"""Distance from an integer, absolute plus relative, of a count that was converted to a logarithm and back."""
INTEGER_FRACTION = 0.95
"""Smallest fraction of integers among the entries of a cell that holds counts."""

Binning = Literal["uniform", "counts"]


def bin_edges(values: sparse.csr_matrix, n_bins: int = 5, binning: Binning = "uniform") -> np.ndarray:
    """Compute the edges of each cell's bins.

    Parameters
    ----------
    values
        (cells, genes), visible entries only: masked values must not influence the edges.
    n_bins
        Number of bins, zero included; bin zero has no edges.
    binning
        ``"uniform"``: equal widths.
        ``"counts"``: 1, 2, 3-4, 5-8, ... counts, where ``values`` are their ``log1p``; the last bin is open. In a cell
        whose visible values are not integers (TPM, corrected counts), multiples of its median value.

    Returns
    -------
    (cells, n_bins) float64. A cell whose values are all the same has one bin, between the first two edges; the others
    are NaN. A cell without values has only NaN.
    """
    edges = np.full((values.shape[0], n_bins), np.nan)
    if binning == "counts":
        return _count_edges(values, edges)
    filled, low, high = _extremes(values)
    edges[filled] = np.linspace(low, high, n_bins, axis=-1)
    # The last edge is open: without the margin the largest value would fall beyond the last bin.
    edges[filled, -1] += LAST_EDGE_MARGIN
    constant = filled[low == high]
    edges[constant] = np.nan
    edges[constant, 0] = low[low == high] - CONSTANT_MARGIN
    edges[constant, 1] = low[low == high] + CONSTANT_MARGIN
    return edges


def _count_edges(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    """Fill ``edges``: zero, and 1.5, 2.5, 4.5, 8.5, ... units of the cell."""
    filled = np.flatnonzero(np.diff(values.indptr))
    if len(filled):
        unit = _count_units(values, filled)
        upper = np.concatenate([[0], 2.0 ** np.arange(edges.shape[1] - 2) + 0.5])
        edges[filled, :-1] = np.log1p(unit[:, None] * upper)
        edges[filled, -1] = np.inf
    return edges


def _count_units(values: sparse.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Return the unit of each of the cells ``rows``: 1 where they hold counts, else the median value.

    The median puts half of the entries of such a cell into the first bin, where most counts are. In units of the
    smallest value nearly all would be in the last.
    """
    linear = np.expm1(values.data.astype(np.float64))
    integer = np.rint(linear)
    is_integer = (integer >= 1) & (np.abs(linear - integer) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * linear)
    starts, sizes = values.indptr[rows], np.diff(values.indptr)[rows]
    n_integers = np.add.reduceat(is_integer, starts, dtype=np.int64)
    units = np.ones(len(rows))
    for number in np.flatnonzero(n_integers < INTEGER_FRACTION * sizes):
        own = values.data[starts[number] : starts[number] + sizes[number]]
        units[number] = np.expm1(np.median(own.astype(float)))
    return units


def assign_bins(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    """Return the bin (1, 2, ...) of every explicit entry: the number of its cell's edges that are not above it."""
    sizes = np.diff(values.indptr)
    data = values.data.astype(np.float64)
    bins = np.zeros(len(data), dtype=np.uint8)
    for column in range(edges.shape[1]):
        bins += data >= np.repeat(edges[:, column], sizes)
    return bins


def bin_values(
    values: sparse.csr_matrix, bins: np.ndarray, n_bins: int = 5, *, typical: np.ndarray | None = None
) -> np.ndarray:
    """Compute the value of each bin but zero in each cell, to convert predicted bins to expression.

    The mean of the cell's own entries in that bin; where there are none, ``typical``, by default the centre of the bin
    between the smallest and the largest value of the cell; for a cell without entries, the means over all cells.

    Parameters
    ----------
    values
        (cells, genes), visible entries, on the scale of the prediction.
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
    filled, low, high = _extremes(values)
    if len(filled) and typical is not None:
        result = np.where(counts.sum(0) > 0, result, typical[filled].mean(0))
        result[filled] = typical[filled]
    elif len(filled):
        result[filled] = low[:, None] + (np.arange(n_bins) + 0.5) / n_bins * (high - low)[:, None]
    np.divide(sums, counts, out=result, where=counts > 0)
    return result.astype(np.float32)


def count_bin_values(binned: sparse.csr_matrix, values: sparse.csr_matrix, n_bins: int) -> np.ndarray:
    """Compute the middle of each bin of counts but zero, (cells, n_bins - 1), on the scale of ``values``.

    Parameters
    ----------
    binned
        (cells, genes), visible entries: ``log1p`` of counts or other values x.
    values
        The same entries: logarithms, to base e, 2 or 10, of 1 + x times a factor of each cell.
    n_bins
        Number of bins, zero included.
    """
    highest = 2.0 ** np.arange(n_bins - 1)
    lowest = np.concatenate([[1], highest[:-1] + 1])
    middle = np.sqrt(lowest * highest)
    result = np.tile(np.log1p(middle), (binned.shape[0], 1))
    filled, lowest_binned, _ = _extremes(binned)
    if len(filled):
        log_of_base = np.log(_log_base(binned, values))
        linear = np.expm1(_extremes(values)[1] * log_of_base)
        factor = linear / np.expm1(lowest_binned) * _count_units(binned, filled)
        result[filled] = np.log1p(factor[:, None] * middle) / log_of_base
    return result


def _log_base(binned: sparse.csr_matrix, values: sparse.csr_matrix) -> float:
    """Return the base of the logarithms ``values`` for which each cell's values are multiples of those binned."""
    if np.array_equal(binned.data, values.data):
        return LOG_BASES[0]
    log_binned = np.log(np.expm1(binned.data.astype(np.float64)))

    def spread(base: float) -> float:
        ratio = np.log(np.expm1(values.data.astype(np.float64) * np.log(base))) - log_binned
        _, low, high = row_extremes(with_data(values, ratio))
        return float((high - low).sum())

    return min(LOG_BASES, key=spread)


def _extremes(values: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    filled, low, high = row_extremes(values)
    return filled, low.astype(np.float64), high.astype(np.float64)
