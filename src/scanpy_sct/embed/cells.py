"""Embed cells, one vector per cell: plan, fit the profile of each sample, then block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.checkpoints.label_head import RelativeTo
from scanpy_sct.embed.block import (
    CELLS_AT_ONCE,
    EmbeddingFit,
    EmbeddingPlan,
    SampleProfile,
    block_vectors,
    count_background,
    embed_block,
)
from scanpy_sct.plan.bags import check_complete, choose_policy
from scanpy_sct.plan.blocks import plan_blocks, rows_of_samples
from scanpy_sct.read.reader import CellBlock, CellReader
from scanpy_sct.run.blocks import StoredCells, find_client, run_blocks
from scanpy_sct.run.inputs import (
    check_coordinates,
    genes_to_read,
    network_coordinates,
)
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.progress import progress

if TYPE_CHECKING:
    from distributed import Client

    from scanpy_sct.run.runner import Background, Runner

BACKGROUND_CELLS = 1000
"""Largest number of cells of a sample on which its profile is estimated."""
BLOCK_CELLS = 4096
"""Cells in a block for such a network: consecutive ones, whatever their samples."""


class Embedder:
    """Embedding of one object: plan, then fit, then block by block.

    A copy that is sent to another process has everything but the expression of the cells.

    Parameters
    ----------
    checkpoint, cells, options
        Network, cells, and how to compute.
    relative_to
        What the compact network compares each cell with.

    Attributes
    ----------
    plan
        What all blocks have in common.
    blocks
        Rows of the cells of each block, increasing.

    Raises
    ------
    ValueError
        An option does not work with these data or on this machine; raised before anything is computed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        cells: CellReader | CellBlock,
        options: ComputeOptions,
        relative_to: RelativeTo = "sample",
    ) -> None:
        check_coordinates(checkpoint, cells.coordinates)
        by_sample = checkpoint.network.has_cell_embedding
        self.plan = EmbeddingPlan(
            genes=genes_to_read(checkpoint, cells.measured, np.zeros_like(cells.measured)),
            policy=choose_policy(options.bags, has_coordinates=cells.coordinates is not None),
            seed=options.seed,
            by_sample=by_sample,
            relative_to=relative_to,
        )
        if self.plan.policy == "spatial" and not by_sample:
            check_complete(cells.coordinates)
        self._checkpoint, self._options, self._cells = checkpoint, options, cells
        self._coordinates = network_coordinates(checkpoint, cells.coordinates, cells.samples)
        self._max_cells = min(BLOCK_CELLS, options.block_size) if by_sample else options.block_size
        self.blocks = self._plan_blocks()
        if find_client(options.client) is None:
            _ = self.runner  # a device or precision that cannot be used raises its error here

    def __getstate__(self) -> dict[str, Any]:
        # The network is moved to the device of the process that uses it.
        kept = {name: value for name, value in self.__dict__.items() if name != "runner"}
        options = replace(self._options, client=None)
        return kept | {"_cells": self._cells.without_matrix(), "_options": options, "blocks": []}

    @cached_property
    def runner(self) -> Runner:
        """The network on its device."""
        from scanpy_sct.run.runner import Runner  # torch is slow to import

        return Runner(self._checkpoint, self._options, self.plan.genes)

    def _plan_blocks(self) -> list[np.ndarray]:
        if self.plan.by_sample:
            return _in_runs(np.arange(self._cells.n_cells), self._max_cells)
        points = self._coordinates if self.plan.policy == "spatial" else None
        return [each.rows for each in plan_blocks(self._cells.samples, points, self.plan.seed, self._max_cells)]

    @property
    def n_batches(self) -> int:
        """Number of bags, or of batches of cells of a sample, in all blocks."""
        size = CELLS_AT_ONCE if self.plan.by_sample else self._checkpoint.config.bag_size
        if self.plan.by_sample and self.plan.relative_to == "training":
            return sum(-(-len(rows) // size) for rows in self.blocks)
        counts = (np.unique(self._cells.samples[rows], return_counts=True)[1] for rows in self.blocks)
        return sum(int(np.ceil(each / size).sum()) for each in counts)

    def read(self, cells: StoredCells | np.ndarray) -> CellBlock:
        """Convert cells, or read some rows, to a block with the genes of the plan."""
        if isinstance(cells, StoredCells):
            rows, block = cells.rows, self._cells.to_block(cells.matrix, cells.rows, cells.hidden)
        else:
            rows, block = cells, self._cells.block(cells)
        coordinates = None if self._coordinates is None else self._coordinates[rows]
        # The rows of a block within another block are those within the latter.
        return replace(block.at_genes(self.plan.genes), rows=rows, coordinates=coordinates)

    def fit(self, client: Client | None = None) -> EmbeddingFit:
        """Estimate the profile of each sample on up to 1,000 of its cells, which are read once."""
        if not self.plan.by_sample or self.plan.relative_to == "training":
            return EmbeddingFit()
        drawn = background_cells(self._cells)
        parts = _in_runs(np.sort(np.concatenate(list(drawn.values()))), self._max_cells)
        if client is None:
            counts = (self.fit_task(number, rows) for number, rows in enumerate(parts))
        else:
            found = run_blocks(self.fit_task, self._cells, parts, client=client, what="fit")
            counts = (each for _, each in sorted(found, key=lambda item: item[0]))
        total: dict[int, Background] = {}
        for each in counts:
            for sample, counted in each.items():
                total[sample] = total[sample] + counted if sample in total else counted
        # A sample of empty cells has no profile of its own; whatever it is centred on, its vectors mean nothing.
        instead = next(iter(total.values()), None) or self.runner.no_background()
        return EmbeddingFit({sample: SampleProfile(total.get(sample, instead), rows) for sample, rows in drawn.items()})

    def fit_task(self, number: int, cells: StoredCells | np.ndarray) -> dict[int, Background]:
        """Count the bins of some cells by sample; a task of :func:`scanpy_sct.run.blocks.run_blocks`."""
        return dict(count_background(self.runner, self.read(cells), self.plan))

    def task(self, number: int, cells: StoredCells, fit: EmbeddingFit) -> np.ndarray:
        """Embed a block; a task of :func:`scanpy_sct.run.blocks.run_blocks`."""
        return embed_block(self.runner, self.plan, fit, self.read(cells))

    def embed(self, fit: EmbeddingFit) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and vectors of some cells at a time, block by block, in this process."""
        for rows in self.blocks:
            for part, vectors in block_vectors(self.runner, self.plan, fit, self.read(rows)):
                yield rows[part], vectors


def background_cells(cells: CellReader | CellBlock) -> dict[int, np.ndarray]:
    """Draw the cells on which the profile of each sample is estimated, increasing rows.

    The draw follows a hash of the names of the cells, so that it depends neither on a seed nor on their order.
    """
    drawn = {}
    for rows in rows_of_samples(cells.samples):
        order = np.argsort(cells.name_hashes[rows], kind="stable")
        drawn[int(cells.samples[rows[0]])] = np.sort(rows[order[:BACKGROUND_CELLS]])
    return drawn


def _in_runs(rows: np.ndarray, max_cells: int) -> list[np.ndarray]:
    return np.split(rows, np.arange(max_cells, len(rows), max_cells))


def embed_cells(
    checkpoint: Checkpoint,
    cells: CellReader | CellBlock,
    options: ComputeOptions | None = None,
    relative_to: RelativeTo = "sample",
) -> np.ndarray:
    """Embed every cell from all its measured genes.

    The compact network centres each cell on the profile of its sample, which is estimated on a fixed draw of up to
    1,000 of its cells: a vector does not depend on bags, seed or the order of the cells. Relative to the training data,
    it does not depend on any other cell. The released network embeds each cell together with the other cells of its
    bag. Cells of different samples never influence one another.

    Parameters
    ----------
    checkpoint, cells, options
        Network, cells, and how to compute.
    relative_to
        What the compact network compares each cell with.

    Returns
    -------
    (cells, dimensions) float32.

    Raises
    ------
    ValueError
        An option does not work with these data or on this machine; raised before anything is computed.
    """
    embedder = Embedder(checkpoint, cells, options or ComputeOptions(), relative_to)
    # A block is in memory, and small: it is not sent anywhere.
    client = find_client(options.client if options else None) if isinstance(cells, CellReader) else None
    fit = embedder.fit(client)
    if client is None:
        found = progress(embedder.embed(fit), embedder.n_batches, "embed")
    else:
        results = run_blocks(embedder.task, cells, embedder.blocks, fit, client=client, what="embed")
        found = ((embedder.blocks[number], part) for number, part in results)
    vectors: np.ndarray | None = None
    for rows, part in found:
        if vectors is None:
            vectors = np.zeros((cells.n_cells, part.shape[1]), dtype=np.float32)
        vectors[rows] = part
    return vectors
