"""Draw cells of every label at random."""

from __future__ import annotations

import numpy as np
import pandas as pd


def rank_within_labels(labels: np.ndarray, seed: int, usable: np.ndarray | None = None) -> np.ndarray:
    """Put the cells of each label in a random order.

    Parameters
    ----------
    labels
        Label of each cell, (n_cells,).
    seed
        Decides the order.
    usable
        Cells that take part, bool (n_cells,); None: all.

    Returns
    -------
    Rank of each cell among those of its label, from 0, int (n_cells,); -1 for cells that do not take part.
    """
    rows = np.arange(len(labels)) if usable is None else np.flatnonzero(usable)
    order = np.random.default_rng(seed).permutation(rows)
    ranks = np.full(len(labels), -1)
    ranks[order] = pd.Series(labels[order]).groupby(labels[order]).cumcount()
    return ranks


def draw_per_label(labels: np.ndarray, n_cells: int, seed: int, usable: np.ndarray | None = None) -> np.ndarray:
    """Draw at most ``n_cells`` cells of each label; returns their rows, increasing.

    Parameters
    ----------
    labels, seed, usable
        See :func:`rank_within_labels`.
    n_cells
        A label with fewer cells is taken as a whole.
    """
    ranks = rank_within_labels(labels, seed, usable)
    return np.flatnonzero((ranks >= 0) & (ranks < n_cells))
