"""Fit the prediction of unmeasured genes from a reference and the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.special import logit

from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.impute.predict import NetworkPrediction, predict_block
from scanpy_sct.impute.reference.model import CellsInReference, ReferenceModel, fit_reference_model
from scanpy_sct.impute.reference.trust import correlations, estimate_trust, trust_features
from scanpy_sct.impute.reference.weights import KINDS, GeneWeights, Sources, SourceWeights, fit_weights
from scanpy_sct.plan.blocks import plan_fit
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.read.reference import ReferenceCells
from scanpy_sct.read.scale import counts_of
from scanpy_sct.sparse_tools import row_totals

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner

MAX_CELLS = 1_000
"""Cells on which the weights are estimated."""
N_FOLDS = 3
MAX_LEFT_OUT = 600
"""Of more shared genes, this number is left out, a third at a time."""
MIN_DETECTED = 3
GENES_AT_ONCE = 2_000


@dataclass(frozen=True)
class ReferenceTask:
    """The genes to predict, and the reference."""

    cells: ReferenceCells
    gene_index: np.ndarray
    """(genes,) unmeasured genes as indices into the vocabulary of the reference."""
    shared: np.ndarray
    """(shared genes,) genes that both objects measured, as indices into the vocabulary, increasing."""


@dataclass(frozen=True)
class ReferenceFit:
    """All that is learnt from the data about unmeasured genes; frozen when it is applied."""

    model: ReferenceModel
    """Of the genes that the reference has."""
    shared: np.ndarray
    """(shared genes,) columns of a block with the genes of the plan."""
    network_column: np.ndarray
    """(genes,) which of the unmeasured genes of the plan it is; -1: the network does not know it."""
    reference_column: np.ndarray
    """(genes,) which of the genes of ``model`` it is; -1: the reference does not have it."""
    kind: np.ndarray
    """(genes,) index into `KINDS`."""
    gene_weights: GeneWeights
    weights: SourceWeights
    trust: np.ndarray
    """(genes,) estimated correlation of predicted and measured values."""
    level_error: np.ndarray
    """(2,) spread of the error of levels by network and reference, in log-odds, over the genes that were left out."""

    def sources(
        self,
        placed: CellsInReference,
        rows: slice,
        network: tuple[np.ndarray, np.ndarray],
        units: np.ndarray,
        genes: np.ndarray | slice = slice(None),
    ) -> Sources:
        """Collect the predictions of some genes for some cells.

        Parameters
        ----------
        placed
            Cells of the block in the reference.
        rows
            Which of them.
        network
            Log-odds and conditional means of these cells, (rows, unmeasured genes of the plan).
        units
            (rows,) value of a single count.
        genes
            Which of the genes.
        """
        of_network, of_reference = self.network_column[genes], self.reference_column[genes]
        known = of_reference >= 0
        expected = np.zeros((2, len(units), len(known)), dtype=np.float32)
        # All genes of the reference, in its order, are used without a copy.
        columns = of_reference[known] if known.sum() < len(self.model.rate) else None
        expected[0][:, known] = placed.from_neighbors(rows, columns)
        expected[1][:, known] = placed.from_regression(rows, columns)
        found = np.zeros((2, len(units), len(of_network)), dtype=np.float32)
        known = of_network >= 0
        for table, values in zip(found, network, strict=True):
            table[:, known] = values[:, of_network[known]]
        return Sources.of((found[0], found[1]), (expected[0], expected[1]), units)


@dataclass(frozen=True)
class _LeftOut:
    """Measured genes that were left out, and their predictions."""

    sources: Sources
    values: np.ndarray
    """(cells, genes) measured, on the log scale of the input."""
    is_visible: np.ndarray
    recovery_in_reference: np.ndarray


class ReferenceFitting:
    """Fitting on some cells of a block.

    Parameters
    ----------
    runner, block, plan
        Network, cells with the genes of the plan, and plan of the imputation.
    task
        Reference and genes.
    units
        (cells,) value of a single count.
    cell_weight
        Weight of the cell embedding of the network.
    """

    def __init__(
        self,
        runner: Runner,
        block: CellBlock,
        plan: ImputationPlan,
        task: ReferenceTask,
        units: np.ndarray,
        cell_weight: float,
    ) -> None:
        self.runner, self.plan, self.task, self.cell_weight = runner, plan, task, cell_weight
        points = block.coordinates if plan.policy == "spatial" else None
        self.drawn = plan_fit(block.samples, points, runner.checkpoint.config.bag_size, plan.seed, MAX_CELLS)
        self.block, self.units = block.block(self.drawn.rows), units[self.drawn.rows]
        self.shared = np.searchsorted(plan.genes, task.shared)
        self.counts, self.hidden = shared_counts(self.block, self.shared, self.units)
        totals = row_totals(self.counts)
        # Cells without counts say nothing about how often genes are detected.
        self.filled = np.flatnonzero(totals > 0) if totals.any() else np.arange(len(totals))
        self.usual_total = float(np.median(totals[self.filled])) if totals.any() else 1.0

    def fit(self, network: NetworkPrediction) -> ReferenceFit:
        """Fit weights and trust; ``network`` are the predictions for the plan's genes in all cells of the block."""
        left_out = self._left_out()
        weights = SourceWeights.unknown()
        if left_out is not None:
            units = self.units[self.filled]
            weights = fit_weights(left_out.sources, left_out.values, left_out.is_visible, units)
        unmeasured = np.flatnonzero(self.plan.is_unmeasured)
        of_network = _positions(self.plan.gene_index[unmeasured], self.task.gene_index)
        has = np.isin(self.task.gene_index, self.task.cells.gene_index)
        of_reference = np.where(has, np.cumsum(has) - 1, -1)
        kind = np.where(~has, KINDS.index("network"), np.where(of_network < 0, KINDS.index("reference"), 0))
        model = self._model(np.arange(len(self.shared)), self.task.gene_index[has])
        n_genes = len(kind)
        fit = ReferenceFit(
            model=model,
            shared=self.shared,
            network_column=of_network,
            reference_column=of_reference,
            kind=kind,
            gene_weights=GeneWeights(np.zeros((n_genes, 3)), *np.zeros((3, n_genes))),
            weights=weights,
            trust=np.full(n_genes, np.nan),
            level_error=np.full(2, np.nan) if left_out is None else _level_error(left_out),
        )
        tables = (network.log_odds, network.conditional_mean)
        of_cells = tuple(table[np.ix_(self.drawn.rows[self.filled], unmeasured)] for table in tables)
        return self._with_genes(fit, of_cells, left_out)

    def _with_genes(
        self, fit: ReferenceFit, network: tuple[np.ndarray, np.ndarray], left_out: _LeftOut | None
    ) -> ReferenceFit:
        """Add weights and trust of each gene; ``network`` are the predictions for the cells with counts."""
        placed = self._placed(fit.model, slice(None))
        recovery = np.append(_recovery(fit.model), np.nan)  # the last for genes that the reference does not have
        levels, features = [], []
        for start in range(0, len(fit.kind), GENES_AT_ONCE):
            genes = np.arange(start, min(start + GENES_AT_ONCE, len(fit.kind)))
            sources = fit.sources(placed, slice(None), network, self.units[self.filled], genes)
            levels.append(sources.levels)
            weights = fit.weights.of_genes(fit.kind[genes], levels[-1])
            features.append(_features(sources, weights, recovery[fit.reference_column[genes]]))
        trust, features = fit.trust.copy(), np.concatenate(features)
        for kind in np.unique(fit.kind) if left_out is not None else ():
            of_kind = np.full(left_out.values.shape[1], kind)
            weights = fit.weights.of_genes(of_kind, left_out.sources.levels)
            known = _features(left_out.sources, weights, left_out.recovery_in_reference)
            detection, mean = weights.blend(left_out.sources)
            found = correlations(detection * mean, left_out.values, left_out.is_visible)
            used = slice(None) if KINDS[kind] != "network" else slice(-1)
            wanted = fit.kind == kind
            trust[wanted] = estimate_trust(known[:, used], found, features[wanted][:, used])
        gene_weights = fit.weights.of_genes(fit.kind, np.concatenate(levels, axis=1))
        return replace(fit, gene_weights=gene_weights, trust=trust)

    def _placed(self, model: ReferenceModel, genes: np.ndarray | slice) -> CellsInReference:
        """Place the cells with counts in a reference with some of the shared genes."""
        hidden = None if self.hidden is None else self.hidden[self.filled][:, genes]
        return model.place(self.counts[self.filled][:, genes], hidden)

    def _left_out(self) -> _LeftOut | None:
        """Predict measured genes as if they were not measured; None if none is detected often enough."""
        rng = np.random.default_rng([self.plan.seed, 11])
        often = np.flatnonzero(self.counts.getnnz(axis=0) >= MIN_DETECTED)
        genes = rng.permutation(often)[:MAX_LEFT_OUT]
        if len(genes) < N_FOLDS:
            return None
        parts = [self._predict(np.sort(fold)) for fold in np.array_split(genes, N_FOLDS)]
        sources = Sources(*(np.concatenate(tables, axis=1) for tables in zip(*map(_tables, parts), strict=True)))
        joined = (
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("values", "is_visible", "recovery_in_reference")
        )
        return _LeftOut(sources, *joined)

    def _predict(self, genes: np.ndarray) -> _LeftOut:
        """Predict some of the shared genes from the others."""
        others = np.setdiff1d(np.arange(len(self.shared)), genes)
        model = self._model(others, self.task.shared[genes])
        placed = self._placed(model, others)
        expected = placed.from_neighbors(slice(None)), placed.from_regression(slice(None))
        columns = self.shared[genes]
        block = self.block.without_genes(columns)
        plan = replace(self.plan, measured=block.measured, columns=columns)
        found = predict_block(
            self.runner, block, plan.masks(block), plan, cell_weight=self.cell_weight, bags=self.drawn.bags
        )
        rows = self.filled
        return _LeftOut(
            Sources.of((found.log_odds[rows], found.conditional_mean[rows]), expected, self.units[rows]),
            self.block.log_values[rows][:, columns].toarray(),
            ~self.block.hidden_rows(rows)[:, columns],
            _recovery(model),
        )

    def _model(self, shared: np.ndarray, predicted: np.ndarray) -> ReferenceModel:
        """Fit the reference with some of the shared genes, for some genes of its vocabulary."""
        cells = self.task.cells
        return fit_reference_model(
            cells.at(self.task.shared[shared]), cells.at(predicted), self.usual_total, self.plan.seed
        )


