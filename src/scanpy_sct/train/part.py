"""The part of a compact network that is finetuned: what describes cells, for the genes that the data have."""

from __future__ import annotations

import numpy as np
import torch

from scanpy_sct.model import CompactNetwork
from scanpy_sct.model.compact import BY_GENE


def trainable_part(network: CompactNetwork, gene_index: np.ndarray) -> CompactNetwork:
    """Copy the network at some genes; only what describes cells is trained.

    Profile, correction and the values of bins hold for all tissues, and stay as they are.
    """
    part = network.at_genes(torch.from_numpy(gene_index))
    part.profile.requires_grad_(False)
    if part.correction is not None:
        part.correction.requires_grad_(False)
    part.embedder.bin_values.requires_grad_(False)
    return part


@torch.no_grad()
def write_back(part: CompactNetwork, network: CompactNetwork, gene_index: np.ndarray) -> None:
    """Put the trained weights of ``part`` into the whole network."""
    trained = part.state_dict()
    for name, values in network.state_dict().items():
        values[torch.from_numpy(gene_index) if name in BY_GENE else ...] = trained[name].to(values.device)
