"""What the network says about the masked entries of a block of cells, before anything is fitted to the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.inputs import MaskedOf, bag_inputs, plan_block, token_rules
from scanpy_sct.run.progress import progress
from scanpy_sct.run.runner import BagInput, Runner, TokenPrediction


@dataclass(frozen=True)
class NetworkPrediction:
    """Predictions for the requested genes of a block, (cells, genes) each; every entry from the pass that masked it.

    A gene that was not measured is masked in all passes; its predictions are averaged.
    """

    log_odds: np.ndarray
    """float32: log-odds that the gene is detected."""
    conditional_mean: np.ndarray
    """float32: expected value if it is detected, on the log scale of the input."""
    bins: np.ndarray | None = None
    """uint8: most probable bin, if kept."""
    confidence: np.ndarray | None = None
    """float32: probability of that bin, if kept."""


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
    """Run all passes over a block.

    Parameters
    ----------
    runner
        The network.
    block
        Cells, with the genes in ``plan.genes``.
    masks
        In which pass each entry is masked.
    plan
        Plan of the imputation.
    cell_weight
        Weight of the cell embedding.
    bags
        Bags that were fixed beforehand; None: they are planned here.
    keep_bins
        Keep the most probable bin and its probability.
    """
    result = _empty(block.n_cells, len(plan.columns), keep_bins=keep_bins)
    means = _Means(block.n_cells, plan.is_unmeasured)
    rules, bag_size = token_rules(runner.checkpoint, plan.genes), runner.checkpoint.config.bag_size
    for number in range(masks.n_passes):
        # Which cells are similar is judged by what is visible, so anew in each pass; other bags stay.
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
    """Entries to predict in a pass: those it masks, and all of requested genes that were not measured."""
    requested = np.zeros(len(plan.genes), dtype=bool)
    requested[plan.columns] = True
    unmeasured = np.zeros(len(plan.genes), dtype=bool)
    unmeasured[plan.columns[plan.is_unmeasured]] = True
    return lambda rows: (masks.targets(number, rows) & requested) | unmeasured


def _empty(n_cells: int, n_genes: int, *, keep_bins: bool) -> NetworkPrediction:
    shape = (n_cells, n_genes)
    log_odds, conditional_mean = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    if not keep_bins:
        return NetworkPrediction(log_odds, conditional_mean)
    return NetworkPrediction(
        log_odds, conditional_mean, np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.float32)
    )


def _store(
    result: NetworkPrediction, means: _Means, bag: BagInput, prediction: TokenPrediction, targets: np.ndarray
) -> None:
    """Put the predictions of a bag, which are in the order of the cells and genes, in their places."""
    requested = targets | means.is_unmeasured
    is_target = targets[requested]
    for table, values in (
        (result.log_odds, prediction.log_odds),
        (result.conditional_mean, prediction.conditional_mean),
        (result.bins, prediction.top_bin),
        (result.confidence, prediction.confidence),
    ):
        if table is not None:
            part = table[bag.rows]
            part[targets] = values[is_target]
            table[bag.rows] = part
    means.add(bag.rows, prediction.log_odds[~is_target], prediction.conditional_mean[~is_target])


class _Means:
    """Means over the passes of the predictions of genes that were not measured."""

    def __init__(self, n_cells: int, is_unmeasured: np.ndarray) -> None:
        self.is_unmeasured = is_unmeasured
        self._detection, self._value = np.zeros((2, n_cells, int(is_unmeasured.sum())), dtype=np.float32)

    def add(self, rows: np.ndarray, log_odds: np.ndarray, conditional_mean: np.ndarray) -> None:
        shape = (len(rows), self._detection.shape[1])
        detection = (1 / (1 + np.exp(-log_odds))).reshape(shape)
        self._detection[rows] += detection
        self._value[rows] += detection * conditional_mean.reshape(shape)

    def put_into(self, result: NetworkPrediction, n_passes: int) -> None:
        detection = np.clip(self._detection / n_passes, 1e-9, 1 - 1e-7)
        result.log_odds[:, self.is_unmeasured] = np.log(detection) - np.log1p(-detection)
        result.conditional_mean[:, self.is_unmeasured] = self._value / n_passes / detection
