"""Find values that were changed before: smoothed, scaled, binarised, or turned into logarithms twice."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.read.scale import MAX_LOG, are_integers, sample_rows, were_counts
from scanpy_sct.sparse_tools import entry_rows, with_data

if TYPE_CHECKING:
    from scanpy_sct.read.scale import Scale

MIN_GENES = 20
"""With fewer genes that are detected often enough, nothing is said about their spread or their zeros."""
MIN_DETECTED = 0.05
"""Fraction of the cells in which such a gene is detected."""
MAX_ZEROS = 0.02
"""Fraction of zeros, at most, of values that were smoothed."""
SMALL = 0.02
"""Values that are this small a part of the median are smaller than any count, if there are hardly zeros."""
UNIT_SPREAD_WITHIN = 0.1
"""Difference from one of the standard deviation of genes that were scaled to one, in the cells that are looked at."""
MIN_MISSING_TWOS = 20
"""Cells and genes with a count of two or more that are expected, where there are none in values that were binarised."""


def remarks(matrix: sparse.csr_matrix, scale: Scale, source: str) -> list[str]:
    """Return warnings about how the values were changed, each with a remedy; none for measured values.

    Parameters
    ----------
    matrix
        Cells x genes, positive entries only; looked at on up to 2,000 rows.
    scale
        As they are read.
    source
        Name of the matrix in messages.
    """
    sample = sample_rows(matrix)
    if sample.nnz == 0:
        return []
    if _is_binary(sample):
        return [
            f"All positive values of {source} are {sample.data[0]:.4g}, as after binarising: how much of a gene was "
            "detected is lost. Pass the counts, if there are any."
        ]
    if scale == "counts":
        return []
    found = [_scaled(sample, source), _smoothed(sample, source)]
    if scale == "log":
        found.append(_logged_twice(sample, source))
    return [text for text in found if text]


def _is_binary(sample: sparse.csr_matrix) -> bool:
    """Return whether all values are the same, where counts of these detection rates would not be."""
    if sample.data.min() != sample.data.max():
        return False
    rates = np.minimum(sample.getnnz(axis=0) / sample.shape[0], 1 - 1e-9)
    # If counts have a Poisson distribution; in others, larger counts are even more frequent.
    means = -np.log1p(-rates)
    return bool(sample.shape[0] * (1 - np.exp(-means) * (1 + means)).sum() > MIN_MISSING_TWOS)


def _scaled(sample: sparse.csr_matrix, source: str) -> str:
    """Return a warning about genes that were divided by their largest value or their standard deviation."""
    often = sample.getnnz(axis=0) >= max(3, MIN_DETECTED * sample.shape[0])
    if often.sum() < MIN_GENES:
        return ""
    values = sample[:, np.flatnonzero(often)].astype(np.float64)
    remedy = "genes can no longer be compared with one another. Pass counts or log-normalised values"
    highest = values.max(axis=0).toarray().ravel()
    if np.median(highest) == highest.max() and not are_integers(sample.data):
        return f"Most genes of {source} have the same largest value, {highest.max():.4g}, as after scaling: {remedy}."
    variance = values.power(2).mean(axis=0).A1 - values.mean(axis=0).A1 ** 2
    spread = np.quantile(np.sqrt(np.maximum(variance, 0)), [0.05, 0.95])
    if np.abs(spread - 1).max() <= UNIT_SPREAD_WITHIN:
        return f"All genes of {source} have a standard deviation of one, as after `scanpy.pp.scale`: {remedy}."
    return ""


def _smoothed(sample: sparse.csr_matrix, source: str) -> str:
    """Return a warning about values with hardly any zeros, but with values that are smaller than a count can be."""
    cells = sample[np.flatnonzero(np.diff(sample.indptr))]
    genes = cells.getnnz(axis=0) > 0
    n_zeros = cells.shape[0] * int(genes.sum()) - cells.nnz
    if genes.sum() < MIN_GENES or n_zeros > MAX_ZEROS * cells.shape[0] * genes.sum():
        return ""
    medians = np.array([np.median(cells.data[a:b]) for a, b in pairwise(cells.indptr)])
    n_small = int((cells.data < SMALL * medians[entry_rows(cells)]).sum())
    if n_small <= max(n_zeros, 0.01 * cells.nnz):
        return ""
    return (
        f"{source} has hardly any zeros ({n_zeros / (n_zeros + cells.nnz):.1%}) but many values close to zero, as "
        "after smoothing or imputation: the recovery of genes says nothing then, since smoothed values are easy to "
        "predict. Pass the measured values."
    )


def _logged_twice(sample: sparse.csr_matrix, source: str) -> str:
    """Return a warning about values that are multiples of one unit after undoing two logarithms, but not after one."""
    once = with_data(sample, np.expm1(sample.data.astype(np.float64)))
    if once.data.max() > MAX_LOG or were_counts(once) or not were_counts(with_data(once, np.expm1(once.data))):
        return ""
    return (
        f"{source} seems to hold logarithms of logarithms (`log1p` twice, largest value {sample.data.max():.3g}). Undo "
        "one of them with `numpy.expm1`, or pass another matrix."
    )
