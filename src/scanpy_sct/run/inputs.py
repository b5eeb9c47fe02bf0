"""Make the tokens of each bag from a block of cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.plan.bags import Bag, CellsToPlan, bag_points, check_complete, in_spacings, plan_bags
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.read.reader import CellBlock

MaskedOf = Callable[[np.ndarray], np.ndarray]
"""Function of rows of a block that returns (rows, genes) bool, such as the masked entries of these cells."""

VisibleOf = Callable[[sparse.csr_matrix], sparse.csr_matrix]
"""Function of values of all cells of a block that returns the visible entries."""
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class BagInput:
    """One bag, ready for the network."""

    rows: np.ndarray
    """Rows of its target cells within the block."""
    tokens: np.ndarray
    """(cells, genes) uint8; the target cells come first."""
    bin_values: np.ndarray
    """(cells, n_bins - 1) value of each bin but zero in each cell."""
    token_index: np.ndarray
    """Indices into the flattened tokens at which a prediction is requested."""
    coordinates: np.ndarray | None = None
    """(cells, 2)."""
    in_background: np.ndarray | None = None
    """(cells,) bool, if cells are centred on the profile of a sample: cells on which the profile was estimated."""


def genes_to_read(checkpoint: Checkpoint, measured: np.ndarray, requested: np.ndarray) -> np.ndarray:
    """Return the genes that a network has to read, increasing indices into its vocabulary.

    In the compact network, a gene that is masked, or padding, in all cells does not influence the predictions of other
    genes and is left out, unless it is requested. ``measured`` and ``requested`` are (n_genes,) bool.
    """
    if not checkpoint.network.has_cell_embedding:
        return np.arange(len(measured))
    kept = requested.copy()
    kept[token_rules(checkpoint).visible_genes(measured)] = True
    # The tokens after the last gene are padding: it stays, so that no token before it is taken for padding.
    kept[np.flatnonzero(checkpoint.genes != "")[-1]] = True
    return np.flatnonzero(kept)


def token_rules(checkpoint: Checkpoint, genes: np.ndarray | slice = slice(None)) -> TokenRules:
    """Return the token rules of a checkpoint for some genes, indices into its vocabulary."""
    config = checkpoint.config
    return TokenRules(
        vocabulary=checkpoint.genes[genes],
        mask=config.mask_token,
        pad=config.pad_token,
        binning=checkpoint.tokens.binning,
    )


def check_coordinates(checkpoint: Checkpoint, coordinates: np.ndarray | None) -> None:
    """Raise a ValueError if the network reads coordinates, and some or all cells have none."""
    if not checkpoint.config.reads_coordinates:
        return
    if coordinates is None:
        msg = (
            f"The model {checkpoint.name!r} reads coordinates from .obsm['spatial'], and there are none; "
            "use a model that does not, such as 'sct-mini'."
        )
        raise ValueError(msg)
    check_complete(coordinates)


def network_coordinates(
    checkpoint: Checkpoint, coordinates: np.ndarray | None, samples: np.ndarray
) -> np.ndarray | None:
    """Return the coordinates of all cells in the unit of the network; raises as :func:`check_coordinates`."""
    check_coordinates(checkpoint, coordinates)
    if not checkpoint.config.reads_coordinates or checkpoint.coordinates == "given":
        return coordinates
    return in_spacings(coordinates, samples)


def plan_block(
    block: CellBlock,
    size: int,
    policy: str,
    seed: int,
    visible_of: VisibleOf | None = None,
    genes: np.ndarray | None = None,
    n_genes: int | None = None,
) -> list[Bag]:
    """Plan the bags of a block; masked entries do not influence which cells are similar.

    Parameters
    ----------
    block, size, policy, seed
        Cells, cells of a bag, one of :data:`scanpy_sct.plan.bags.POLICIES`, and seed.
    visible_of
        Function that returns the visible entries of the values of all cells; None: all are visible.
    genes, n_genes
        If the block has only some genes of a vocabulary: their indices, and the number of all genes. Bags then do not
        depend on which genes are requested.
    """

    def visible() -> sparse.csr_matrix:
        values = block.log_values if visible_of is None else visible_of(block.log_values)
        if genes is None:
            return values
        shape = (values.shape[0], n_genes)
        return sparse.csr_matrix((values.data, genes[values.indices], values.indptr), shape=shape)

    points = bag_points(policy, CellsToPlan(block.coordinates, visible, seed))
    return plan_bags(block.samples, size, np.random.default_rng(seed), points)


@dataclass(frozen=True)
class BagInputs:
    """The inputs of some bags; the tokens of a bag are made when it is asked for, in any thread."""

    block: CellBlock
    bags: Sequence[Bag]
    """Bags of rows of the block."""
    rules: TokenRules
    """Token rules for the genes of the block."""
    masked_of: MaskedOf | None = None
    """Masked entries; None: none."""
    requested_of: MaskedOf | None = None
    """Entries of target cells to predict; None: none."""
    in_background: np.ndarray | None = None
    """(cells of the block,) bool, see `BagInput`."""

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, number: int) -> BagInput:
        bag, block = self.bags[number], self.block
        targets = bag.rows[: bag.n_targets]
        values = block.log_values[bag.rows]
        binned = values if block.token_values is block.log_values else block.token_values[bag.rows]
        masked = np.zeros(values.shape, dtype=bool) if self.masked_of is None else self.masked_of(bag.rows)
        made = make_tokens(binned, values, masked, block.measured, self.rules)
        requested = _NONE if self.requested_of is None else np.flatnonzero(self.requested_of(targets))
        coordinates = None if block.coordinates is None else block.coordinates[bag.rows]
        in_background = None if self.in_background is None else self.in_background[bag.rows]
        return BagInput(targets, made.tokens, made.values, requested, coordinates, in_background)
