"""Embed cells: one vector per cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.plan.bags import Bag, choose_policy
from scanpy_sct.plan.blocks import plan_blocks
from scanpy_sct.read.reader import CellBlock, CellReader
from scanpy_sct.run.inputs import (
    BagInput,
    BagInputs,
    check_coordinates,
    genes_to_read,
    network_coordinates,
    plan_block,
    token_rules,
)
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.progress import progress
from scanpy_sct.run.runner import Runner

BACKGROUND_CELLS = 1000
"""Largest number of cells of a sample on which its profile is estimated."""
CELLS_AT_ONCE = 100


def embed_cells(
    checkpoint: Checkpoint, cells: CellReader | CellBlock, options: ComputeOptions | None = None
) -> np.ndarray:
    """Embed every cell from all its measured genes.

    The compact network centres each cell on the profile of its sample, which is estimated on a fixed draw of up to
    1,000 of its cells: a vector does not depend on bags, seed or the order of the cells. The released network embeds
    each cell together with the other cells of its bag. Cells of different samples never influence one another.

    Parameters
    ----------
    checkpoint, cells, options
        Network, cells, and how to compute.

    Returns
    -------
    (cells, dimensions) float32.

    Raises
    ------
    ValueError
        An option does not work with these data or on this machine; raised before anything is computed.
    """
    options = options or ComputeOptions()
    check_coordinates(checkpoint, cells.coordinates)
    policy = choose_policy(options.bags, has_coordinates=cells.coordinates is not None)
    genes = genes_to_read(checkpoint, cells.measured, np.zeros_like(cells.measured))
    runner = Runner(checkpoint, options, genes)
    if checkpoint.network.has_cell_embedding:
        found = _by_sample(runner, cells, genes)
    else:
        found = _by_bags(runner, cells, policy, options.seed)
    vectors: np.ndarray | None = None
    for rows, part in found:
        if vectors is None:
            vectors = np.zeros((cells.n_cells, part.shape[1]), dtype=np.float32)
        vectors[rows] = part[: len(rows)]
    return vectors


def background_cells(cells: CellReader | CellBlock, sample: int) -> np.ndarray:
    """Draw the cells on which the profile of a sample is estimated, increasing rows.

    The draw follows a hash of the names of the cells, so that it depends neither on a seed nor on their order.
    """
    rows = np.flatnonzero(cells.samples == sample)
    order = np.argsort(cells.name_hashes[rows], kind="stable")
    return np.sort(rows[order[:BACKGROUND_CELLS]])


def _by_sample(
    runner: Runner, cells: CellReader | CellBlock, genes: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and vectors, centred on the profile of each sample."""
    for sample in np.unique(cells.samples):
        drawn = background_cells(cells, sample)
        background = runner.background(bag for _, bag in _chunks(runner, cells, drawn, genes))
        rows = np.flatnonzero(cells.samples == sample)
        chunks = (
            (part, replace(bag, in_background=np.isin(part, drawn)))
            for part, bag in _chunks(runner, cells, rows, genes)
        )
        for part, bag in progress(chunks, -(-len(rows) // CELLS_AT_ONCE), "embed"):
            for _, vectors in runner.cell_vectors([bag], background):
                yield part, vectors


def _chunks(
    runner: Runner, cells: CellReader | CellBlock, rows: np.ndarray, genes: np.ndarray
) -> Iterator[tuple[np.ndarray, BagInput]]:
    """Yield rows and their tokens."""
    rules = token_rules(runner.checkpoint, genes)
    for part in np.array_split(rows, max(1, -(-len(rows) // CELLS_AT_ONCE))):
        block = cells.block(part).at_genes(genes)
        yield part, BagInputs(block, [Bag(np.arange(len(part)), len(part))], rules)[0]


def _by_bags(
    runner: Runner, cells: CellReader | CellBlock, policy: str, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and vectors, bag by bag."""
    checkpoint = runner.checkpoint
    coordinates = network_coordinates(checkpoint, cells.coordinates, cells.samples)
    rules = token_rules(checkpoint)
    for planned in plan_blocks(cells.samples, coordinates if policy == "spatial" else None, seed):
        block = cells.block(planned.rows)
        block = replace(block, coordinates=None if coordinates is None else coordinates[planned.rows])
        bags = plan_block(block, checkpoint.config.bag_size, policy, seed)
        for bag, vectors in progress(runner.cell_vectors(BagInputs(block, bags, rules)), len(bags), "embed"):
            yield planned.rows[bag.rows], vectors
