"""Passes of a network over the data, and what they have predicted so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.impute.cell_weight import choose_cell_weight
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import (
    HiddenOf,
    bag_inputs,
    choose_bag_policy,
    choose_path,
    placed,
    plan,
    token_rules,
)
from scanpy_sct.run.progress import progress
from scanpy_sct.run.runner import BagInput, Runner

NOT_PREDICTED = 255


@dataclass(frozen=True)
class Turn:
    """One pass: what is hidden in it, and which of these entries are predicted."""

    hidden_of: HiddenOf
    asked_of: HiddenOf
    known: bool
    """Whether the values of these entries may be used, to learn from."""
    kept: bool = True
    """Whether the predictions are asked for; False where they only serve to learn from."""
    max_bags: int | None = None
    """Run only so many bags, drawn at random."""


class Run:
    """Predictions of a network, (cells, positions), filled turn by turn."""

    def __init__(
        self,
        runner: Runner,
        expression: Expression,
        positions: np.ndarray,
        bags: str,
        path: str,
        seed: int,
        keep_bins: bool = False,
    ) -> None:
        self.runner, self.expression, self.seed = runner, placed(runner.checkpoint, expression), seed
        self.path = choose_path(path, runner.checkpoint)
        self.policy = choose_bag_policy(bags, expression)
        self.positions = positions
        shape = (len(expression.samples), len(positions))
        self.detection = np.full(shape, np.nan, dtype=np.float32)
        self.level = np.full(shape, np.nan, dtype=np.float32)
        self.bins = np.zeros(shape, dtype=np.uint8) if keep_bins else None
        self.confidence = np.zeros(shape, dtype=np.float32) if keep_bins else None
        self.assigned = np.full(shape, NOT_PREDICTED, dtype=np.uint8)
        """Turn in which an entry was predicted."""
        self.column = np.full(len(expression.measured), -1)
        self.column[positions] = np.arange(len(positions))
        self.n_turns = 0
        self.cell_weight = 1.0

    def fit_cell_weight(self, hide: sparse.csr_matrix | None) -> None:
        """Choose how far to follow the cell embedding; what is in ``hide`` stays hidden."""
        hidden_of = None if hide is None else lambda rows: hide[rows].toarray().astype(bool)
        rules = token_rules(self.runner.checkpoint)
        self.cell_weight = choose_cell_weight(self.runner, self.expression, self.policy, rules, hidden_of, self.seed)

    def take(self, turns: list[Turn]) -> None:
        """Run all turns."""
        rules = token_rules(self.runner.checkpoint)
        size = self.runner.checkpoint.config.bag_size
        wanted = self.column >= 0
        self.n_turns = len(turns)
        unmeasured = np.flatnonzero(wanted & ~self.expression.measured)
        sums = _Sums(len(self.expression.samples), unmeasured) if len(unmeasured) else None
        for number, turn in enumerate(turns):
            # Which cells are similar is judged by what is visible, so anew in each pass; other bags stay.
            if number == 0 or self.policy == "similar":
                all_bags = plan(self.expression, size, self.policy, self.seed, turn.hidden_of)
            bags = all_bags
            if turn.max_bags is not None and len(bags) > turn.max_bags:
                drawn = np.random.default_rng([self.seed, 3]).permutation(len(bags))[: turn.max_bags]
                bags = [bags[place] for place in np.sort(drawn)]
            inputs = bag_inputs(self.expression, bags, rules, turn.hidden_of, wanted)
            predicted = self.runner.bin_probabilities(inputs, cell_weight=self.cell_weight)
            label = f"pass {number + 1}/{len(turns)}"
            for bag, probabilities in progress(predicted, len(bags), label):
                self._store(bag, probabilities, number, turn, sums)
        if sums is not None:
            columns = self.column[sums.positions]
            self.detection[:, columns], self.level[:, columns] = sums.means(sum(turn.kept for turn in turns))

    def forget(self, turns: list[Turn]) -> None:
        """Remove the predictions that were not asked for."""
        for number, turn in enumerate(turns):
            if not turn.kept:
                self.detection[self.assigned == number] = np.nan
                self.level[self.assigned == number] = np.nan

    def _store(self, bag: BagInput, probabilities: np.ndarray, number: int, turn: Turn, sums: _Sums | None) -> None:
        cell, position = np.divmod(bag.token_index, bag.tokens.shape[1])
        detection = 1 - probabilities[:, 0]
        level = (probabilities[:, 1:] * bag.values[cell]).sum(1) / np.maximum(probabilities[:, 1:].sum(1), 1e-9)
        asked = turn.asked_of(bag.rows)[cell, position]
        rows, columns = bag.rows[cell[asked]], self.column[position[asked]]
        self.detection[rows, columns], self.level[rows, columns] = detection[asked], level[asked]
        if self.bins is not None:
            self.bins[rows, columns] = probabilities[asked].argmax(1)
            self.confidence[rows, columns] = probabilities[asked].max(1)
        self.assigned[rows, columns] = number
        if sums is not None and turn.kept:
            new = ~self.expression.measured[position]
            sums.add(bag.rows[cell[new]], position[new], detection[new], level[new])


class _Sums:
    """Sums over turns of predictions for genes that were not measured."""

    def __init__(self, n_cells: int, positions: np.ndarray) -> None:
        self.positions = positions
        self.detection = np.zeros((n_cells, len(positions)), dtype=np.float32)
        self.value = np.zeros((n_cells, len(positions)), dtype=np.float32)

    def add(self, rows: np.ndarray, positions: np.ndarray, detection: np.ndarray, level: np.ndarray) -> None:
        columns = np.searchsorted(self.positions, positions)
        self.detection[rows, columns] += detection
        self.value[rows, columns] += detection * level

    def means(self, n_turns: int) -> tuple[np.ndarray, np.ndarray]:
        detection = self.detection / n_turns
        return detection, self.value / n_turns / np.maximum(detection, 1e-9)
