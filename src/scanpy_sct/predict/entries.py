"""Predict hidden entries: every measured one from all others, or a given selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.plan.bins import entry_rows
from scanpy_sct.plan.calibrate import calibrate_detection, calibrate_level
from scanpy_sct.plan.passes import Passes
from scanpy_sct.predict.inputs import (
    HiddenOf,
    bag_inputs,
    check_coordinates,
    choose_bag_policy,
    choose_path,
    plan,
    token_rules,
)
from scanpy_sct.predict.progress import progress
from scanpy_sct.predict.runner import Runner
from scanpy_sct.predict.weight import choose_cell_weight
from scanpy_sct.read.expression import Expression

NOT_PREDICTED = 255
GENE_BLOCK = 500


@dataclass(frozen=True)
class Prediction:
    """Predictions at some positions of the vocabulary; NaN where none was made."""

    positions: np.ndarray
    """(genes,) positions predicted."""
    detection: np.ndarray
    """(cells, genes) float32: probability that the gene is expressed."""
    level: np.ndarray
    """(cells, genes) float32: expected value if it is expressed, on the log scale of the input."""
    bag_policy: str
    path: str
    cell_weight: float
    n_passes: int
    bins: np.ndarray | None = None
    """(cells, genes) uint8, if asked for: most probable level, 0 for not expressed; before calibration."""
    confidence: np.ndarray | None = None
    """(cells, genes) float32, if asked for: probability of that level."""

    @property
    def value(self) -> np.ndarray:
        """(cells, genes) float32: expected value."""
        return self.detection * self.level


def predict_entries(
    checkpoint: Checkpoint,
    expression: Expression,
    *,
    positions: np.ndarray | None = None,
    hide: sparse.csr_matrix | None = None,
    bags: str = "auto",
    path: str = "auto",
    calibrate: bool = True,
    keep_bins: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int = 0,
) -> Prediction:
    """Hide every measured entry in exactly one of several passes and predict it from everything else.

    Genes that were not measured are predicted in every pass and averaged. Entries in ``hide`` (cells, positions) are
    hidden in all passes: nothing of their values can reach any result. ``path`` is the part of the network that
    predicts: ``"full"``, ``"direct"`` (without the convolutional towers and the transformer between them), or
    ``"auto"``, what the checkpoint says.
    """
    passes = Passes.for_fraction(checkpoint.mask_fraction, rng)
    n_positions = len(expression.measured)

    def hidden_in(number: int) -> HiddenOf:
        def hidden_of(rows: np.ndarray) -> np.ndarray:
            hidden = passes.assigned(rows, n_positions) == number
            if hide is not None:
                hidden |= hide[rows].toarray().astype(bool)
            return hidden & expression.measured

        return hidden_of

    def assigned(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return passes.assigned(rows, n_positions)[:, columns]

    runner = Runner(checkpoint, device, precision, batch_size)
    run = _Run(checkpoint, expression, positions, bags, choose_path(path, checkpoint), rng, runner)
    if keep_bins:
        run.keep_bins()
    if calibrate:
        run.fit_cell_weight(None if hide is None else lambda rows: hide[rows].toarray().astype(bool))
    run.passes([hidden_in(number) for number in range(passes.n)], assigned)
    return run.finish(calibrate, hide)


def predict_hidden(
    checkpoint: Checkpoint,
    expression: Expression,
    hidden: np.ndarray | sparse.spmatrix,
    *,
    positions: np.ndarray | None = None,
    bags: str = "auto",
    path: str = "auto",
    calibrate: bool = True,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int = 0,
) -> Prediction:
    """Predict the entries in ``hidden`` (cells, positions), all hidden at once, and only these."""
    hidden = sparse.csr_matrix(hidden, dtype=bool)

    def hidden_of(rows: np.ndarray) -> np.ndarray:
        return hidden[rows].toarray() & expression.measured

    def assigned(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.where(hidden[rows].toarray()[:, columns], 0, NOT_PREDICTED).astype(np.uint8)

    runner = Runner(checkpoint, device, precision, batch_size)
    run = _Run(checkpoint, expression, positions, bags, choose_path(path, checkpoint), rng, runner)
    if calibrate:
        run.fit_cell_weight(hidden_of)
    run.passes([hidden_of], assigned)
    return run.finish(calibrate, hidden)


class _Run:
    """Passes over the data and what they have predicted so far."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        expression: Expression,
        positions: np.ndarray | None,
        bags: str,
        path: str,
        seed: int,
        runner: Runner,
    ) -> None:
        self.checkpoint, self.expression, self.runner, self.seed = checkpoint, expression, runner, seed
        self.path = path
        check_coordinates(checkpoint, expression)
        self.policy = choose_bag_policy(bags, expression)
        self.positions = np.flatnonzero(expression.measured) if positions is None else np.asarray(positions)
        n_cells = len(expression.samples)
        shape = (n_cells, len(self.positions))
        self.detection = np.full(shape, np.nan, dtype=np.float32)
        self.level = np.full(shape, np.nan, dtype=np.float32)
        self.bins: np.ndarray | None = None
        self.confidence: np.ndarray | None = None
        self.assigned = np.full(shape, NOT_PREDICTED, dtype=np.uint8)
        self.column = np.full(len(expression.measured), -1)
        self.column[self.positions] = np.arange(len(self.positions))
        self.n_passes = 0

    def keep_bins(self) -> None:
        self.bins = np.zeros(self.detection.shape, dtype=np.uint8)
        self.confidence = np.zeros(self.detection.shape, dtype=np.float32)

    def fit_cell_weight(self, hidden_of: HiddenOf | None) -> None:
        """Choose how far to follow the cell embedding; ``hidden_of`` stays hidden."""
        rules = token_rules(self.checkpoint)
        self.runner.cell_weight = choose_cell_weight(
            self.runner, self.expression, self.policy, rules, hidden_of, self.seed
        )

    def passes(self, hidden: list[HiddenOf], assigned) -> None:
        """Run all passes. ``assigned(rows, positions)`` tells in which pass each entry is predicted."""
        rules = token_rules(self.checkpoint)
        wanted = self.column >= 0
        self.n_passes = len(hidden)
        unmeasured = wanted & ~self.expression.measured
        sums = _Sums(len(self.expression.samples), np.flatnonzero(unmeasured)) if unmeasured.any() else None
        measured_columns = self.expression.measured[self.positions]
        for number, hidden_of in enumerate(hidden):
            # Which cells are similar is judged by what is visible, so anew in each pass; other bags stay.
            if number == 0 or self.policy == "similar":
                bags = plan(self.expression, self.checkpoint.config.num_cells, self.policy, self.seed, hidden_of)
            inputs = bag_inputs(self.expression, bags, rules, hidden_of, wanted)
            label = f"pass {number + 1}/{len(hidden)}"
            for bag, probabilities in progress(self.runner.probabilities(inputs, self.path), len(bags), label):
                self._store(bag, probabilities, number, assigned(bag.rows, self.positions), measured_columns, sums)
        if sums is not None:
            columns = self.column[sums.positions]
            self.detection[:, columns], self.level[:, columns] = sums.means(len(hidden))

    def _store(self, bag, probabilities, number, assigned, measured_columns, sums) -> None:
        cell, position = np.divmod(bag.wanted, bag.tokens.shape[1])
        detection = 1 - probabilities[:, 0]
        level = (probabilities[:, 1:] * bag.values[cell]).sum(1) / np.maximum(probabilities[:, 1:].sum(1), 1e-9)
        column = self.column[position]
        turn = (assigned == number)[cell, column] & measured_columns[column]
        rows, columns = bag.rows[cell[turn]], column[turn]
        self.detection[rows, columns], self.level[rows, columns] = detection[turn], level[turn]
        if self.bins is not None:
            self.bins[rows, columns] = probabilities[turn].argmax(1)
            self.confidence[rows, columns] = probabilities[turn].max(1)
        self.assigned[rows, columns] = number
        if sums is not None:
            new = ~measured_columns[column]
            sums.add(bag.rows[cell[new]], position[new], detection[new], level[new])

    def finish(self, calibrate: bool, hide: sparse.csr_matrix | None) -> Prediction:
        """Calibrate to the visible entries of each pass, and return what was predicted."""
        if calibrate:
            self._calibrate(hide)
        return Prediction(
            self.positions,
            self.detection,
            self.level,
            self.policy,
            self.path,
            self.runner.cell_weight,
            self.n_passes,
            self.bins,
            self.confidence,
        )

    def _calibrate(self, hide: sparse.csr_matrix | None) -> None:
        n_expressed, n_visible, sums = self._visible_counts(hide)
        for start in range(0, len(self.positions), GENE_BLOCK):
            block = slice(start, start + GENE_BLOCK)
            assigned = self.assigned[:, block]
            rows, columns = np.nonzero(assigned != NOT_PREDICTED)
            width = assigned.shape[1]
            group = assigned[rows, columns].astype(np.int64) * width + columns
            columns = columns + start
            expressed = n_expressed[:, block].ravel()
            detection = self.detection[rows, columns]
            detection = calibrate_detection(detection, group, expressed, n_visible[:, block].ravel())
            level = calibrate_level(self.level[rows, columns], detection, group, sums[:, block].ravel(), expressed)
            self.detection[rows, columns], self.level[rows, columns] = detection, level

    def _visible_counts(self, hide: sparse.csr_matrix | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per pass and gene: cells in which it is visible and expressed, visible at all, and the sum of its values."""
        values = self.expression.log_values[:, self.positions].tocsr()
        allowed = np.ones(self.assigned.shape, dtype=bool)
        if hide is not None:
            allowed &= ~hide[:, self.positions].toarray().astype(bool)
        rows, columns = entry_rows(values), values.indices
        keep = allowed[rows, columns]
        rows, columns, data = rows[keep], columns[keep], values.data[keep]
        entry_pass = self.assigned[rows, columns]
        n_genes = len(self.positions)
        expressed, visible, sums = (np.zeros((self.n_passes, n_genes)) for _ in range(3))
        for number in range(self.n_passes):
            seen = entry_pass != number
            expressed[number] = np.bincount(columns[seen], minlength=n_genes)
            sums[number] = np.bincount(columns[seen], weights=data[seen], minlength=n_genes)
            visible[number] = (allowed & (self.assigned != number)).sum(0)
        return expressed, visible, sums


class _Sums:
    """Sums over passes of predictions for genes that were not measured."""

    def __init__(self, n_cells: int, positions: np.ndarray) -> None:
        self.positions = positions
        self.detection = np.zeros((n_cells, len(positions)), dtype=np.float32)
        self.value = np.zeros((n_cells, len(positions)), dtype=np.float32)

    def add(self, rows: np.ndarray, positions: np.ndarray, detection: np.ndarray, level: np.ndarray) -> None:
        columns = np.searchsorted(self.positions, positions)
        self.detection[rows, columns] += detection
        self.value[rows, columns] += detection * level

    def means(self, n_passes: int) -> tuple[np.ndarray, np.ndarray]:
        detection = self.detection / n_passes
        return detection, self.value / n_passes / np.maximum(detection, 1e-9)
