"""Plan an imputation: genes, passes, bags, blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.plan.bags import check_complete, choose_policy
from scanpy_sct.plan.blocks import PlannedCells, plan_blocks, plan_fit
from scanpy_sct.plan.passes import BlockMasks, Passes
from scanpy_sct.read.reader import CellBlock, CellReader
from scanpy_sct.run.inputs import genes_to_read, network_coordinates
from scanpy_sct.run.options import ComputeOptions


@dataclass(frozen=True)
class ImputationPlan:
    """Genes to read and to predict, passes and bags; the same for all cells."""

    genes: np.ndarray
    """Indices into the vocabulary of the genes that the network reads, increasing; a block has these genes."""
    n_genes: int
    """Number of genes of the vocabulary."""
    measured: np.ndarray
    """(genes,) bool: whether the data have the gene."""
    columns: np.ndarray
    """Which of ``genes`` are predicted, increasing."""
    passes: Passes
    policy: str
    """Policy of the bags, see :data:`scanpy_sct.plan.bags.POLICIES`."""

    @cached_property
    def is_unmeasured(self) -> np.ndarray:
        """Whether each predicted gene is unmeasured, (columns,) bool."""
        return ~self.measured[self.columns]

    @property
    def gene_index(self) -> np.ndarray:
        """Indices into the vocabulary of the predicted genes, (columns,)."""
        return self.genes[self.columns]

    @property
    def seed(self) -> int:
        """Seed of bags, passes and draws."""
        return self.passes.seed

    def predicting(self, columns: np.ndarray) -> ImputationPlan:
        """Return the same plan with other genes to predict."""
        return replace(self, columns=columns)

    def masks(self, block: CellBlock) -> BlockMasks:
        """Assign the entries of a block to passes."""
        hidden = None if block.hidden is None else block.hidden.toarray()
        return BlockMasks(self.passes, block.rows, self.genes, self.measured, hidden)


@dataclass(frozen=True)
class CellPlan:
    """Cells that are computed together."""

    blocks: list[PlannedCells]
    fit_cells: PlannedCells
    """Cells to which the imputation is fitted; all cells, if there is only one block."""
    coordinates: np.ndarray | None
    """(all cells, 2) in the unit in which the network reads them."""

    @property
    def is_one_block(self) -> bool:
        """Whether all cells are one block."""
        return len(self.blocks) == 1

    def convert(self, block: CellBlock, genes: np.ndarray) -> CellBlock:
        """Return a block with some genes of the vocabulary, and the coordinates that the network reads."""
        coordinates = None if self.coordinates is None else self.coordinates[block.rows]
        return replace(block.at_genes(genes), coordinates=coordinates)


def plan_imputation(
    checkpoint: Checkpoint,
    reader: CellReader,
    options: ComputeOptions,
    settings: ImputeSettings,
) -> tuple[ImputationPlan, CellPlan]:
    """Plan an imputation; the plan depends on the cells and the seed, never on how the data are stored.

    Raises
    ------
    ValueError
        The bags are not known or not possible, or the network reads coordinates and there are none.
    """
    policy = choose_policy(options.bags, has_coordinates=reader.coordinates is not None)
    if policy == "spatial":
        check_complete(reader.coordinates)
    coordinates = network_coordinates(checkpoint, reader.coordinates, reader.samples)
    requested = np.zeros(len(reader.measured), dtype=bool)
    requested[reader.measured if settings.genes is None else settings.genes] = True
    genes = genes_to_read(checkpoint, reader.measured, requested)
    plan = ImputationPlan(
        genes=genes,
        n_genes=len(reader.measured),
        measured=reader.measured[genes],
        columns=np.flatnonzero(requested[genes]),
        passes=Passes.for_fraction(checkpoint.mask_fraction, options.seed),
        policy=policy,
    )
    points = coordinates if policy == "spatial" else None
    samples, size, seed = reader.samples, checkpoint.config.bag_size, options.seed
    cells = CellPlan(
        blocks=plan_blocks(samples, points, seed, options.block_size),
        fit_cells=plan_fit(samples, points, size, seed, options.block_size),
        coordinates=coordinates,
    )
    return plan, cells
