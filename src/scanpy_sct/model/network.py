"""What both networks share: their input, their two methods, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from scanpy_sct.model.compact import CompactConfig, CompactNetwork
    from scanpy_sct.model.profile import Background
    from scanpy_sct.model.released import ReleasedConfig, ReleasedNetwork


@dataclass(frozen=True)
class Bags:
    """Bags with the same number of cells, on the network's device."""

    tokens: Tensor
    """(batch, cells, genes) integers: a bin, the mask token or the pad token."""
    coordinates: Tensor | None = None
    """(batch, cells, 2), for networks that read them."""
    in_background: Tensor | None = None
    """(batch, cells) bool: the cells that are counted in a background. None: no cell is."""


class Network(Protocol):
    """The two methods of a network, and its properties.

    Its ``config`` has ``n_bins`` (zero included), ``mask_token``, ``pad_token``, ``bag_size`` and
    ``reads_coordinates``.
    """

    config: ReleasedConfig | CompactConfig
    n_genes: int
    has_cell_embedding: bool
    """Whether ``cell_weight`` has an effect."""

    def bin_logits(self, bags: Bags, token_index: Tensor, *, cell_weight: float = 1.0) -> Tensor:
        """Return the logit of every bin at some tokens, (tokens, n_bins) float32.

        Parameters
        ----------
        bags
            The bags. A masked token is predicted from all visible ones.
        token_index
            Index into the flattened tokens, 1-d integers.
        cell_weight
            Weight of the cell embedding in the logits, for networks that have one.
        """
        ...

    def cell_embedding(self, bags: Bags, background: Background | None = None) -> Tensor:
        """Return one vector per cell, (batch, cells, dimensions) float32.

        A compact network centres its cells on ``background``, the profile of a sample, instead of on their bag.
        """
        ...


def make_network(config: ReleasedConfig | CompactConfig, n_genes: int) -> ReleasedNetwork | CompactNetwork:
    """Make the network of a configuration, with random weights; ``n_genes`` includes padding.

    The network for the weights of a file is made on the device "meta". Most operations there import torch's compiler,
    which takes seconds and 100 MB, also those that draw random numbers; so networks are initialised with the few that
    do not.
    """
    from scanpy_sct.model.compact import CompactConfig, CompactNetwork
    from scanpy_sct.model.released import ReleasedNetwork

    return CompactNetwork(config, n_genes) if isinstance(config, CompactConfig) else ReleasedNetwork(config, n_genes)


def check_bags(network: Network, bags: Bags) -> None:
    """Raise a ValueError unless the bags have the network's genes, and coordinates if and only if it reads them."""
    shape = tuple(bags.tokens.shape)
    if len(shape) != 3 or shape[2] != network.n_genes:
        msg = f"tokens has shape {shape}, expected (batch, cells, {network.n_genes})."
        raise ValueError(msg)
    if not network.config.reads_coordinates:
        return
    if bags.coordinates is None:
        msg = "coordinates are missing: the network reads them; give (batch, cells, 2)."
        raise ValueError(msg)
    found = tuple(bags.coordinates.shape)
    if found[:2] != shape[:2] or len(found) != 3 or found[2] < 2:
        msg = f"coordinates has shape {found}, expected {(*shape[:2], 2)}."
        raise ValueError(msg)