def shared_counts(
    block: CellBlock, shared: np.ndarray, units: np.ndarray
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
    """Return the counts of the shared genes, and which entries are hidden, (cells, shared genes) each."""
    hidden = None if block.hidden is None else block.hidden[:, shared].astype(np.float32)
    return counts_of(block.log_values[:, shared], units), hidden


def _tables(part: _LeftOut) -> Iterator[np.ndarray]:
    yield from vars(part.sources).values()


def _features(sources: Sources, weights: GeneWeights, recovery: np.ndarray) -> np.ndarray:
    detection, mean = weights.blend(sources)
    return trust_features(detection * mean, logit(np.clip(detection, 1e-6, 1 - 1e-6)).mean(axis=0), recovery)


def _recovery(model: ReferenceModel) -> np.ndarray:
    """Return the correlation of predictions and counts among the cells of the reference, (genes,)."""
    rows = np.unique(np.linspace(0, len(model.totals) - 1, MAX_CELLS).astype(int))
    own, found = model.own(rows), []
    for start in range(0, model.counts.shape[1], GENES_AT_ONCE):
        genes = np.arange(start, min(start + GENES_AT_ONCE, model.counts.shape[1]))
        predicted = np.log1p(own.from_neighbors(slice(None), genes))
        found.append(correlations(predicted, np.log1p(model.counts[rows][:, genes].toarray())))
    return np.concatenate(found) if found else np.zeros(0)


def _level_error(left_out: _LeftOut) -> np.ndarray:
    """Return the spread of the errors of levels by network and reference."""
    visible = np.maximum(left_out.is_visible.sum(axis=0), 1)
    detected = ((left_out.values > 0) & left_out.is_visible).sum(axis=0)
    truth = logit((detected + 0.5) / (visible + 1))
    return np.array([(level - truth).std() for level in left_out.sources.levels[:2]])


def _positions(genes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the position of each wanted gene among increasing ``genes``, -1 where it is not among them."""
    if not len(genes):
        return np.full(len(wanted), -1)
    found = np.minimum(np.searchsorted(genes, wanted), len(genes) - 1)
    return np.where(genes[found] == wanted, found, -1)
