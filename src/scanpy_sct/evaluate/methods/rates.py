"""What several methods share: means and rates of groups of cells, from visible entries alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scanpy_sct.evaluate.observed import Observed


def group_members(groups: np.ndarray) -> sparse.csr_matrix:
    """Tell which cells belong to each group.

    Parameters
    ----------
    groups
        int (n_cells,): the group of each cell, 0, 1, ...

    Returns
    -------
    (n_groups, n_cells), 1 where a cell belongs to a group.
    """
    return sparse.csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))))


def visible_share(observed: Observed) -> np.ndarray:
    """Share of the cells in which each gene is visible, float64 (n_genes,).

    Methods that take hidden entries for zeros come out too low by about this factor.
    """
    return 1 - observed.hidden.mean(axis=0)


def gene_means(observed: Observed, values: sparse.csr_matrix) -> np.ndarray:
    """Mean of each gene over the cells that show it, (1, n_genes); 0 where none does."""
    n_visible = (~observed.hidden).sum(axis=0)
    return np.asarray(values.sum(axis=0, dtype=np.float64)).reshape(1, -1) / np.maximum(n_visible, 1)


def group_means(observed: Observed, values: sparse.csr_matrix, members: sparse.csr_matrix) -> np.ndarray:
    """Mean of each gene over the cells of a group that show it; where none does, over all cells that show it.

    Parameters
    ----------
    values
        (n_cells, n_genes), without hidden entries.
    members
        (n_groups, n_cells), 1 where a cell belongs to a group.

    Returns
    -------
    float64 (n_groups, n_genes).
    """
    n_visible = members.getnnz(axis=1)[:, None] - (members @ observed.hidden_ones).toarray()
    means = (members @ values).toarray() / np.maximum(n_visible, 1)
    return np.where(n_visible > 0, means, gene_means(observed, values))


def dataset_rates(observed: Observed) -> np.ndarray:
    """Divide the counts of each gene by the summed depth of the cells that show it, (1, n_genes); 0 if none does."""
    counts = np.asarray(observed.counts.sum(axis=0, dtype=np.float64)).ravel()
    exposure = observed.depth @ ~observed.hidden
    return np.divide(counts, exposure, out=np.zeros_like(counts), where=exposure > 0)[None]


def pooled_rates(observed: Observed, members: sparse.csr_matrix, prior_cells: float) -> np.ndarray:
    """Compute the rates of :func:`dataset_rates` within groups of cells, a little shrunk.

    Each group is treated as if it held `prior_cells` more cells of mean depth that follow the rates of the whole
    data set. Without them a gene that no cell of a group expresses would be called impossible in all of them.

    Parameters
    ----------
    members
        (n_groups, n_cells), 1 where a cell belongs to a group.
    prior_cells
        How many cells are added; not less than 0.

    Returns
    -------
    Counts for each unit of depth, float64 (n_groups, n_genes).
    """
    prior = prior_cells * observed.depth.mean()
    counts = (members @ observed.counts).toarray() + prior * dataset_rates(observed)
    exposure = (members @ observed.depth)[:, None] - (members @ observed.hidden_depth).toarray() + prior
    return np.divide(counts, exposure, out=np.zeros_like(exposure), where=exposure > 0)


def to_visible_total(expected: np.ndarray, observed: Observed, rows: slice) -> np.ndarray:
    """Rescale each cell so that its visible entries are expected to hold, in sum, the counts that they do hold.

    Parameters
    ----------
    expected
        (n_rows, n_genes): expected expression in a unit that may differ from cell to cell.
    rows
        The cells.

    Returns
    -------
    Expected counts, (n_rows, n_genes); 0 for a cell that is expected to hold nothing where it is visible.
    """
    total = expected.sum(axis=1, where=~observed.hidden[rows], dtype=np.float64)
    return expected * np.divide(observed.depth[rows], total, out=np.zeros_like(total), where=total > 0)[:, None]
