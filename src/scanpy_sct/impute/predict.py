"""Predict the masked entries of a block of cells with the network, before calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.inputs import BagInput, BagInputs, MaskedOf, VisibleOf, plan_block, token_rules
from scanpy_sct.run.memory import release_memory
from scanpy_sct.run.progress import progress
from scanpy_sct.run.threads import in_threads

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner, TokenPrediction


@dataclass(frozen=True)
class NetworkPrediction:
    """Predictions for the predicted genes of a block, (cells, genes) each; every entry from the pass that masks it.

    Unmeasured genes are predicted from all visible entries.
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
    tables = _Tables(plan, block.n_cells, keep_bins=keep_bins)
    rules = token_rules(runner.checkpoint, plan.genes)
    passes = _passes(masks, plan)
    planned = _plan_bags(runner, block, passes, plan, bags)
    release_memory()
    for number, (of_pass, its_bags) in enumerate(zip(passes, planned, strict=True), start=1):
        inputs = BagInputs(block, its_bags, rules, of_pass.masked_of, of_pass.requested_of)
        found = runner.predict(inputs, cell_weight=cell_weight, keep_bins=keep_bins)
        for bag, prediction in progress(found, len(its_bags), f"pass {number}/{len(passes)}"):
            tables.put(bag, prediction)
    return tables.result


@dataclass(frozen=True)
class _Pass:
    """What is masked and what is predicted in a pass."""

    requested_of: MaskedOf
    masked_of: MaskedOf | None = None
    """None: only unmeasured genes are masked."""
    visible_of: VisibleOf | None = None
    """None: all entries are visible."""

    @classmethod
    def of(cls, masks: BlockMasks, number: int | None, requested_of: MaskedOf) -> _Pass:
        """Make a pass that masks what pass ``number`` masks; None: nothing."""
        if number is None:
            return cls(requested_of)
        return cls(requested_of, partial(masks.masked, number), partial(masks.visible, number=number))


def _passes(masks: BlockMasks, plan: ImputationPlan) -> list[_Pass]:
    """Return the passes: those of the measured genes, and a last one for the unmeasured genes, which masks no other."""
    requested = np.zeros(len(plan.genes), dtype=bool)
    requested[plan.columns] = True
    measured, unmeasured = requested & plan.measured, requested & ~plan.measured
    passes = [
        _Pass.of(masks, number, lambda rows, number=number: masks.targets(number, rows) & measured)
        for number in range(masks.n_passes if measured.any() else 0)
    ]
    if unmeasured.any():
        # Hidden entries stay masked; their own pass masks nothing else.
        passes.append(_Pass.of(masks, masks.hidden_pass, lambda rows: np.tile(unmeasured, (len(rows), 1))))
    return passes


def _plan_bags(
    runner: Runner, block: CellBlock, passes: list[_Pass], plan: ImputationPlan, bags: list[Bag] | None
) -> list[list[Bag]]:
    """Plan the bags of each pass: similar cells are found from visible entries, other bags are the same in all."""
    size = runner.checkpoint.config.bag_size

    def planned(of_pass: _Pass) -> list[Bag]:
        return plan_block(block, size, plan.policy, plan.seed, of_pass.visible_of, plan.genes, plan.n_genes)

    if plan.policy == "similar":
        return list(in_threads(planned, passes))
    return [planned(passes[0]) if bags is None else bags] * len(passes)


class _Tables:
    """Tables of predictions that are filled bag by bag."""

    def __init__(self, plan: ImputationPlan, n_cells: int, *, keep_bins: bool) -> None:
        self.result = NetworkPrediction.empty(n_cells, len(plan.columns), keep_bins=keep_bins)
        self.n_genes, self.n_columns = len(plan.genes), len(plan.columns)
        # Column of each gene less its own number; None if all genes that are read are predicted.
        self._shift = None
        if self.n_columns < self.n_genes:
            self._shift = np.zeros(self.n_genes, dtype=np.int64)
            self._shift[plan.columns] = np.arange(self.n_columns) - plan.columns

    def put(self, bag: BagInput, prediction: TokenPrediction) -> None:
        """Write the predictions of a bag, which are ordered by cell and gene."""
        cell = bag.token_index // self.n_genes
        position = bag.token_index + (bag.rows * self.n_columns - np.arange(len(bag.rows)) * self.n_genes)[cell]
        if self._shift is not None:
            position += self._shift[bag.token_index - cell * self.n_genes]
        found = (prediction.log_odds, prediction.conditional_mean, prediction.top_bin, prediction.confidence)
        for table, values in zip(self.result.tables, found, strict=True):
            if table is not None:
                table.reshape(-1)[position] = values
