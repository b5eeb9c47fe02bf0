"""How long an imputation will take."""

from __future__ import annotations

import time

import numpy as np

from scanpy_sct.impute.cell_weight import PROBE_BAGS, WEIGHTS
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import Passes
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import bag_inputs, token_rules
from scanpy_sct.run.runner import Runner

SECONDS_PER_PASS = 0.6
"""To learn how far to follow the data's own reconstruction; measured, like the next two, on one core of a server."""
SECONDS_PER_PLACE = 0.6e-6
"""For each cell and position of the network, measured or not: to tell in which pass it is hidden, again and again."""
SECONDS_PER_ENTRY = 0.6e-6
"""To reconstruct, calibrate, blend and write one measured entry."""


def seconds_to_impute(runner: Runner, expression: Expression, bags: list[Bag], passes: Passes, path: str) -> float:
    """Reckon the seconds of :func:`scanpy_sct.tl.impute` with its defaults, from the time of one bag.

    Parameters
    ----------
    runner, expression, path
        Network, data, and part of the network that predicts, `"full"` or `"direct"`.
    bags
        The bags of a pass.
    passes
        The passes.
    """
    largest = max(bags, key=lambda bag: len(bag.rows))
    seconds = seconds_for_a_bag(runner, expression, largest, passes, path)
    total = seconds * len(bags) * passes.n
    if runner.checkpoint.network.has_cell_embedding:
        # How far to follow the cell embedding is chosen by the direct path, whatever predicts.
        direct = seconds if path == "direct" else seconds_for_a_bag(runner, expression, largest, passes, "direct")
        total += direct * min(len(bags), PROBE_BAGS) * len(WEIGHTS)
    a_cell = len(expression.measured) * SECONDS_PER_PLACE + int(expression.measured.sum()) * SECONDS_PER_ENTRY
    return total + passes.n * SECONDS_PER_PASS + len(expression.samples) * a_cell


def seconds_for_a_bag(runner: Runner, expression: Expression, bag: Bag, passes: Passes, path: str) -> float:
    """Time from tokens to probabilities of one bag, as in the first pass of an imputation."""
    n_positions = len(expression.measured)

    def hidden_of(rows: np.ndarray) -> np.ndarray:
        return (passes.assigned(rows, n_positions) == 0) & expression.measured

    seconds = 0.0
    # A network spends its first bag on getting ready, an accelerator much of it.
    for _ in range(2):
        start = time.perf_counter()
        inputs = bag_inputs(expression, [bag], token_rules(runner.checkpoint), hidden_of, expression.measured)
        for _bag, _probabilities in runner.bin_probabilities(inputs):
            seconds = time.perf_counter() - start
    return seconds
