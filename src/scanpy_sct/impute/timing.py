"""Expected run time of an imputation."""

from __future__ import annotations

import logging
import time
from functools import partial

import numpy as np

from scanpy_sct.impute.cell_weight import PROBE_BAGS, WEIGHTS
from scanpy_sct.impute.imputer import Imputer
from scanpy_sct.plan.bags import Bag
from scanpy_sct.run.blocks import find_client
from scanpy_sct.run.inputs import BagInputs, token_rules
from scanpy_sct.run.threads import torch_threads

logger = logging.getLogger(__name__)

SECONDS_PER_PASS = 0.4
"""Planning of bags; measured, like the next three, on one core of a server."""
SECONDS_PER_FITTED_ENTRY = 0.02e-6
"""Low-rank reconstruction of one entry in one pass."""
SECONDS_PER_BLENDED_ENTRY = 0.15e-6
"""Fit of calibration and blend to one entry."""
SECONDS_PER_ENTRY = 0.14e-6
"""Calibration, blending, pooling of similar cells and writing of one entry."""
TIME_RANGE = (0.75, 1.5)
"""An imputation takes between these multiples of the expected time."""
UNITS = (("s", 1, 120), ("min", 60, 120 * 60), ("h", 3600, np.inf))
"""Name of a unit of time, its seconds, and up to how many seconds it is used."""
SPEED_UP = 0.75
"""With n threads, the work that is divided among them takes the n-to-the-power-of-this part of the time."""


def mention_time(imputer: Imputer) -> None:
    """Log how long an imputation in this process takes, where the log is shown: one bag is run to estimate it."""
    if logger.isEnabledFor(logging.INFO) and find_client(imputer.options.client) is None:
        cells, genes = imputer.reader.n_cells, len(imputer.plan.columns)
        logger.info(
            "Imputing %d cells x %d genes; expected time: %s.", cells, genes, time_range(seconds_to_impute(imputer))
        )


def count_bags(imputer: Imputer) -> int:
    """Count the bags per pass over all cells."""
    counts = np.bincount(imputer.reader.samples, minlength=len(imputer.reader.sample_names))
    return int(np.ceil(counts / imputer.checkpoint.config.bag_size).sum())


def seconds_to_impute(imputer: Imputer) -> float:
    """Estimate the seconds that :func:`scanpy_sct.tl.impute` takes with calibration and blending."""
    plan, cells, n_bags = imputer.plan, imputer.cells, count_bags(imputer)
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


def time_range(seconds: float) -> str:
    """Return a rough range around an expected time, such as "roughly 8-15 min"."""
    low, high = (factor * seconds for factor in TIME_RANGE)
    if high < 5:
        return "a few seconds"
    unit, size = next((unit, size) for unit, size, maximum in UNITS if high < maximum)
    return f"roughly {_rounded(low / size)}-{_rounded(high / size)} {unit}"


def _rounded(value: float) -> str:
    """Round to integers below 10, to multiples of 5 below 100, else to multiples of 10."""
    if value < 10:
        return f"{max(value, 1):.0f}"
    step = 5 if value < 100 else 10
    return f"{step * round(value / step):,}"
