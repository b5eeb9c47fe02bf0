"""Find cells that are in an object more than once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

MIN_GENES = 50
"""Cells with fewer detected genes may have the same values by chance."""


def copies(matrix: sparse.csr_matrix) -> np.ndarray:
    """Find the rows of ``matrix`` (cells, genes) with the values of an earlier row.

    Returns
    -------
    (n_copies, 2) rows: that of the copy, and the first one with the same values.
    """
    rich = np.flatnonzero(matrix.getnnz(axis=1) >= MIN_GENES)
    # Sums of the same values in the same order are the same; those of other values are not, with random weights.
    sums = (matrix @ np.random.default_rng(0).normal(size=matrix.shape[1]))[rich]
    _, first, number = np.unique(sums, return_index=True, return_inverse=True)
    is_copy = first[number] != np.arange(len(rich))
    return np.stack([rich[is_copy], rich[first[number[is_copy]]]], axis=1)


def copies_remark(matrix: sparse.csr_matrix, names: Sequence[str], source: str) -> str:
    """Return a warning about copies; "" if there are none. ``names`` (cells,) are those of the rows."""
    found = copies(matrix)
    if not len(found):
        return ""
    copy, first = found[0]
    return (
        f"{len(found):,} of {matrix.shape[0]:,} cells of {source} have exactly the values of another cell, such as "
        f"{names[copy]!r} those of {names[first]!r}. Masked values of one can be read off the other, so that recovery "
        "and other measures of quality are too good; keep one of each."
    )
