"""How long an imputation will take."""

from __future__ import annotations

import time

import numpy as np

from scanpy_sct.impute import Imputer
from scanpy_sct.impute.cell_weight import PROBE_BAGS, WEIGHTS
from scanpy_sct.plan.bags import Bag
from scanpy_sct.run.inputs import bag_inputs, token_rules

SECONDS_PER_PASS = 0.4
"""To plan bags; measured, like the next three, on one core of a server."""
SECONDS_PER_FITTED_ENTRY = 0.065e-6
"""In each pass: to reconstruct one entry of the cells of the fit from the data."""
SECONDS_PER_BLENDED_ENTRY = 0.22e-6
"""To estimate calibration and blend from one entry of the cells of the fit."""
SECONDS_PER_ENTRY = 0.2e-6
"""To calibrate, blend and write one entry."""


def seconds_to_impute(imputer: Imputer, n_bags: int) -> float:
    """Estimate the seconds of :func:`scanpy_sct.tl.impute` with its defaults, from the time of one bag.

    Parameters
    ----------
    imputer
        The imputation, not yet begun.
    n_bags
        Bags of a pass over all cells.
    """
    plan, cells = imputer.plan, imputer.cells
    n_cells, n_fit = imputer.reader.n_cells, len(cells.fit_cells.rows)
    bag = seconds_for_a_bag(imputer)
    n_passes, n_fit_bags = plan.passes.n, 0 if cells.is_one_block else n_bags * n_fit / n_cells
    total = bag * (n_bags + n_fit_bags) * n_passes
    if imputer.runner.network.has_cell_embedding:
        total += bag * min(n_bags, PROBE_BAGS) * len(WEIGHTS)
    n_genes = len(plan.columns)
    total += n_passes * (SECONDS_PER_PASS * len(cells.blocks) + n_fit * n_genes * SECONDS_PER_FITTED_ENTRY)
    return total + n_genes * (n_fit * SECONDS_PER_BLENDED_ENTRY + n_cells * SECONDS_PER_ENTRY)


def seconds_for_a_bag(imputer: Imputer) -> float:
    """Time from tokens to predictions of one bag, as in the first pass of an imputation."""
    plan, runner = imputer.plan, imputer.runner
    # Of any cells of one sample: which ones takes no time to decide.
    sample = np.bincount(imputer.reader.samples).argmax()
    rows = np.flatnonzero(imputer.reader.samples == sample)[: runner.checkpoint.config.bag_size]
    block = imputer.read(rows)
    masks = plan.masks(block)
    bag = Bag(np.arange(len(rows)), len(rows))
    seconds = 0.0
    # A network spends its first bag on getting ready, an accelerator much of it.
    for _ in range(2):
        start = time.perf_counter()
        rules = token_rules(runner.checkpoint, plan.genes)
        inputs = bag_inputs(
            block, [bag], rules, lambda cells: masks.masked(0, cells), lambda cells: masks.targets(0, cells)
        )
        for _bag, _prediction in runner.predict(inputs):
            seconds = time.perf_counter() - start
    return seconds
