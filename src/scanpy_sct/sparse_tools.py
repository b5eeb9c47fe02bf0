"""Operations on CSR matrices of cells x genes, and on indices; none changes its input."""

from __future__ import annotations

import numpy as np
from scipy import sparse

COUNTS_PER_CELL = 1e4
"""Total to which the counts of a cell are normalised before taking logarithms, as is usual with scanpy."""
LOG_BASES = (np.e, 2.0, 10.0)
"""Bases of logarithms that expression comes in."""


def entry_rows(matrix: sparse.csr_matrix) -> np.ndarray:
    """Return the row of every stored entry, (n_entries,)."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def as_slice(index: np.ndarray) -> np.ndarray | slice:
    """Return consecutive indices as a slice, which picks a part of an array without a copy."""
    if len(index) and index[-1] - index[0] == len(index) - 1 and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def with_data(matrix: sparse.csr_matrix, data: np.ndarray) -> sparse.csr_matrix:
    """Return the same entries with other values; the index arrays are shared."""
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def keep_entries(matrix: sparse.csr_matrix, keep: np.ndarray) -> sparse.csr_matrix:
    """Return a new matrix of the entries for which ``keep`` (n_entries,) is true."""
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def without_masked(matrix: sparse.csr_matrix, masked: np.ndarray | sparse.csr_matrix | None) -> sparse.csr_matrix:
    """Return a new matrix without the entries that ``masked``, boolean and of the same shape, marks; None: as it is."""
    if masked is None:
        return matrix
    if masked.shape != matrix.shape:
        msg = f"masked has shape {masked.shape}, expected {matrix.shape}."
        raise ValueError(msg)
    if sparse.issparse(masked):
        kept = sparse.csr_matrix(matrix - matrix.multiply(masked))
        kept.eliminate_zeros()
        return kept
    return keep_entries(matrix, ~masked[entry_rows(matrix), matrix.indices])


def row_totals(matrix: sparse.csr_matrix) -> np.ndarray:
    """Return the sum of each row, float64 (n_rows,)."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()


def row_extremes(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows that have entries, and the smallest and the largest entry of each of them."""
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if len(filled) == 0:
        return filled, matrix.data[:0], matrix.data[:0]
    starts = matrix.indptr[filled]
    return filled, np.minimum.reduceat(matrix.data, starts), np.maximum.reduceat(matrix.data, starts)


def log_normalise(counts: sparse.csr_matrix, totals: np.ndarray | None = None) -> sparse.csr_matrix:
    """Return ``log1p`` of counts per 10,000.

    Parameters
    ----------
    counts
        (cells, genes) on the linear scale.
    totals
        (cells,) total that becomes 10,000; by default the sum of the row.
    """
    totals = row_totals(counts) if totals is None else totals
    factor = COUNTS_PER_CELL / np.maximum(totals, 1e-12)
    return with_data(counts, np.log1p(counts.data * np.repeat(factor, np.diff(counts.indptr))))
