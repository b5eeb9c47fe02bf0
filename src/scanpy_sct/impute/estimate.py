"""Estimate calibration and blend from the predictions for the cells of the fit, some genes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from scanpy_sct.impute.groups import Groups, PassOrder
from scanpy_sct.impute.low_rank import CellScores, LowRank, reconstruct_masked
from scanpy_sct.impute.neighbours import Neighbours
from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.impute.predict import NetworkPrediction
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.memory import release_memory
from scanpy_sct.run.threads import in_threads

GENES_AT_ONCE = 512
"""Genes that a thread fits."""
ENTRIES_AT_ONCE = 2**16
"""Entries of some of these genes, whose numbers stay in the cache of a processor."""
NETWORK_ALONE = np.array([1.0, 0.0, 0.0])
NEIGHBOUR_PRECISION = 0.3
"""Precision of the prior around no weight of the nearest cells: a standard deviation of 0.3 if the error of an expected
value is 0.16 on the log scale (0.16² / 0.3²)."""


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
    neighbour_weight: np.ndarray
    """(passes,) float32: weight of the nearest cells' conditional mean beside that of network and data."""
    network_fraction: np.ndarray
    """(genes,) fraction of the network in the blend of each gene."""


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
    of_neighbours: np.ndarray | None
    """Conditional mean of the nearest cells, (entries,), if it is needed."""


