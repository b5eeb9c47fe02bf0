"""Hide measured entries, so that predictions of them can be compared with what was measured."""

from __future__ import annotations

import numpy as np
from scipy import sparse

# Random numbers are drawn for this many rows at a time: the draw never needs more than a few hundred MB.
_ROWS_AT_ONCE = 1024


def hide_entries(
    n_cells: int,
    n_genes: int,
    fraction: float = 0.15,
    *,
    measured: np.ndarray | None = None,
    rng: int | np.random.Generator | None = 0,
) -> np.ndarray:
    """Choose the entries to hide, independently of what they hold.

    Every measured entry, zero or not, is hidden with probability `fraction`. One random number is drawn for every
    entry, measured or not: which entries of a gene are hidden does not depend on which other genes are measured.

    Parameters
    ----------
    n_cells, n_genes
        Shape of the table of cells by genes.
    fraction
        Share of the measured entries to hide, between 0 and 1 (both excluded).
    measured
        bool array (n_genes,): genes that can be hidden. None: all.
    rng
        Seed or generator.

    Returns
    -------
    bool array (n_cells, n_genes), True where hidden.

    Raises
    ------
    ValueError
        `fraction` is not between 0 and 1, or `measured` has another length than `n_genes`.
    """
    if not 0 < fraction < 1:
        msg = f"`fraction` must lie between 0 and 1, found {fraction}; 0.15 hides 15 % of the entries."
        raise ValueError(msg)
    measured = np.ones(n_genes, dtype=bool) if measured is None else np.asarray(measured, dtype=bool)
    if measured.shape != (n_genes,):
        msg = f"`measured` must have one value for each of the {n_genes} genes, found shape {measured.shape}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    hidden = np.zeros((n_cells, n_genes), dtype=bool)
    for start in range(0, n_cells, _ROWS_AT_ONCE):
        rows = hidden[start : start + _ROWS_AT_ONCE]
        rows[:] = generator.random(rows.shape, dtype=np.float32) < fraction
    hidden &= measured
    return hidden


def visible(values: sparse.csr_matrix, hidden: np.ndarray) -> sparse.csr_matrix:
    """Remove the hidden entries.

    Parameters
    ----------
    values
        (n_cells, n_genes), any scale; left as it is.
    hidden
        bool array of the same shape.

    Returns
    -------
    A new matrix of the same shape that stores the entries of `values` that are not hidden.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if values.shape != hidden.shape:
        msg = f"`hidden` must have the shape of `values`, {values.shape}, found {hidden.shape}."
        raise ValueError(msg)
    rows = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    keep = ~hidden[rows, values.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[values.indptr]
    return sparse.csr_matrix((values.data[keep], values.indices[keep], indptr), shape=values.shape)
