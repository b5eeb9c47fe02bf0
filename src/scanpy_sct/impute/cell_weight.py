"""Choose the weight of the cell embedding of a network for the data.

The cell embedding of a small network generalises less well to other tissues than its profile. Some visible entries of a
few bags are masked and predicted with several weights; the weight with the best predictions is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.impute.calibrate import MAX_LOG_ODDS, MIN_PROBABILITY, VisibleCounts, detection_shift, probability
from scanpy_sct.impute.groups import Groups
from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import Passes
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.inputs import BagInputs, plan_block, token_rules
from scanpy_sct.sparse_tools import entry_rows, keep_entries

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
PROBE_BAGS = 8
PROBE_PASSES = 5
"""One entry in this many is masked for the test."""


def choose_cell_weight(runner: Runner, block: CellBlock, plan: ImputationPlan, bags: list[Bag] | None = None) -> float:
    """Return the weight in `WEIGHTS` with the smallest log loss of the detection probability on masked entries.

    Entries that the user hides stay masked and are not used. Arguments as in
    :func:`scanpy_sct.impute.fit.fit_imputation`.
    """
    if not runner.network.has_cell_embedding:
        return 1.0
    passes = Passes(PROBE_PASSES, plan.seed + 1)

    def masked_of(rows: np.ndarray) -> np.ndarray:
        drawn = passes.assigned(block.rows[rows], plan.genes) == 0
        return (drawn & block.measured) | block.hidden_rows(rows)

    def visible_of(values: sparse.csr_matrix) -> sparse.csr_matrix:
        # The values lack hidden entries.
        drawn = passes.of_entries(block.rows[entry_rows(values)], plan.genes[values.indices]) == 0
        return keep_entries(values, ~drawn)

    size = runner.checkpoint.config.bag_size
    if bags is None:
        bags = plan_block(block, size, plan.policy, plan.seed, visible_of, plan.genes, plan.n_genes)
    rng = np.random.default_rng([plan.seed, 1])
    probe = [bags[number] for number in rng.permutation(len(bags))[:PROBE_BAGS]]
    inputs = list(BagInputs(block, probe, token_rules(runner.checkpoint, plan.genes), masked_of, masked_of))
    rows = np.concatenate([bag.rows[: bag.n_targets] for bag in probe])
    is_masked, is_hidden = masked_of(rows), block.hidden_rows(rows)
    if not (is_masked & ~is_hidden).any():
        return 1.0
    entries = _ProbeEntries.of(is_masked, is_hidden, block.log_values[rows].toarray() > 0, block.measured)
    losses = []
    for weight in WEIGHTS:
        found = [prediction.log_odds for _, prediction in runner.predict(inputs, cell_weight=weight)]
        losses.append(entries.loss(np.concatenate(found)))
    return WEIGHTS[int(np.argmin(losses))]


@dataclass(frozen=True)
class _ProbeEntries:
    """The masked entries, ordered by gene."""

    order: np.ndarray
    """Their numbers in the order of cells."""
    groups: Groups
    visible: VisibleCounts
    detected: np.ndarray
    """(entries,) bool."""
    is_known: np.ndarray
    """(entries,) bool: entries that the user does not hide."""

    @classmethod
    def of(
        cls, is_masked: np.ndarray, is_hidden: np.ndarray, detected: np.ndarray, measured: np.ndarray
    ) -> _ProbeEntries:
        """Collect the entries from tables (cells, genes) bool."""
        position = np.flatnonzero(is_masked)
        order = np.argsort(position % is_masked.shape[1], kind="stable")
        position = position[order]
        is_visible = measured & ~is_masked
        tables = (is_visible & detected, is_visible, is_visible)
        return cls(
            order,
            Groups(is_masked.sum(axis=0)[:, None]),
            VisibleCounts(*(table.sum(axis=0)[:, None] for table in tables)),
            detected.ravel()[position],
            ~is_hidden.ravel()[position],
        )

    def loss(self, log_odds: np.ndarray) -> float:
        """Compute the log loss of calibrated predictions, ordered by cell, at the entries that are not hidden."""
        # Calibration removes differences between the detection rates of these data and the training data.
        log_odds = np.clip(log_odds[self.order], -MAX_LOG_ODDS, MAX_LOG_ODDS)
        p = probability(log_odds + self.groups.spread(detection_shift(log_odds, self.groups, self.visible)))
        likelihood = np.where(self.detected, p, 1 - p)[self.is_known]
        return float(-np.log(np.clip(likelihood, MIN_PROBABILITY, 1)).mean())
