"""Rescale predictions to the visible counts."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate import Observed


def visible_fraction(observed: Observed) -> np.ndarray:
    """Fraction of the cells in which each gene is visible, float64 (n_genes,).

    Methods that take masked entries for zeros come out too low by about this factor.
    """
    return 1 - observed.masked.mean(axis=0)


def to_visible_total(expected: np.ndarray, observed: Observed, rows: slice) -> np.ndarray:
    """Rescale each cell so that the expected counts of its visible entries sum to what was counted there.

    Parameters
    ----------
    expected
        (n_rows, n_genes): expected expression in a unit that may differ from cell to cell.
    rows
        The cells.

    Returns
    -------
    Expected counts, (n_rows, n_genes); 0 for a cell in which nothing is expected where it is visible.
    """
    total = expected.sum(axis=1, where=~observed.masked[rows], dtype=np.float64)
    return expected * np.divide(observed.depth[rows], total, out=np.zeros_like(total), where=total > 0)[:, None]
