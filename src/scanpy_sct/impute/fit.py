"""Fit an imputation to a bounded number of cells: cell weight, calibration, blend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute.blend import gene_weights, mean_weight, network_fraction, shared_weights
from scanpy_sct.impute.calibrate import (
    MAX_LOG_ODDS,
    Calibration,
    VisibleCounts,
    calibrate,
    detection_shift,
    mean_factor,
    probability,
)
from scanpy_sct.impute.cell_weight import choose_cell_weight
from scanpy_sct.impute.denoise import NoiseModel
from scanpy_sct.impute.groups import Groups, PassOrder
from scanpy_sct.impute.low_rank import CellScores, LowRank, fit_low_rank, reconstruct_masked
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.impute.predict import NetworkPrediction, predict_block
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.memory import release_memory
from scanpy_sct.run.threads import in_threads

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner

GENES_AT_ONCE = 512
"""Genes that a thread fits."""
ENTRIES_AT_ONCE = 2**16
"""Entries of some of these genes, whose numbers stay in the cache of a processor."""
N_PROBES = 400
MIN_CELLS, MIN_GENES = 20, 50
"""Smaller data are too small for a reconstruction."""
NETWORK_ALONE = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class BlendFit:
    """Blend of the network with the reconstruction from the data."""

    low_rank: tuple[LowRank, ...]
    """Reconstruction of each pass, for the genes that are read."""
    data: Calibration
    """Calibration of the reconstruction, (predicted genes, passes)."""
    weights: np.ndarray
    """(genes, passes, 3) float32: weights of the log-odds of network and data, and offset."""
    mean_weight: np.ndarray
    """(genes, passes) float32: weight of the network's conditional mean."""
    factor: np.ndarray
    """(genes, passes) float32: multiplies the blended conditional mean."""
    shared_weights: np.ndarray
    """(passes, 3) weights that all genes share, before each gene's own entries are used."""
    shared_mean_weight: np.ndarray
    """(passes,) weight of the network's conditional mean that all genes share."""
    network_fraction: np.ndarray
    """(genes,) fraction of the network in the blend of each gene."""


@dataclass(frozen=True)
class ImputationFit:
    """All that an imputation learns from the data; it is frozen when it is applied to blocks of cells."""

    plan: ImputationPlan
    settings: ImputeSettings
    cell_weight: float = 1.0
    """Weight of the cell embedding of the network."""
    network: Calibration | None = None
    """Calibration of the network, (predicted genes, passes); None: not calibrated."""
    blend: BlendFit | None = None
    """None: the network alone."""
    noise: NoiseModel | None = None
    """Noise of the measured counts around the predictions, if both are combined."""


@dataclass(frozen=True)
class BlockPrediction:
    """Predictions for a block before calibration and blending; kept for the cells of the fit."""

    network: NetworkPrediction
    scores: list[CellScores] | None = None
    """Scores of the cells in each pass, on the components of the blend."""


def fit_imputation(
    runner: Runner,
    block: CellBlock,
    plan: ImputationPlan,
    settings: ImputeSettings,
    bags: list[Bag] | None = None,
) -> tuple[ImputationFit, BlockPrediction]:
    """Fit an imputation to a block of cells.

    Parameters
    ----------
    runner
        The network.
    block
        Cells with the genes in ``plan.genes``.
    plan, settings
        Plan and settings of the imputation.
    bags
        Bags that are planned beforehand; None: they are planned here.

    Returns
    -------
    The fit, and the predictions for this block.
    """
    release_memory()
    masks = plan.masks(block)
    is_blended = settings.calibrate and settings.blend
    probes = _probe_genes(block, plan.seed) if is_blended else np.zeros(0, dtype=np.int64)
    wider = plan.predicting(np.union1d(plan.columns, probes))
    weight = choose_cell_weight(runner, block, plan, bags) if settings.calibrate else 1.0
    release_memory()
    low_rank, scores = None, None
    if len(probes):
        # Before the network runs, so that its predictions and the dense matrix are not in memory together.
        low_rank, scores = fit_low_rank(block.log_values, masks, plan.seed)
        release_memory()
    network = predict_block(runner, block, masks, wider, cell_weight=weight, bags=bags, keep_bins=settings.keep_bins)
    release_memory()
    fit = ImputationFit(plan, settings, weight)
    if settings.calibrate:
        estimate = _Estimate(block, masks, wider, network, low_rank, scores)
        fit = estimate.calibration(fit) if low_rank is None else estimate.blend(fit, probes)
    release_memory()
    kept = np.searchsorted(wider.columns, plan.columns)
    return fit, BlockPrediction(network.at_columns(kept), scores)


