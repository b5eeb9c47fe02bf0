"""Expected run time of an imputation."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from scanpy_sct.impute import Imputer
from scanpy_sct.impute.cell_weight import PROBE_BAGS, WEIGHTS
from scanpy_sct.plan.bags import Bag
from scanpy_sct.run.inputs import BagInputs, token_rules
from scanpy_sct.run.threads import torch_threads

SECONDS_PER_PASS = 0.4
"""Planning of bags; measured, like the next three, on one core of a server."""
SECONDS_PER_FITTED_ENTRY = 0.02e-6
"""Low-rank reconstruction of one entry in one pass."""
SECONDS_PER_BLENDED_ENTRY = 0.15e-6
"""Fit of calibration and blend to one entry."""
SECONDS_PER_ENTRY = 0.075e-6
"""Calibration, blending and writing of one entry."""
SPEED_UP = 0.75
"""With n threads, the work that is divided among them takes the n-to-the-power-of-this part of the time."""


def seconds_to_impute(imputer: Imputer, n_bags: int) -> float:
    """Estimate the seconds that :func:`scanpy_sct.tl.impute` takes with calibration and blending.

    ``n_bags`` is the number of bags per pass over all cells.
    """
    plan, cells = imputer.plan, imputer.cells
    n_cells, n_fit = imputer.reader.n_cells, len(cells.fit_cells.rows)
    bag = seconds_for_a_bag(imputer)
    n_passes, n_fit_bags = plan.passes.n, 0 if cells.is_one_block else n_bags * n_fit / n_cells
    of_network = bag * (n_bags + n_fit_bags) * n_passes
    if imputer.runner.network.has_cell_embedding:
        of_network += bag * min(n_bags, PROBE_BAGS) * len(WEIGHTS)
    n_genes = len(plan.columns)
    rest = n_passes * (SECONDS_PER_PASS * len(cells.blocks) + n_fit * n_genes * SECONDS_PER_FITTED_ENTRY)
    rest += n_genes * (n_fit * SECONDS_PER_BLENDED_ENTRY + n_cells * SECONDS_PER_ENTRY)
    speed_up = torch_threads() ** SPEED_UP
    # The small operations of the compact network are divided by bags; a bag of another network uses all threads.
    is_divided = imputer.runner.network.has_cell_embedding and imputer.runner.device.type == "cpu"
    return (of_network / speed_up if is_divided else of_network) + rest / speed_up


def seconds_for_a_bag(imputer: Imputer) -> float:
    """Measure the seconds from tokens to predictions of one bag in the first pass."""
    plan, runner = imputer.plan, imputer.runner
    # The first cells of the largest sample; planning of bags is not included.
    sample = np.bincount(imputer.reader.samples).argmax()
    rows = np.flatnonzero(imputer.reader.samples == sample)[: runner.checkpoint.config.bag_size]
    block = imputer.read(rows)
    masks = plan.masks(block)
    bags, rules = [Bag(np.arange(len(rows)), len(rows))], token_rules(runner.checkpoint, plan.genes)
    # The first run includes initialisation, which is slow on accelerators; the second one counts.
    for _ in range(2):
        start = time.perf_counter()
        inputs = BagInputs(block, bags, rules, partial(masks.masked, 0), partial(masks.targets, 0))
        list(runner.predict(inputs))
        seconds = time.perf_counter() - start
    return seconds
