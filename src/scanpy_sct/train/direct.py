"""The direct paths of a network by themselves, over the positions that matter, for quick training steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from scanpy_sct.model import CompactNetwork
from scanpy_sct.model.compact import BY_GENE
from scanpy_sct.plan.tokens import TokenRules


def direct_positions(rules: TokenRules, measured: np.ndarray) -> np.ndarray:
    """Find the positions that have any part in the direct paths, sorted.

    A position that is masked, or padding, in every cell adds nothing to depth, profile and cell embedding.

    Parameters
    ----------
    rules
        Token rules of the checkpoint.
    measured
        (n_positions,) bool.
    """
    is_level = rules.empty_cell(measured) < rules.n_bins
    has_gene = np.flatnonzero(rules.vocabulary != "")
    # The last gene stays in any case: positions behind it are padding, positions before it are not.
    is_last = np.arange(len(measured)) == (has_gene[-1] if len(has_gene) else -1)
    return np.flatnonzero(is_level | measured | is_last)


class FullPath(nn.Module):
    """All of a network, with the outputs of `DirectPaths`."""

    def __init__(self, network: CompactNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, places: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Return logits (levels, places) at ``places`` of the flattened ``tokens`` (cells, positions)."""
        return self.network(tokens[None], places, coordinates).T

    def write_back(self) -> None:
        """Do nothing: the network itself was trained."""


class DirectPaths(nn.Module):
    """A compact network over some of its genes, with weights of its own."""

    def __init__(self, network: CompactNetwork, positions: np.ndarray) -> None:
        super().__init__()
        self._network = [network]  # in a list, so that it is not a part of this module
        self._positions = torch.from_numpy(positions)
        self.part = network.at_genes(self._positions)
        # What profile and correction have learnt holds for all tissues.
        self.part.profile.requires_grad_(False)
        if self.part.correction is not None:
            self.part.correction.requires_grad_(False)
        self.part.embedder.bin_values.requires_grad_(False)

    def forward(self, tokens: Tensor, places: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Return logits (n_bins, places) at ``places`` of the flattened ``tokens`` (cells, genes)."""
        return self.part(tokens[None], places, coordinates).T

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained weights into the network."""
        ours = self.part.state_dict()
        for name, values in self._network[0].state_dict().items():
            values[self._positions if name in BY_GENE else ...] = ours[name].to(values.device)
