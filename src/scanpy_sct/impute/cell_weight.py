"""How far to follow the cell embedding of a network on the data at hand.

What a small network has learnt about whole cells holds for tissues like those it was trained on, and less elsewhere. A
few bags tell: some of their visible entries are hidden and predicted with several weights of that part of the network,
and the weight that predicts them best is used.
"""

from __future__ import annotations

import numpy as np

from scanpy_sct.impute.calibrate import calibrate_detection
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import Passes
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import HiddenOf, bag_inputs, plan
from scanpy_sct.run.runner import Runner

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
PROBE_BAGS = 8
PROBE_PASSES = 5
"""One entry in so many is hidden for the test."""


def choose_cell_weight(
    runner: Runner, expression: Expression, policy: str, rules: TokenRules, hidden_of: HiddenOf | None, seed: int
) -> float:
    """Return the weight in `WEIGHTS` with the smallest log loss of "is it expressed" on entries hidden for the test.

    Entries in ``hidden_of`` stay hidden and take no part.
    """
    if not runner.checkpoint.network.has_cell_embedding:
        return 1.0
    turn = Passes(PROBE_PASSES, seed + 1)
    n_positions = len(expression.measured)

    def known_hidden(rows: np.ndarray) -> np.ndarray:
        if hidden_of is None:
            return np.zeros((len(rows), n_positions), dtype=bool)
        return hidden_of(rows)

    def probe_hidden(rows: np.ndarray) -> np.ndarray:
        return known_hidden(rows) | ((turn.assigned(rows, n_positions) == 0) & expression.measured)

    bags = plan(expression, runner.checkpoint.config.bag_size, policy, seed, probe_hidden)
    rng = np.random.default_rng([seed, 1])
    probe = [bags[number] for number in rng.permutation(len(bags))[:PROBE_BAGS]]
    inputs = list(bag_inputs(expression, probe, rules, probe_hidden, expression.measured))
    truth, gene, tested = [], [], []
    for bag in inputs:
        cell, position = np.divmod(bag.token_index, n_positions)
        truth.append((expression.log_values[bag.rows].toarray() > 0)[cell, position])
        gene.append(position)
        tested.append(~known_hidden(bag.rows)[cell, position])
    truth, gene, tested = (np.concatenate(parts) for parts in (truth, gene, tested))
    if not tested.any():
        return 1.0
    # The network knows rates of its training data only; calibration takes this error out of the comparison.
    n_expressed, n_visible = _visible_rates(expression, probe, probe_hidden)
    losses = []
    for weight in WEIGHTS:
        predicted = runner.bin_probabilities(inputs, cell_weight=weight)
        detection = 1 - np.concatenate([each[:, 0] for _, each in predicted])
        detection = calibrate_detection(detection, gene, n_expressed, n_visible)
        chance = np.clip(np.where(truth, detection, 1 - detection)[tested], 1e-6, 1)
        losses.append(-np.log(chance).mean())
    return WEIGHTS[int(np.argmin(losses))]


def _visible_rates(expression: Expression, bags: list[Bag], hidden_of: HiddenOf) -> tuple[np.ndarray, np.ndarray]:
    """Cells of some bags in which each gene is visible and expressed, and visible at all."""
    n_expressed, n_visible = np.zeros((2, len(expression.measured)))
    for bag in bags:
        rows = bag.rows[: bag.n_targets]
        visible = ~hidden_of(rows) & expression.measured
        n_visible += visible.sum(0)
        n_expressed += (visible & (expression.log_values[rows].toarray() > 0)).sum(0)
    return n_expressed, n_visible
