"""Predict hidden entries: every measured one from all others, or a given selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.fit import Fitted, fit_to_data, probe_genes
from scanpy_sct.impute.run import Run, Turn
from scanpy_sct.plan.passes import Passes
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import HiddenOf, token_rules
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.runner import Runner

PROBE_PASSES = 12
"""Where a selection is predicted, one entry in so many of the others is hidden first, to learn from."""
PROBE_BAGS = 100


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
    """(cells, genes) uint8, if asked for: most probable level of the network, 0 for not expressed; not calibrated."""
    confidence: np.ndarray | None = None
    """(cells, genes) float32, if asked for: probability of that level."""
    network_share: np.ndarray | None = None
    """(genes,) between 0 and 1, where predictions were blended: share of the network, the rest being the data's own."""
    blend_weights: np.ndarray | None = None
    """(3,) weights of network and data, and offset, that all genes start from."""
    level_share: float | None = None
    """Share of the network in the levels of a blend."""
    passes: np.ndarray | None = None
    """(cells, genes) uint8: pass in which an entry was hidden and predicted."""

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
    blend: bool = False,
    keep_bins: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int = 0,
) -> Prediction:
    """Hide every measured entry in exactly one of several passes and predict it from everything else.

    Genes that were not measured are predicted in every pass and averaged. Entries in ``hide`` (cells, positions) are
    hidden in all passes: nothing of their values can reach any result. They are predicted in one more pass, in which
    nothing else is hidden. ``path`` is the part of the network that predicts: ``"full"``, ``"direct"`` (without the
    convolutional towers and the transformer between them), or ``"auto"``, what the checkpoint says. ``blend`` mixes
    what the network says with a low-rank reconstruction of the data themselves; it needs ``calibrate``.
    """
    passes = Passes.for_fraction(checkpoint.mask_fraction, rng)
    forbidden = _rows_of(hide, expression)
    turns = [_turn_of_pass(passes, number, expression, forbidden) for number in range(passes.n)]
    if hide is not None:
        turns.append(Turn(forbidden, forbidden, known=False))
    options = ComputeOptions(device=device, precision=precision, batch_size=batch_size)
    runner = Runner(checkpoint, options, gene_index=_genes_read(checkpoint, expression, positions))
    return _predict(runner, expression, positions, hide, turns, bags, path, calibrate, blend, keep_bins, rng)


def predict_hidden(
    checkpoint: Checkpoint,
    expression: Expression,
    hidden: np.ndarray | sparse.spmatrix,
    *,
    positions: np.ndarray | None = None,
    bags: str = "auto",
    path: str = "auto",
    calibrate: bool = True,
    blend: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int = 0,
) -> Prediction:
    """Predict the entries in ``hidden`` (cells, positions), all hidden at once, and only these.

    To learn how to ``blend``, other entries are hidden first, in up to 100 bags, and predicted.
    """
    hidden = sparse.csr_matrix(hidden, dtype=bool)
    forbidden = _rows_of(hidden, expression)
    turns = [Turn(forbidden, forbidden, known=False)]
    if calibrate and blend:
        probe = _turn_of_pass(Passes(PROBE_PASSES, rng + 2), 0, expression, forbidden)
        turns.insert(0, Turn(probe.hidden_of, probe.asked_of, known=True, kept=False, max_bags=PROBE_BAGS))
    options = ComputeOptions(device=device, precision=precision, batch_size=batch_size)
    runner = Runner(checkpoint, options, gene_index=_genes_read(checkpoint, expression, positions))
    return _predict(runner, expression, positions, hidden, turns, bags, path, calibrate, blend, False, rng)


def _genes_read(checkpoint: Checkpoint, expression: Expression, positions: np.ndarray | None) -> np.ndarray:
    requested = np.zeros(0, dtype=np.int64) if positions is None else positions
    return np.union1d(token_rules(checkpoint).visible_genes(expression.measured), requested)


def _rows_of(hide: sparse.csr_matrix | None, expression: Expression) -> HiddenOf:
    """Return a function that gives the measured entries of some rows that nobody may see."""
    if hide is None:
        return lambda rows: np.zeros((len(rows), len(expression.measured)), dtype=bool)
    return lambda rows: hide[rows].toarray().astype(bool) & expression.measured


def _turn_of_pass(passes: Passes, number: int, expression: Expression, forbidden: HiddenOf) -> Turn:
    def own(rows: np.ndarray) -> np.ndarray:
        return (passes.assigned(rows, len(expression.measured)) == number) & expression.measured

    return Turn(lambda rows: own(rows) | forbidden(rows), lambda rows: own(rows) & ~forbidden(rows), known=True)


def _predict(
    runner: Runner,
    expression: Expression,
    positions: np.ndarray | None,
    hide: sparse.csr_matrix | None,
    turns: list[Turn],
    bags: str,
    path: str,
    calibrate: bool,
    blend: bool,
    keep_bins: bool,
    seed: int,
) -> Prediction:
    """Run all turns, fit what they predict to the data, and keep what was asked for."""
    asked = np.flatnonzero(expression.measured) if positions is None else np.asarray(positions)
    blend = blend and calibrate
    probes = probe_genes(expression, hide, seed) if blend else np.zeros(0, dtype=np.int64)
    run = Run(runner, expression, np.union1d(asked, probes), bags, path, seed, keep_bins)
    if calibrate:
        run.fit_cell_weight(hide)
    run.take(turns)
    fitted = Fitted()
    if calibrate:
        fitted = fit_to_data(run, turns, hide, probes, seed)
    run.forget(turns)
    columns = run.column[asked]

    def at_asked(values: np.ndarray | None) -> np.ndarray | None:
        if values is None or np.array_equal(asked, run.positions):
            return values
        return values[..., columns]

    return Prediction(
        asked,
        at_asked(run.detection),
        at_asked(run.level),
        run.policy,
        run.path,
        run.cell_weight,
        len(turns),
        at_asked(run.bins),
        at_asked(run.confidence),
        at_asked(fitted.network_share),
        fitted.weights,
        fitted.level_share,
        at_asked(run.assigned),
    )
