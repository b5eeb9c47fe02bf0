"""Draw cells of every label at random."""

from __future__ import annotations

import numpy as np
import pandas as pd


def rank_within_labels(labels: np.ndarray, seed: int, usable: np.ndarray | None = None) -> np.ndarray:
    """Rank the cells of each label in a random order.

    Parameters
    ----------
    labels
        (n_cells,) label of each cell.
    seed
        Seed of the order.
    usable
        (n_cells,) bool: cells to rank; None: all.

    Returns
    -------
    (n_cells,) integers: rank of each cell among those of its label, from 0; -1 for cells that are not usable.
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
        Largest number of cells of a label.
    """
    ranks = rank_within_labels(labels, seed, usable)
    return np.flatnonzero((ranks >= 0) & (ranks < n_cells))
