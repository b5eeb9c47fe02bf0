"""The direct paths of a network by themselves, over the positions that matter, for quick training steps."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from scanpy_sct.model import CompactNetwork
from scanpy_sct.plan.tokens import TokenRules

BY_GENE = ("gene_table", "gene_output")
"""Parameters of the cell path that have a row for each position."""


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
        logits = self.network(tokens.reshape(1, -1), coordinates, outputs={"logits"}, positions=places)["logits"]
        return logits[:, : self.network.config.num_bins].T

    def write_back(self) -> None:
        """Do nothing: the network itself was trained."""


class DirectPaths(nn.Module):
    """Profile, cell path and correction of a network over some of its positions, in memory of their own."""

    def __init__(self, network: CompactNetwork, positions: np.ndarray) -> None:
        super().__init__()
        self._network = [network]  # in a list, so that it is no part of this module
        self._positions = torch.from_numpy(positions)
        self.profile = copy.deepcopy(network.profile)
        self.profile.log_prior = network.profile.log_prior[self._positions].clone()
        self.cell_path = copy.deepcopy(network.cell_path)
        self.correction = copy.deepcopy(network.correction)
        for name, table in network.cell_path.named_parameters():
            holder, _, last = name.rpartition(".")
            if last in BY_GENE:
                here = nn.Parameter(table.detach()[self._positions].clone())
                setattr(self.cell_path.get_submodule(holder), last, here)
        # What profile and correction have learnt holds for all tissues, and the tower is not used.
        self.profile.requires_grad_(False)
        if self.correction is not None:
            self.correction.requires_grad_(False)
        self.cell_path.level_values.requires_grad_(False)
        if network.config.convolutions:
            self.cell_path.to_trunk.requires_grad_(False)

    def forward(self, tokens: Tensor, places: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Return logits (levels, places) at ``places`` of the flattened ``tokens`` (cells, positions)."""
        bags = tokens[None]
        with torch.autocast(tokens.device.type, enabled=False):
            with torch.no_grad():
                profile, depth = self.profile(bags)
                moments = profile.moments(self.cell_path.level_values)
            cells = self.cell_path(self.cell_path.embed(bags, *moments), depth, coordinates)
            return direct_logits(profile, self.cell_path, cells, self.correction, places=places)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained weights into the network."""
        network = self._network[0]
        for ours, theirs in ((self.profile, network.profile), (self.cell_path, network.cell_path)):
            for name, values in theirs.state_dict().items():
                found = ours.state_dict()[name].to(values.device)
                if found.shape == values.shape:
                    values.copy_(found)
                else:
                    values[self._positions] = found
