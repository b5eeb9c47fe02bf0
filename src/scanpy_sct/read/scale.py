"""Scales of expression values (counts, linear or log), and conversions between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import LOG_BASES, entry_rows, log_normalise, row_extremes, row_totals, with_data

if TYPE_CHECKING:
    from collections.abc import Callable

Scale = Literal["counts", "linear", "log"]
TokenScale = Literal["log1p_counts", "log1p_cp10k"]

MAX_LOG = 20.0
"""Largest log expression value (a million is 13.8 in natural, 19.9 in binary logarithms)."""

INTEGER_TOLERANCE = 1e-3
"""Distance from an integer of a count that was converted to a logarithm and back."""

LARGEST_TESTED_RATIO = 20.0
"""Larger ratios of two values of a cell are all close to an integer in relative terms."""

N_RUNS, RUN_LENGTH = 40, 50
"""Evenly spaced runs of consecutive rows on which properties of the whole data are found: a file is read in few pieces,
and no sample of some size is missed."""
N_SAMPLED_ROWS = N_RUNS * RUN_LENGTH

N_BLOCK_ROWS = 10_000
"""Rows converted at a time."""

_SAME_TOTAL = 1e-3  # relative range of the totals of rows that are normalised to one total
_MAX_SMALLEST_COUNT = 3  # a cell's smallest non-zero count is 1, rarely 2 or 3
_INTEGER_FRACTION = 0.95


def contradicting_entries(matrix: sparse.csr_matrix, scale: Scale) -> np.ndarray:
    """Return which entries cannot be of a ``scale`` that was found on other rows, (n_entries,) bool."""
    if scale == "log":
        return matrix.data > MAX_LOG
    if scale == "counts":
        return ~is_integer(matrix.data)
    return np.zeros(matrix.nnz, dtype=bool)


def to_log(matrix: sparse.csr_matrix, scale: Scale) -> sparse.csr_matrix:
    """Convert values of a ``scale`` to the log scale of the input: `log1p`, or unchanged."""
    return matrix if scale == "log" else with_data(matrix, np.log1p(matrix.data))


@dataclass(frozen=True)
class TokenValues:
    """Conversion of values to those that are binned, as similar as possible for counts and log-normalised values.

    Properties of the whole data are found once; cells are then converted one by one, so that a block of cells gives
    the same numbers as all of them.
    """

    scale: Scale
    target: TokenScale
    """`"log1p_counts"`: log1p of counts; normalised values are converted back to counts if they were counts (within a
    cell, integer multiples of one unit). `"log1p_cp10k"`: log1p of values normalised to 10,000 per cell; log values
    are normalised again only if all cells have one total, since otherwise genes may be missing. Log values that cannot
    be converted back are used as they are."""
    base: float | None = None
    """Base of the logarithm of the data, if it is undone."""
    were_counts: bool = False
    """Whether normalised values are converted back to counts."""

    @classmethod
    def found_in(cls, matrix: sparse.csr_matrix, scale: Scale, target: TokenScale) -> TokenValues:
        """Find the properties of ``matrix`` (cells, all genes of the data) on the rows of :func:`sampled_rows`."""
        if target not in get_args(TokenScale):
            msg = f"target must be one of {', '.join(map(repr, get_args(TokenScale)))}, found {target!r}."
            raise ValueError(msg)
        if scale == "counts":
            return cls(scale, target)
        base, sample = None, sample_rows(matrix)
        if scale == "log":
            base = find_base(sample, were_counts if target == "log1p_counts" else have_one_total)
            if base is None:
                return cls(scale, target)
            sample = with_data(sample, exp1m(sample.data, base))
        return cls(scale, target, base, were_counts(sample))

    def is_log_scale(self, matrix: sparse.csr_matrix) -> bool:
        """Whether the result equals the values on the log scale of the input: `log1p` of exact integers."""
        return (
            self.scale == "counts"
            and self.target == "log1p_counts"
            and bool((matrix.data == np.rint(matrix.data)).all())
        )

    def of(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Convert the cells of ``matrix`` (cells, all genes of the data); float32, the same entries."""
        if self.scale == "log" and self.base is None:
            return matrix
        values = np.empty(matrix.nnz, dtype=np.float32)
        # Every step is by row, so blocks of rows only limit the memory.
        for start in range(0, matrix.shape[0], N_BLOCK_ROWS):
            block = matrix[start : start + N_BLOCK_ROWS]
            if self.base is not None:
                block = with_data(block, exp1m(block.data, self.base))
            block = _recover_counts(block) if self.were_counts else block
            block = with_data(block, _rounded(block.data)) if self.scale == "counts" else block
            first = matrix.indptr[start]
            values[first : first + block.nnz] = (
                np.log1p(block.data) if self.target == "log1p_counts" else log_normalise(block).data
            )
        return with_data(matrix, values)


def counts_unit(log_values: sparse.csr_matrix) -> np.ndarray | None:
    """Return :func:`count_units` of `log1p` values if they are of counts, else None."""
    sample = sample_rows(log_values)
    if not were_counts(with_data(sample, np.expm1(sample.data.astype(np.float64)))):
        return None
    return count_units(log_values, "log")


