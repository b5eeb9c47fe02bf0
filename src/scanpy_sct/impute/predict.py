"""Predict the masked entries of a block of cells with the network, before calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanpy_sct.impute.calibrate import probability
from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.inputs import BagInput, MaskedOf, bag_inputs, plan_block, token_rules
from scanpy_sct.run.progress import progress
from scanpy_sct.run.runner import Runner, TokenPrediction


@dataclass(frozen=True)
class NetworkPrediction:
    """Predictions for the predicted genes of a block, (cells, genes) each; every entry from the pass that masks it.

    Unmeasured genes are masked in all passes, and their predictions are averaged.
    """

    log_odds: np.ndarray
    """float32: log-odds of detection."""
    conditional_mean: np.ndarray
    """float32: on the log scale of the input."""
    bins: np.ndarray | None = None
    """uint8: most probable bin, if kept."""
    confidence: np.ndarray | None = None
    """float32: probability of that bin, if kept."""

    @classmethod
    def empty(cls, n_cells: int, n_genes: int, *, keep_bins: bool) -> NetworkPrediction:
        """Make tables of zeros."""
        types = [np.float32, np.float32, np.uint8, np.float32][: 4 if keep_bins else 2]
        return cls(*(np.zeros((n_cells, n_genes), dtype=dtype) for dtype in types))

    @property
    def tables(self) -> tuple[np.ndarray | None, ...]:
        """All tables, in the order of the fields."""
        return self.log_odds, self.conditional_mean, self.bins, self.confidence

    def at_columns(self, columns: np.ndarray) -> NetworkPrediction:
        """Return the predictions of some genes, increasing columns of the tables."""
        if len(columns) == self.log_odds.shape[1]:
            return self
        return NetworkPrediction(*(None if table is None else table[:, columns] for table in self.tables))


def predict_block(
    runner: Runner,
    block: CellBlock,
    masks: BlockMasks,
    plan: ImputationPlan,
    *,
    cell_weight: float = 1.0,
    bags: list[Bag] | None = None,
    keep_bins: bool = False,
) -> NetworkPrediction:
    """Predict the genes ``plan.columns`` of a block with the genes ``plan.genes``, in all passes.

    Parameters
    ----------
    runner, block, masks, plan
        Network, cells, pass of each entry, and plan of the imputation.
    cell_weight
        Weight of the cell embedding.
    bags
        Bags that are planned beforehand; None: they are planned here.
    keep_bins
        Keep the most probable bin and its probability.
    """
    result = NetworkPrediction.empty(block.n_cells, len(plan.columns), keep_bins=keep_bins)
    means = _Means(block.n_cells, plan.is_unmeasured)
    rules, bag_size = token_rules(runner.checkpoint, plan.genes), runner.checkpoint.config.bag_size
    for number in range(masks.n_passes):
        # Similar cells are found from visible entries, hence in each pass; other bags are the same in all passes.
        if bags is None or plan.policy == "similar":
            bags = plan_block(
                block, bag_size, plan.policy, plan.seed, _masked_in(masks, number), plan.genes, plan.n_genes
            )
        inputs = bag_inputs(block, bags, rules, _masked_in(masks, number), _requested_in(masks, number, plan))
        found = runner.predict(inputs, cell_weight=cell_weight, keep_bins=keep_bins)
        for bag, prediction in progress(found, len(bags), f"pass {number + 1}/{masks.n_passes}"):
            _store(result, means, bag, prediction, masks.targets(number, bag.rows)[:, plan.columns])
    means.put_into(result, masks.n_passes)
    return result


def _masked_in(masks: BlockMasks, number: int) -> MaskedOf:
    return lambda rows: masks.masked(number, rows)


def _requested_in(masks: BlockMasks, number: int, plan: ImputationPlan) -> MaskedOf:
    """Entries to predict in a pass: those that it masks, and all of unmeasured genes."""
    requested = np.zeros(len(plan.genes), dtype=bool)
    requested[plan.columns] = True
    unmeasured = np.zeros(len(plan.genes), dtype=bool)
    unmeasured[plan.columns[plan.is_unmeasured]] = True
    return lambda rows: (masks.targets(number, rows) & requested) | unmeasured


def _store(
    result: NetworkPrediction, means: _Means, bag: BagInput, prediction: TokenPrediction, targets: np.ndarray
) -> None:
    """Write the predictions of a bag, which are ordered by cell and gene, into the tables."""
    requested = targets | means.is_unmeasured
    is_target = targets[requested]
    found = (prediction.log_odds, prediction.conditional_mean, prediction.top_bin, prediction.confidence)
    for table, values in zip(result.tables, found, strict=True):
        if table is not None:
            part = table[bag.rows]
            part[targets] = values[is_target]
            table[bag.rows] = part
    means.add(bag.rows, prediction.log_odds[~is_target], prediction.conditional_mean[~is_target])


class _Means:
    """Means over the passes of the predictions of unmeasured genes."""

    def __init__(self, n_cells: int, is_unmeasured: np.ndarray) -> None:
        self.is_unmeasured = is_unmeasured
        self._detection, self._value = np.zeros((2, n_cells, int(is_unmeasured.sum())), dtype=np.float32)

    def add(self, rows: np.ndarray, log_odds: np.ndarray, conditional_mean: np.ndarray) -> None:
        shape = (len(rows), self._detection.shape[1])
        detection = probability(log_odds).reshape(shape)
        self._detection[rows] += detection
        self._value[rows] += detection * conditional_mean.reshape(shape)

    def put_into(self, result: NetworkPrediction, n_passes: int) -> None:
        detection = np.clip(self._detection / n_passes, 1e-9, 1 - 1e-7)
        result.log_odds[:, self.is_unmeasured] = np.log(detection) - np.log1p(-detection)
        result.conditional_mean[:, self.is_unmeasured] = self._value / n_passes / detection
