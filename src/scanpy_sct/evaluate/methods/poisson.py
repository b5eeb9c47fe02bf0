"""Counts as a Poisson process: a gene's rate times the depth of the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanpy_sct.evaluate.methods.rates import dataset_rates, group_members, pooled_rates
from scanpy_sct.evaluate.registry import method

if TYPE_CHECKING:
    import numpy as np

    from scanpy_sct.evaluate.observed import Observed


@method("poisson_dataset")
def poisson_dataset(observed: Observed) -> np.ndarray:
    """Predict the gene's fraction of all counts of the data set, times the depth of the cell.

    rate = visible counts of the gene / summed depth of the cells in which the gene is visible. Depth is a cell's
    visible total in both places, so the fraction of masked entries cancels; for these depths the rate is the
    maximum-likelihood estimate.
    """
    rates = dataset_rates(observed)
    return observed.at_targets(lambda rows: rates * observed.depth[rows, None])


@method("poisson_bag")
def poisson_bag(observed: Observed, prior_cells: float = 1.0) -> np.ndarray:
    """Do as `poisson_dataset`, with the rates of the cell's own bag: its pseudobulk.

    The rates are shrunk, see :func:`~scanpy_sct.evaluate.methods.rates.pooled_rates`. A masked entry adds neither
    counts nor depth to the rate of its gene, so that it has no part in its own prediction.
    """
    rates = pooled_rates(observed, group_members(observed.bags), prior_cells)
    return observed.at_targets(lambda rows: rates[observed.bags[rows]] * observed.depth[rows, None])
