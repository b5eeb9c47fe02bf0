"""Means: the least that a method has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.evaluate.methods.rates import gene_means, group_means, group_members, pooled_rates
from scanpy_sct.evaluate.observed import Prediction
from scanpy_sct.evaluate.registry import method

if TYPE_CHECKING:
    from scipy import sparse

    from scanpy_sct.evaluate.observed import Observed


@method("predict_zero")
def predict_zero(observed: Observed) -> Prediction:
    """Predict that no entry is detected, which is true of most."""
    return Prediction(*np.zeros((3, observed.n_targets), dtype=np.float32))


@method("gene_mean")
def gene_mean(observed: Observed) -> Prediction:
    """Predict the same for every cell: mean count, detection rate and mean log value of the gene's visible entries."""

    def at_targets(values: sparse.csr_matrix) -> np.ndarray:
        means = gene_means(observed, values)
        return observed.at_targets(lambda rows: means)

    detected = observed.log_values.sign()
    return Prediction(at_targets(observed.counts), at_targets(detected), at_targets(observed.log_values))


@method("bag_mean")
def bag_mean(observed: Observed) -> Prediction:
    """Predict the mean of the bag's cells in which the gene is visible, as a pseudobulk: deep and shallow cells alike.

    Where it is visible in no cell of the bag, the mean of all cells in which it is.
    """
    members = group_members(observed.bags)

    def at_targets(values: sparse.csr_matrix) -> np.ndarray:
        means = group_means(observed, values, members)
        return observed.at_targets(lambda rows: means[observed.bags[rows]])

    detected = observed.log_values.sign()
    return Prediction(at_targets(observed.counts), at_targets(detected), at_targets(observed.log_values))


@method("cell_type_mean", needs="labels")
def cell_type_mean(observed: Observed, prior_cells: float = 1.0) -> np.ndarray:
    """Multiply the rate of the gene among the cells with the same label by the depth of the cell.

    As `poisson_bag`, with a cell type in place of a bag; the rates are shrunk, see
    :func:`~scanpy_sct.evaluate.methods.rates.pooled_rates`.
    """
    _, types = np.unique(observed.labels, return_inverse=True)
    rates = pooled_rates(observed, group_members(types), prior_cells)
    return observed.at_targets(lambda rows: rates[types[rows]] * observed.depth[rows, None])
