"""Fit what the network predicts to the data at hand: calibrate it, and blend it with what the data say themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import logit

from scanpy_sct.impute.blend import blend, gene_weights, level_share, share_of_first, shared_weights
from scanpy_sct.impute.calibrate import MIN_PROBABILITY, calibrate_detection, calibrate_level
from scanpy_sct.impute.low_rank import LowRank, fit_low_rank, fit_trust, trust_evidence
from scanpy_sct.impute.run import NOT_PREDICTED, Run, Turn
from scanpy_sct.plan.bins import entry_rows
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import HiddenOf, visible_values

GENE_BLOCK = 500
N_PROBES = 400
MIN_CELLS, MIN_GENES = 20, 50
"""In smaller data there is nothing to learn a reconstruction from."""
NETWORK_ALONE = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class Fitted:
    """What was learnt about the two sources of a blend; None where predictions were not blended."""

    weights: np.ndarray | None = None
    """(3,) shared weights, see :mod:`scanpy_sct.impute.blend`."""
    network_share: np.ndarray | None = None
    """(genes,) share of the network."""
    level_share: float | None = None
    """Share of the network in the level of what is expressed, the same for all genes."""


@dataclass(frozen=True)
class _Own:
    """Reconstructions from the data themselves, one for each turn, and how far to follow their components."""

    fitted: list[LowRank]
    trust: list[np.ndarray]
    column: np.ndarray
    """Column of the reconstruction at each position of the vocabulary, -1 where there is none."""


@dataclass(frozen=True)
class _Entries:
    """All predicted entries of a block of genes, as flat arrays."""

    rows: np.ndarray
    columns: np.ndarray
    """Columns of the run."""
    group: np.ndarray
    """turn * number of genes in the block + gene."""
    detection: list[np.ndarray]
    """Calibrated probability of being expressed: of the network, and of the data themselves if blended."""
    level: list[np.ndarray]
    value: np.ndarray
    """What was measured, on the log scale; 0 where that is not known."""
    known: np.ndarray

    @property
    def expressed(self) -> np.ndarray:
        """Whether an entry is known to be expressed."""
        return self.value > 0

    def log_odds(self, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        clipped = [np.clip(p[which], MIN_PROBABILITY, 1 - MIN_PROBABILITY) for p in self.detection]
        return np.stack([logit(p).astype(np.float32) for p in clipped], axis=1)


def probe_genes(expression: Expression, hide: sparse.csr_matrix | None, seed: int) -> np.ndarray:
    """Draw the genes from which the shared weights of a blend are learnt: positions, whatever else is predicted.

    Genes that at least one cell in a hundred shows come first; other genes hold too few expressed entries.
    """
    values = expression.log_values
    n_expressed = values.getnnz(axis=0)
    if hide is not None:
        n_expressed = n_expressed - values.multiply(hide).getnnz(axis=0)
    usable = np.flatnonzero(expression.measured & (n_expressed >= max(3, values.shape[0] / 100)))
    if values.shape[0] < MIN_CELLS or expression.measured.sum() < MIN_GENES or len(usable) < MIN_GENES:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.random.default_rng([seed, 4]).permutation(usable)[:N_PROBES])


def fit_to_data(run: Run, turns: list[Turn], hide: sparse.csr_matrix | None, probes: np.ndarray, seed: int) -> Fitted:
    """Calibrate the predictions of ``run`` in place and, where there are ``probes``, blend them.

    All is learnt from entries whose values are known: those of ``hide`` have no part in it.
    """
    counts = _visible_counts(run, hide)
    is_known = np.array([turn.known for turn in turns])
    if not len(probes):
        for block in _blocks(len(run.positions)):
            entries = _entries(run, block, counts, is_known, None)
            run.detection[entries.rows, entries.columns] = entries.detection[0]
            run.level[entries.rows, entries.columns] = entries.level[0]
        return Fitted()
    own = _reconstruct(run.expression, turns, seed)
    known = _entries(run, run.column[probes], counts, is_known, own)
    expressed = known.expressed
    shared = shared_weights(known.log_odds(known.known), expressed[known.known])
    of_levels = level_share(np.stack([level[expressed] for level in known.level], axis=1), known.value[expressed])
    share = np.ones(len(run.positions))
    for block in _blocks(len(run.positions)):
        entries = _entries(run, block, counts, is_known, own)
        share[block] = _blend_block(run, block, entries, counts, len(turns), shared, of_levels)
    share[~run.expression.measured[run.positions]] = 1
    return Fitted(shared, share, of_levels)


def _blocks(n_genes: int) -> list[np.ndarray]:
    return np.array_split(np.arange(n_genes), max(1, -(-n_genes // GENE_BLOCK)))


def _blend_block(
    run: Run,
    block: np.ndarray,
    entries: _Entries,
    counts: tuple[np.ndarray, ...],
    n_turns: int,
    shared: np.ndarray,
    of_levels: float,
) -> np.ndarray:
    """Blend the entries of some genes in place; returns the share of the network, (genes,)."""
    known, log_odds = entries.known, entries.log_odds()
    group, n_genes = entries.group, len(block)
    weights = gene_weights(log_odds[known], entries.expressed[known], group[known], n_turns, n_genes, shared)
    n_expressed, n_visible, sums = (table[:, block].ravel() for table in counts)
    # Of a gene that is nowhere seen expressed the data themselves know nothing.
    weights[n_expressed == 0] = NETWORK_ALONE
    detection = calibrate_detection(blend(log_odds, group, weights), group, n_expressed, n_visible)
    alone = (n_expressed == 0)[group]
    level = np.where(alone, entries.level[0], of_levels * entries.level[0] + (1 - of_levels) * entries.level[1])
    level = calibrate_level(level, detection, group, sums, n_expressed)
    run.detection[entries.rows, entries.columns], run.level[entries.rows, entries.columns] = detection, level
    n_entries = np.bincount(group, minlength=n_turns * n_genes).reshape(n_turns, n_genes)
    share = share_of_first(weights).reshape(n_turns, n_genes)
    return (share * n_entries).sum(0) / np.maximum(n_entries.sum(0), 1)


def _entries(
    run: Run, block: np.ndarray, counts: tuple[np.ndarray, ...], is_known: np.ndarray, own: _Own | None
) -> _Entries:
    """Collect the entries of some columns of the run, and calibrate what each source says about them."""
    assigned = run.assigned[:, block]
    rows, within = np.nonzero(assigned != NOT_PREDICTED)
    turn = assigned[rows, within].astype(np.int64)
    group = turn * len(block) + within
    columns = block[within]
    n_expressed, n_visible, sums = (table[:, block].ravel() for table in counts)
    sources = [(run.detection[rows, columns], run.level[rows, columns])]
    if own is not None:
        sources.append(_own_entries(own, run.positions[block], rows, within, turn))
    detection, level = [], []
    for chance, value in sources:
        detection.append(calibrate_detection(chance, group, n_expressed, n_visible))
        level.append(calibrate_level(value, detection[-1], group, sums, n_expressed))
    known = is_known[turn]
    measured = run.expression.log_values[:, run.positions[block]].toarray()[rows, within]
    return _Entries(rows, columns, group, detection, level, np.where(known, measured, 0), known)


def _own_entries(
    own: _Own, positions: np.ndarray, rows: np.ndarray, within: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    detection, level = np.empty((2, len(rows)), dtype=np.float32)
    for number, (fitted, trust) in enumerate(zip(own.fitted, own.trust, strict=True)):
        mine = turn == number
        detection[mine], level[mine] = fitted.entries(rows[mine], within[mine], own.column[positions], trust)
    return detection, level


def _reconstruct(expression: Expression, turns: list[Turn], seed: int) -> _Own:
    """Fit a reconstruction for each turn; the trust of each rests on the known entries of the others."""
    positions = np.flatnonzero(expression.measured)
    column = np.full(len(expression.measured), -1)
    column[positions] = np.arange(len(positions))
    truth = expression.log_values[:, positions].tocsr()

    def of_measured(chosen: HiddenOf) -> HiddenOf:
        return lambda rows: chosen(rows)[:, positions]

    fitted, squares, products = [], [], []
    for turn in turns:
        visible = visible_values(truth, of_measured(turn.hidden_of))
        fitted.append(fit_low_rank(visible, of_measured(turn.hidden_of), seed))
        n = len(fitted[-1].components)
        evidence = (np.zeros((n, n)), np.zeros(n))
        if turn.known:
            evidence = trust_evidence(fitted[-1], truth, of_measured(turn.asked_of), seed)
        squares.append(evidence[0])
        products.append(evidence[1])
    trust = []
    for number, turn in enumerate(turns):
        own_part = 1.0 if turn.known and sum(each.known for each in turns) > 1 else 0.0
        trust.append(fit_trust(sum(squares) - own_part * squares[number], sum(products) - own_part * products[number]))
    return _Own(fitted, trust, column)


def _visible_counts(run: Run, hide: sparse.csr_matrix | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per turn and gene: cells in which it is visible and expressed, visible at all, and the sum of its values."""
    values = run.expression.log_values[:, run.positions].tocsr()
    allowed = np.ones(run.assigned.shape, dtype=bool)
    if hide is not None:
        allowed &= ~hide[:, run.positions].toarray().astype(bool)
    rows, columns = entry_rows(values), values.indices
    keep = allowed[rows, columns]
    rows, columns, data = rows[keep], columns[keep], values.data[keep]
    entry_turn = run.assigned[rows, columns]
    n_genes = len(run.positions)
    expressed, visible, sums = (np.zeros((run.n_turns, n_genes)) for _ in range(3))
    for number in range(run.n_turns):
        seen = entry_turn != number
        expressed[number] = np.bincount(columns[seen], minlength=n_genes)
        sums[number] = np.bincount(columns[seen], weights=data[seen], minlength=n_genes)
        visible[number] = (allowed & (run.assigned != number)).sum(0)
    return expressed, visible, sums
