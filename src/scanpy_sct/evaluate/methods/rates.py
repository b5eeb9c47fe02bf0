"""Means and rates of groups of cells, from visible entries alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scanpy_sct.evaluate.observed import Observed


def group_members(groups: np.ndarray) -> sparse.csr_matrix:
    """Turn the group of each cell, int (n_cells,), into a matrix (n_groups, n_cells), 1 where a cell belongs to one."""
    return sparse.csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))))


def gene_means(observed: Observed, values: sparse.csr_matrix) -> np.ndarray:
    """Mean of each gene over the cells in which it is visible, (1, n_genes); 0 where there are none."""
    n_visible = (~observed.masked).sum(axis=0)
    return np.asarray(values.sum(axis=0, dtype=np.float64)).reshape(1, -1) / np.maximum(n_visible, 1)


def group_means(observed: Observed, values: sparse.csr_matrix, members: sparse.csr_matrix) -> np.ndarray:
    """Mean of each gene over the cells of a group in which it is visible; where there are none, over all such cells.

    `values` (n_cells, n_genes) lack the masked entries, `members` (n_groups, n_cells) is 1 where a cell belongs to a
    group; returns float64 (n_groups, n_genes).
    """
    n_visible = members.getnnz(axis=1)[:, None] - (members @ observed.masked_ones).toarray()
    means = (members @ values).toarray() / np.maximum(n_visible, 1)
    return np.where(n_visible > 0, means, gene_means(observed, values))


def dataset_rates(observed: Observed) -> np.ndarray:
    """Divide each gene's counts by the summed depth of the cells in which it is visible, (1, n_genes); 0 if none."""
    counts = np.asarray(observed.counts.sum(axis=0, dtype=np.float64)).ravel()
    exposure = observed.depth @ ~observed.masked
    return np.divide(counts, exposure, out=np.zeros_like(counts), where=exposure > 0)[None]


def pooled_rates(observed: Observed, members: sparse.csr_matrix, prior_cells: float) -> np.ndarray:
    """Compute the rates of :func:`dataset_rates` within groups of cells, a little shrunk.

    Each group is treated as if it held `prior_cells` more cells of mean depth that follow the rates of the whole
    data set. Without them, a gene detected in no cell of a group would have the probability 0 in all of them.

    `members` (n_groups, n_cells) is 1 where a cell belongs to a group; returns counts per unit of depth, float64
    (n_groups, n_genes).
    """
    prior = prior_cells * observed.depth.mean()
    counts = (members @ observed.counts).toarray() + prior * dataset_rates(observed)
    exposure = (members @ observed.depth)[:, None] - (members @ observed.masked_depth).toarray() + prior
    return np.divide(counts, exposure, out=np.zeros_like(exposure), where=exposure > 0)
