"""Embed the cells of a block: plan, profile of each sample, and vectors by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.checkpoints.label_head import RelativeTo
from scanpy_sct.plan.bags import Bag
from scanpy_sct.plan.blocks import rows_of_samples
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.inputs import BagInputs, MaskedOf, plan_block, token_rules

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Background, Runner

CELLS_AT_ONCE = 100
"""Cells of a sample in one batch of a network that reads no bags."""


@dataclass(frozen=True)
class EmbeddingPlan:
    """What all blocks have in common."""

    genes: np.ndarray
    """Indices into the vocabulary of the genes that the network reads, increasing; a block has these genes."""
    policy: str
    """Policy of the bags, for a network that reads bags."""
    seed: int
    by_sample: bool
    """Whether cells are embedded alone, relative to a profile, else in bags."""
    relative_to: RelativeTo = "sample"
    """What they are centred on."""


@dataclass(frozen=True)
class SampleProfile:
    """Profile of a sample, and the cells on which it is estimated."""

    background: Background
    rows: np.ndarray
    """Their rows in the object, increasing."""


@dataclass(frozen=True)
class EmbeddingFit:
    """Profile of each sample; empty where none is needed."""

    profiles: Mapping[int, SampleProfile] = field(default_factory=dict)

    def of(self, samples: np.ndarray) -> EmbeddingFit:
        """Return the part that cells of these samples need, to be sent with their block."""
        return EmbeddingFit({n: self.profiles[n] for n in np.unique(samples).tolist() if n in self.profiles})


def embed_block(runner: Runner, plan: EmbeddingPlan, fit: EmbeddingFit, block: CellBlock) -> np.ndarray:
    """Embed the cells of a block from :meth:`Embedder.read`, (cells, dimensions) float32; a pure function.

    ``fit`` may have the samples of the block only, see :meth:`EmbeddingFit.of`.
    """
    result: np.ndarray | None = None
    for rows, vectors in block_vectors(runner, plan, fit, block):
        if result is None:
            result = np.zeros((block.n_cells, vectors.shape[1]), dtype=np.float32)
        result[rows] = vectors
    return result


def block_vectors(
    runner: Runner, plan: EmbeddingPlan, fit: EmbeddingFit, block: CellBlock
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows within the block, and vectors, of some cells at a time; arguments as those of :func:`embed_block`."""
    rules = token_rules(runner.checkpoint, plan.genes)
    if not plan.by_sample:
        bags = plan_block(block, runner.checkpoint.config.bag_size, plan.policy, plan.seed)
        for bag, vectors in runner.cell_vectors(BagInputs(block, bags, rules, _masked_of(block))):
            yield bag.rows, vectors[: len(bag.rows)]
        return
    if plan.relative_to == "training":
        inputs = BagInputs(block, _batches(np.arange(block.n_cells)), rules, _masked_of(block))
        yield from _rows_and_vectors(runner, inputs, runner.no_background())
        return
    is_empty = block.is_empty
    for sample, rows in _rows_by_sample(block):
        profile = fit.profiles[sample]
        is_drawn = np.isin(block.rows, profile.rows) & ~is_empty
        inputs = BagInputs(block, _batches(rows), rules, _masked_of(block), in_background=is_drawn)
        yield from _rows_and_vectors(runner, inputs, profile.background)


def _rows_and_vectors(
    runner: Runner, inputs: BagInputs, background: Background
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((batch.rows, vectors) for batch, vectors in runner.cell_vectors(inputs, background))


def count_background(runner: Runner, block: CellBlock, plan: EmbeddingPlan) -> Iterator[tuple[int, Background]]:
    """Yield each sample of a block with the counts of its cells; those of several blocks can be added.

    Empty cells do not count: how many there are depends on the filter of the data, not on the sample.
    """
    rules, is_empty = token_rules(runner.checkpoint, plan.genes), block.is_empty
    for sample, rows in _rows_by_sample(block):
        rows = rows[~is_empty[rows]]
        if len(rows):
            yield sample, runner.background(BagInputs(block, _batches(rows), rules, _masked_of(block)))


def _masked_of(block: CellBlock) -> MaskedOf | None:
    """Hidden entries are masked."""
    return None if block.hidden is None else block.hidden_rows


def _rows_by_sample(block: CellBlock) -> list[tuple[int, np.ndarray]]:
    return [(int(block.samples[rows[0]]), rows) for rows in rows_of_samples(block.samples)]


def _batches(rows: np.ndarray) -> list[Bag]:
    """Divide cells of a sample into those that are embedded at a time."""
    parts = np.array_split(rows, -(-len(rows) // CELLS_AT_ONCE))
    return [Bag(part, len(part)) for part in parts]