def count_units(log_values: sparse.csr_matrix, scale: Scale) -> np.ndarray:
    """Find the value of a single count in each cell, on the linear scale of `log1p` values that were counts.

    Parameters
    ----------
    log_values
        Cells x genes, natural logarithm of 1 + value, positive entries only.
    scale
        See :func:`scanpy_sct.read.found_scale.find_scale`.

    Returns
    -------
    `(n_cells,)`, 1 for counts and for empty cells.
    """
    unit = np.ones(log_values.shape[0])
    if scale == "counts":
        return unit
    linear = with_data(log_values, np.expm1(log_values.data.astype(np.float64)))
    filled, lowest, _ = row_extremes(linear)
    smallest = np.maximum(smallest_counts(linear, row_ratios(linear)), 1)
    unit[filled] = lowest / smallest[filled]
    return unit


def counts_of(log_values: sparse.csr_matrix, units: np.ndarray) -> sparse.csr_matrix:
    """Convert `log1p` values to counts, float32, not rounded; ``units`` (n_cells,) are from :func:`count_units`."""
    per_entry = np.repeat(units, np.diff(log_values.indptr))
    return with_data(log_values, (np.expm1(log_values.data.astype(np.float64)) / per_entry).astype(np.float32))


def holds_counts(values: sparse.csr_matrix, scale: Scale) -> bool:
    """Return whether values on the log scale (from :func:`to_log`) can be converted to counts.

    ``scale`` is that of the input, see :func:`scanpy_sct.read.found_scale.find_scale`.
    """
    if scale == "counts":
        return True
    if scale == "linear":
        return counts_unit(values) is not None
    return find_base(sample_rows(values), were_counts) is not None


def find_base(sample: sparse.csr_matrix, fulfil: Callable[[sparse.csr_matrix], bool]) -> float | None:
    """Return the first base of log(x + 1) for which the values x fulfil a condition, else None."""
    for base in LOG_BASES:
        if fulfil(with_data(sample, exp1m(sample.data, base))):
            return base
    return None


def exp1m(values: np.ndarray, base: float) -> np.ndarray:
    """Return `base**values - 1` in float64, exact for small values."""
    return np.expm1(values.astype(np.float64) * np.log(base))


def have_one_total(matrix: sparse.csr_matrix) -> bool:
    """Return whether at least three rows have entries, and all of them the same total."""
    totals = row_totals(matrix)
    totals = totals[totals > 0]
    return len(totals) >= 3 and np.ptp(totals) <= _SAME_TOTAL * totals.mean()


def were_counts(matrix: sparse.csr_matrix) -> bool:
    """Return whether normalised values were counts: nearly all are in rows of integer multiples of one unit."""
    is_multiple = (smallest_counts(matrix, row_ratios(matrix)) > 0)[entry_rows(matrix)]
    return matrix.nnz > 0 and is_multiple.mean() >= _INTEGER_FRACTION


def _recover_counts(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Convert normalised values back to counts; rows that were not counts stay as they are."""
    ratios = row_ratios(matrix)
    smallest = smallest_counts(matrix, ratios)[entry_rows(matrix)]
    counts = np.rint(ratios * smallest)
    # float32 like counts that are read, so that their logarithms are equal.
    return with_data(matrix, np.where(smallest > 0, counts, matrix.data).astype(np.float32))


def smallest_counts(matrix: sparse.csr_matrix, ratios: np.ndarray) -> np.ndarray:
    """Return the smallest non-zero count (1, 2 or 3) of each row if its values are multiples of one unit, else 0."""
    n_rows, row_of_entry = matrix.shape[0], entry_rows(matrix)
    found = np.zeros(n_rows, dtype=np.int32)
    tested = ratios < LARGEST_TESTED_RATIO
    # A row takes the first that fits, and is not tested again.
    for smallest in range(1, _MAX_SMALLEST_COUNT + 1):
        rows, counts = row_of_entry[tested], ratios[tested] * smallest
        is_close = np.abs(counts - np.rint(counts)) < 0.01 * counts / smallest + 0.01
        n_tested = np.bincount(rows, minlength=n_rows)
        n_close = np.bincount(rows[is_close], minlength=n_rows)
        fits = (n_tested > 0) & (n_close >= _INTEGER_FRACTION * n_tested)
        found[fits] = smallest
        tested &= ~fits[row_of_entry]
    return found


def row_ratios(matrix: sparse.csr_matrix) -> np.ndarray:
    """Divide each entry by the smallest of its row."""
    filled, lowest, _ = row_extremes(matrix)
    return matrix.data.astype(np.float64) / np.repeat(lowest, np.diff(matrix.indptr)[filled])


def _rounded(counts: np.ndarray) -> np.ndarray:
    """Round counts, except those that would become zero."""
    rounded = np.rint(counts)
    return np.where(rounded > 0, rounded, counts)


def is_integer(values: np.ndarray) -> np.ndarray:
    """Return which values are integers, up to rounding errors."""
    return np.abs(values - np.rint(values)) <= INTEGER_TOLERANCE


def are_integers(values: np.ndarray) -> bool:
    """Return whether all values are integers, up to rounding errors."""
    return bool(is_integer(values).all())


def sampled_rows(n_rows: int) -> np.ndarray | None:
    """Return the rows on which properties of all data are found: evenly spaced runs; None: all rows, in small data."""
    if n_rows <= N_SAMPLED_ROWS:
        return None
    starts = np.linspace(0, n_rows - RUN_LENGTH, N_RUNS).astype(np.int64)
    return (starts[:, None] + np.arange(RUN_LENGTH)).ravel()


def sample_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the rows of :func:`sampled_rows`."""
    rows = sampled_rows(matrix.shape[0])
    return matrix if rows is None else matrix[rows]
