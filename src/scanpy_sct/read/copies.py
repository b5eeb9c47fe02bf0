"""Find cells that are in an object more than once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

MIN_GENES = 50
"""Cells with fewer detected genes may have the same values by chance."""
ROWS_AT_ONCE = 4096


def copies(matrix: sparse.csr_matrix) -> np.ndarray:
    """Find the rows of ``matrix`` (cells, genes) with the values of an earlier row.

    Returns
    -------
    (n_copies, 2) rows: that of the copy, and the first one with the same values.
    """
    rich = np.flatnonzero(matrix.getnnz(axis=1) >= MIN_GENES)
    # Sums of the same values in the same order are the same; those of other values are not, with random weights.
    weights = np.random.default_rng(0).normal(size=matrix.shape[1])
    parts = (matrix[start : start + ROWS_AT_ONCE] @ weights for start in range(0, matrix.shape[0], ROWS_AT_ONCE))
    sums = np.concatenate([np.zeros(0), *parts])[rich]
    _, first, number = np.unique(sums, return_index=True, return_inverse=True)
    is_copy = first[number] != np.arange(len(rich))
    return np.stack([rich[is_copy], rich[first[number[is_copy]]]], axis=1)


def copies_remark(matrix: sparse.csr_matrix, names: Sequence[str], n_cells: int, source: str) -> str:
    """Return a warning about copies; "" if there are none.

    ``names`` (cells,) are those of the rows, which may be some of the ``n_cells`` of ``source``.
    """
    found = copies(matrix)
    if not len(found):
        return ""
    copy, first = found[0]
    looked_at = "" if matrix.shape[0] == n_cells else " that were looked at"
    return (
        f"{len(found):,} of {matrix.shape[0]:,} cells of {source}{looked_at} have exactly the values of another cell, "
        f"such as {names[copy]!r} those of {names[first]!r}. Masked values of one can be read off the other, so that "
        "recovery and other measures of quality are too good; keep one of each."
    )
