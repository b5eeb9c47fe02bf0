"""A compact network over the genes that data have, for quick training steps."""

from __future__ import annotations

import numpy as np
import torch

from scanpy_sct.model import CompactNetwork
from scanpy_sct.plan.tokens import TokenRules


def genes_that_matter(rules: TokenRules, measured: np.ndarray) -> np.ndarray:
    """Find the genes of the vocabulary that have any part in a compact network, sorted.

    A gene that is masked, or padding, in every cell adds nothing to depth, profile and cell embedding.

    Parameters
    ----------
    rules
        Token rules of the checkpoint.
    measured
        (n_genes,) bool.
    """
    kept = rules.background(measured) <= rules.n_bins
    # The last gene stays in any case: what comes behind it is padding, what comes before it is not.
    kept[np.flatnonzero(rules.vocabulary != "")[-1:]] = True
    return np.flatnonzero(kept)


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
        found = trained[name].to(values.device)
        if found.shape == values.shape:
            values.copy_(found)
        else:
            values[torch.from_numpy(gene_index)] = found