class Estimate:
    """Estimation from the predictions for a block.

    Parameters
    ----------
    block, masks
        Cells of the fit, and the pass of each entry.
    plan
        Plan whose predicted genes are those in ``network``.
    columns
        Those of ``plan.columns`` for which estimates are returned.
    network
        Predictions of the network.
    low_rank, scores, neighbours
        Reconstruction of each pass and scores of the cells (None: no blend), and their nearest ones (None: too few).
    """

    def __init__(
        self,
        block: CellBlock,
        masks: BlockMasks,
        plan: ImputationPlan,
        columns: np.ndarray,
        network: NetworkPrediction,
        low_rank: list[LowRank] | None,
        scores: list[CellScores] | None,
        neighbours: Neighbours | None,
    ) -> None:
        self.masks, self.plan, self.network, self.low_rank, self.scores = masks, plan, network, low_rank, scores
        self.neighbours = neighbours
        self.values = block.log_values
        self.kept = np.searchsorted(plan.columns, columns)

    def parts(self, columns: np.ndarray, neighbours: Neighbours | None = None) -> Iterator[tuple[slice, _Genes]]:
        """Collect the entries of genes, indices into ``plan.columns``, a few genes at a time."""
        # Columns of these values are found fast in this form, of which only a part is held.
        values = self.values[:, self.plan.columns[columns]].tocsc()
        if neighbours is not None:
            neighbours = neighbours.at(self.plan.columns[columns])
        size = max(1, ENTRIES_AT_ONCE // values.shape[0])
        for start in range(0, len(columns), size):
            some = slice(start, min(start + size, len(columns)))
            nearest = None if neighbours is None else neighbours.at(some)
            yield some, self.genes(columns[some], values[:, some].toarray(), nearest)

    def genes(self, columns: np.ndarray, values: np.ndarray, neighbours: Neighbours | None) -> _Genes:
        """Collect the entries of some genes, indices into ``plan.columns``, with their ``values`` (cells, genes)."""
        genes = self.plan.columns[columns]
        pass_of = self.masks.pass_of(genes=genes)
        order = PassOrder(pass_of, self.masks.n_passes)
        values = order.of(values)
        network = tuple(order.of(table[:, columns]) for table in self.network.tables[:2])
        data = None
        if self.low_rank is not None and self.scores is not None:
            found = reconstruct_masked(self.low_rank, self.scores, pass_of, slice(None), genes)
            data = order.of(found[0]), order.of(found[1])
        of_neighbours = None if neighbours is None else order.of(neighbours.conditional_mean(pass_of))
        visible = VisibleCounts.of(values, order.groups, self.masks.is_known)
        network = _clipped(network[0]), network[1]
        return _Genes(order.groups, values, visible, network, data, of_neighbours)

    def calibration(self) -> Calibration:
        """Calibrate the network alone."""
        result = Calibration.neutral(len(self.kept), self.masks.n_passes)

        def fit_block(part: np.ndarray) -> None:
            for some, genes in self.parts(self.kept[part]):
                result.put(part[some], calibrate(*genes.network, genes.groups, genes.visible))

        for _ in in_threads(fit_block, self._blocks()):
            pass
        return result

    def blend(self, probes: np.ndarray) -> tuple[Calibration, BlendFit]:
        """Calibrate network and data, and blend them; shared weights are estimated on the genes ``probes``."""
        probes = np.searchsorted(self.plan.columns, probes)
        shared, of_means = self._shared(probes)
        of_neighbours = self._neighbour_weight(probes, shared, of_means)
        release_memory()
        kept, n_passes = self.kept, self.masks.n_passes
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

        for _ in in_threads(fit_block, self._blocks()):
            pass
        of_all = shared, of_means, of_neighbours
        return network, BlendFit(tuple(self.low_rank), data, weights, mean_weights, factor, *of_all, fraction)

    def _shared(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate the weights of log-odds (passes, 3) and of conditional means (passes,) that all genes share.

        Those of the pass of hidden entries are estimated on the probe, all others on the ordinary passes together:
        a few numbers for all genes, on which a single entry has hardly any influence.
        """
        found = (self._calibrated_entries(genes) for _, genes in self.parts(columns))
        parts = [list(part) for part in zip(*found, strict=True)]
        entries = []
        while parts:  # one after the other, so that only one of them is in memory twice
            entries.append(np.concatenate(parts.pop(0)))
        network, data, pass_of, detected, of_network, of_data, values, pass_of_detected = entries
        weights, means = np.empty((self.masks.n_passes, 3)), np.empty(self.masks.n_passes)
        is_last = np.arange(self.masks.n_passes) == self.masks.hidden_pass
        for passes in (np.flatnonzero(~is_last), np.flatnonzero(is_last)):
            teachers = np.flatnonzero(self.masks.learns_from[passes].any(axis=0))
            used = np.isin(pass_of, teachers)
            kept = slice(None) if used.all() else used  # without a copy, if possible
            weights[passes] = shared_weights((network[kept], data[kept]), detected[kept])
            used = np.isin(pass_of_detected, teachers)
            means[passes] = mean_weight((of_network[used], of_data[used]), values[used])
        return weights, means

    def _neighbour_weight(self, columns: np.ndarray, shared: np.ndarray, of_means: np.ndarray) -> np.ndarray:
        """Estimate the weight of the nearest cells' conditional mean, (passes,) float32.

        Ridge regression of what the blend leaves of the values, on what the nearest cells would change; 0 without them.
        """
        if self.neighbours is None:
            return np.zeros(self.masks.n_passes, dtype=np.float32)
        products, squares = np.zeros((2, self.masks.n_passes))
        for _, genes in self.parts(columns, self.neighbours):
            found = _blend_genes(genes, self.masks.learns_from, shared, of_means)
            mean = found.mean * genes.groups.spread(found.factor)
            change = found.detection * np.nan_to_num(genes.of_neighbours - mean)
            products += genes.groups.sum(change * (genes.values - found.detection * mean)).sum(axis=0)
            squares += genes.groups.sum(change**2).sum(axis=0)
        of_teachers = self.masks.learns_from.astype(float) @ np.stack([products, squares], axis=1)
        return np.clip(of_teachers[:, 0] / (of_teachers[:, 1] + NEIGHBOUR_PRECISION), 0, 1).astype(np.float32)

    def _calibrated_entries(self, genes: _Genes) -> tuple[np.ndarray, ...]:
        """Return calibrated log-odds of network and data, pass, and whether the gene is detected, of all entries.

        Then calibrated conditional means of network and data, value, and pass of those where it is detected.
        """
        network, data, *_ = _calibrated(genes)
        numbers = np.arange(self.masks.n_passes, dtype=np.uint8)
        pass_of = genes.groups.spread(np.broadcast_to(numbers, genes.groups.sizes.shape))
        detected = genes.values > 0
        of_detected = (each[detected] for each in (network[1], data[1], genes.values, pass_of))
        return network[0], data[0], pass_of, detected, *of_detected

    def _blocks(self) -> list[np.ndarray]:
        """Return indices into ``self.kept`` of measured genes, some at a time."""
        measured = np.flatnonzero(~self.plan.is_unmeasured[self.kept])
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
    detection: np.ndarray
    """(entries,) blended detection probability."""
    mean: np.ndarray
    """(entries,) blended conditional mean, without the factor."""


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
    fits = of_network, of_data, weights.astype(np.float32), mean_weights, factor, fraction
    return _GeneBlend(*fits, detection, mean)


def _clipped(log_odds: np.ndarray) -> np.ndarray:
    return np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
