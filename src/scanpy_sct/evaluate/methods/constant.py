"""Means: the least that a method has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.evaluate.methods.rates import gene_means, group_means, group_members, pooled_rates
from scanpy_sct.evaluate.observed import Guess
from scanpy_sct.evaluate.registry import method

if TYPE_CHECKING:
    from scipy import sparse

    from scanpy_sct.evaluate.observed import Observed


@method("predict_zero")
def predict_zero(observed: Observed) -> Guess:
    """Say of every entry that it is not expressed, which is true of most."""
    return Guess(*np.zeros((3, observed.n_wanted), dtype=np.float32))


@method("gene_mean")
def gene_mean(observed: Observed) -> Guess:
    """Guess the same for every cell: mean count, detection rate and mean log value of the gene's visible entries."""

    def at_wanted(values: sparse.csr_matrix) -> np.ndarray:
        means = gene_means(observed, values)
        return observed.at_wanted(lambda rows: means)

    return Guess(at_wanted(observed.counts), at_wanted(observed.log.sign()), at_wanted(observed.log))


@method("bag_mean")
def bag_mean(observed: Observed) -> Guess:
    """Take the mean of the cells of the bag that show the gene, as a pseudobulk does: deep and shallow cells alike.

    Where no cell of the bag shows it, the mean of all cells that do.
    """
    members = group_members(observed.bags)

    def at_wanted(values: sparse.csr_matrix) -> np.ndarray:
        means = group_means(observed, values, members)
        return observed.at_wanted(lambda rows: means[observed.bags[rows]])

    return Guess(at_wanted(observed.counts), at_wanted(observed.log.sign()), at_wanted(observed.log))


@method("cell_type_mean", needs=("cell_types",))
def cell_type_mean(observed: Observed, prior_cells: float = 1.0) -> np.ndarray:
    """Multiply the rate of the gene among the cells of the same type by the depth of the cell.

    As `poisson_bag`, with a cell type in place of a bag: the rates are shrunk as
    :func:`~scanpy_sct.evaluate.methods.rates.pooled_rates` tells.
    """
    _, types = np.unique(observed.cell_types, return_inverse=True)
    rates = pooled_rates(observed, group_members(types), prior_cells)
    return observed.at_wanted(lambda rows: rates[types[rows]] * observed.depth[rows, None])