def _probe_genes(block: CellBlock, seed: int) -> np.ndarray:
    """Draw the genes on which the shared weights of a blend are estimated, whichever genes are predicted.

    They are detected in at least 1 % of the cells. Without genes, there is no blend.
    """
    n_cells = block.n_cells
    usable = np.flatnonzero(block.measured & (block.log_values.getnnz(axis=0) >= max(3, n_cells / 100)))
    if n_cells < MIN_CELLS or block.measured.sum() < MIN_GENES or len(usable) < MIN_GENES:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.random.default_rng([seed, 4]).permutation(usable)[:N_PROBES])


_Source = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Genes:
    """Entries of some measured genes, ordered by gene and pass."""

    groups: Groups
    values: np.ndarray
    """(entries,) measured values on the log scale; 0 where the user hides them."""
    visible: VisibleCounts
    network: _Source
    """Log-odds of detection and conditional mean, (entries,), not calibrated."""
    data: _Source | None
    """The same of the reconstruction from the data."""


class _Estimate:
    """Estimation of calibration and blend from the predictions for a block, some genes at a time."""

    def __init__(
        self,
        block: CellBlock,
        masks: BlockMasks,
        plan: ImputationPlan,
        network: NetworkPrediction,
        low_rank: list[LowRank] | None,
        scores: list[CellScores] | None,
    ) -> None:
        self.masks, self.plan, self.network, self.low_rank, self.scores = masks, plan, network, low_rank, scores
        self.values = block.log_values

    def parts(self, columns: np.ndarray) -> Iterator[tuple[slice, _Genes]]:
        """Collect the entries of genes, indices into ``plan.columns``, a few genes at a time."""
        # Columns of these values are found fast in this form, of which only a part is held.
        values = self.values[:, self.plan.columns[columns]].tocsc()
        size = max(1, ENTRIES_AT_ONCE // values.shape[0])
        for start in range(0, len(columns), size):
            some = slice(start, start + size)
            yield some, self.genes(columns[some], values[:, some].toarray())

    def genes(self, columns: np.ndarray, values: np.ndarray) -> _Genes:
        """Collect the entries of some genes, indices into ``plan.columns``, with their ``values`` (cells, genes)."""
        genes = self.plan.columns[columns]
        pass_of = self.masks.pass_of[:, genes]
        order = PassOrder(pass_of, self.masks.n_passes)
        values = order.of(values)
        network = tuple(order.of(table[:, columns]) for table in self.network.tables[:2])
        data = None
        if self.low_rank is not None and self.scores is not None:
            found = reconstruct_masked(self.low_rank, self.scores, pass_of, slice(None), genes)
            data = order.of(found[0]), order.of(found[1])
        visible = VisibleCounts.of(values, order.groups, self.masks.is_known)
        network = _clipped(network[0]), network[1]
        return _Genes(order.groups, values, visible, network, data)

    def calibration(self, fit: ImputationFit) -> ImputationFit:
        """Add the calibration of the network alone."""
        kept = np.searchsorted(self.plan.columns, fit.plan.columns)
        result = Calibration.neutral(len(kept), self.masks.n_passes)

        def fit_block(part: np.ndarray) -> None:
            for some, genes in self.parts(kept[part]):
                result.put(part[some], calibrate(*genes.network, genes.groups, genes.visible))

        for _ in in_threads(fit_block, self._blocks(kept)):
            pass
        return replace(fit, network=result)

    def blend(self, fit: ImputationFit, probes: np.ndarray) -> ImputationFit:
        """Add the calibrations of network and data, and their blend."""
        shared, of_means = self._shared(np.searchsorted(self.plan.columns, probes))
        kept = np.searchsorted(self.plan.columns, fit.plan.columns)
        n_passes = self.masks.n_passes
        network, data = (Calibration.neutral(len(kept), n_passes) for _ in range(2))
        weights = np.tile(NETWORK_ALONE.astype(np.float32), (len(kept), n_passes, 1))
        mean_weights, factor = np.ones((2, len(kept), n_passes), dtype=np.float32)
        fraction = np.ones(len(kept))

        def fit_block(part: np.ndarray) -> None:
            for some, genes in self.parts(kept[part]):
                rows, found = part[some], _blend_genes(genes, self.masks.learns_from, shared, of_means)
                network.put(rows, found.network)
                data.put(rows, found.data)
                weights[rows], mean_weights[rows], factor[rows] = found.weights, found.mean_weight, found.factor
                fraction[rows] = found.network_fraction

        for _ in in_threads(fit_block, self._blocks(kept)):
            pass
        blend = BlendFit(tuple(self.low_rank), data, weights, mean_weights, factor, shared, of_means, fraction)
        return replace(fit, network=network, blend=blend)

    def _shared(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate the weights of log-odds (passes, 3) and of conditional means (passes,) that all genes share.

        Those of the pass of hidden entries are estimated on the probe, all others on the ordinary passes together:
        a few numbers for all genes, on which a single entry has hardly any influence.
        """
        network, data, of_network, of_data, values, pass_of = map(
            np.concatenate, zip(*(self._calibrated_entries(genes) for _, genes in self.parts(columns)), strict=True)
        )
        detected = values > 0
        weights, means = np.empty((self.masks.n_passes, 3)), np.empty(self.masks.n_passes)
        is_last = np.arange(self.masks.n_passes) == self.masks.hidden_pass
        for passes in (np.flatnonzero(~is_last), np.flatnonzero(is_last)):
            used = np.isin(pass_of, np.flatnonzero(self.masks.learns_from[passes].any(axis=0)))
            weights[passes] = shared_weights((network[used], data[used]), detected[used])
            used &= detected
            means[passes] = mean_weight((of_network[used], of_data[used]), values[used])
        return weights, means

    def _calibrated_entries(self, genes: _Genes) -> tuple[np.ndarray, ...]:
        """Return calibrated log-odds of network and data, their conditional means, values and passes of all entries."""
        network, data, *_ = _calibrated(genes)
        numbers = np.arange(self.masks.n_passes, dtype=np.uint8)
        pass_of = genes.groups.spread(np.broadcast_to(numbers, genes.groups.sizes.shape))
        return network[0], data[0], network[1], data[1], genes.values, pass_of

    def _blocks(self, kept: np.ndarray) -> list[np.ndarray]:
        """Return indices into ``kept`` of measured genes, some at a time."""
        measured = np.flatnonzero(~self.plan.is_unmeasured[kept])
        n_parts = max(1, -(-len(measured) // GENES_AT_ONCE))
        return [part for part in np.array_split(measured, n_parts) if len(part)]


@dataclass(frozen=True)
class _GeneBlend:
    network: Calibration
    data: Calibration
    weights: np.ndarray
    mean_weight: np.ndarray
    factor: np.ndarray
    network_fraction: np.ndarray


def _calibrated(genes: _Genes) -> tuple[_Source, _Source, Calibration, Calibration]:
    """Calibrate network and data; returns log-odds and conditional mean of each, and the calibrations."""
    groups = genes.groups

    def calibrated(log_odds: np.ndarray, mean: np.ndarray) -> tuple[_Source, Calibration]:
        fit = calibrate(log_odds, mean, groups, genes.visible)
        return (_clipped(log_odds + groups.spread(fit.shift)), mean * groups.spread(fit.factor)), fit

    (network, of_network), (data, of_data) = calibrated(*genes.network), calibrated(*genes.data)
    return network, data, of_network, of_data


def _blend_genes(genes: _Genes, learns_from: np.ndarray, shared: np.ndarray, of_means: np.ndarray) -> _GeneBlend:
    """Estimate the blend of some genes: weights of log-odds, then the calibration of what is blended."""
    groups, visible = genes.groups, genes.visible
    network, data, of_network, of_data = _calibrated(genes)
    weights = gene_weights((network[0], data[0]), genes.values > 0, groups, learns_from, shared)
    # Without a visible detection, the data say nothing about a gene.
    is_alone = visible.n_detected == 0
    weights[is_alone] = NETWORK_ALONE
    fraction = (network_fraction(weights) * groups.sizes).sum(axis=1) / np.maximum(groups.sizes.sum(axis=1), 1)
    first, second, offset = (groups.spread(weights[..., number].astype(np.float32)) for number in range(3))
    log_odds = _clipped(first * network[0] + second * data[0] + offset)
    shift = detection_shift(log_odds, groups, visible)
    detection = probability(log_odds + groups.spread(shift))
    mean_weights = np.where(is_alone, 1, of_means).astype(np.float32)
    of_entries = groups.spread(mean_weights)
    mean = of_entries * network[1] + (1 - of_entries) * data[1]
    factor = mean_factor(mean, detection, groups, visible)
    weights[..., 2] += shift
    return _GeneBlend(of_network, of_data, weights.astype(np.float32), mean_weights, factor, fraction)


def _clipped(log_odds: np.ndarray) -> np.ndarray:
    return np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
