"""Initial values of a new network: its genes in order, their bin frequencies and co-expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scanpy_sct.model import ReleasedConfig
from scanpy_sct.model.network import make_network
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.train.census import CensusCells
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.sources import Source, open_sources
from scanpy_sct.train.stream import sample_blocks
from scanpy_sct.train.vocabulary import bin_frequencies, coexpression_order, coexpression_vectors

if TYPE_CHECKING:
    from scanpy_sct.model.network import Network

MAX_SAMPLED_CELLS = 30_000
"""Cells from which frequencies and co-expression are estimated."""
N_DIRECTIONS = 32
"""Dimensions of co-expression by which the genes of the released architecture are ordered."""


@dataclass(frozen=True)
class Start:
    """Genes of a new network, with estimates from the training data."""

    genes: np.ndarray
    """(n_genes,) Ensembl ids, `""` for padding."""
    frequencies: np.ndarray
    """(n_genes, n_bins) frequency of each bin."""
    factors: np.ndarray
    """(n_genes, dimensions) co-expression vectors."""

    @property
    def detection_rates(self) -> np.ndarray:
        """Detection rate of each gene, (n_genes,)."""
        return 1 - self.frequencies[:, 0]

    def save(self, file: Path) -> None:
        """Write the file atomically."""
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **asdict(self))
        partial.replace(file)

    @classmethod
    def load(cls, file: Path) -> Start:
        """Read a file of :meth:`save`."""
        with np.load(file, allow_pickle=False) as stored:
            return cls(**stored)


def find_start(
    data: Sequence[str | PathLike[str] | CensusCells], config: PretrainConfig, vocabulary: Sequence[str] | None
) -> Start:
    """Estimate the initial values of a network of ``config`` from a sample of cells.

    Genes are sorted by Ensembl id. Those of the released architecture are ordered by co-expression, since its
    convolutions combine neighbouring genes, and padded to a length that its encoder can halve.
    """
    given = pd.unique(pd.Series(released_vocabulary() if vocabulary is None else vocabulary, dtype=str))
    genes = np.sort(np.asarray(given[given != ""], dtype=str))
    sources = open_sources(data, genes)
    cells = sample_blocks(sources, hold_out(sources, config), config.block_size, MAX_SAMPLED_CELLS, config.seed)
    is_released = isinstance(config.network, ReleasedConfig)
    n_directions = N_DIRECTIONS if is_released else config.network.cell_dim
    factors = coexpression_vectors(cells, n_directions, config.seed)
    frequencies = bin_frequencies(cells, token_rules(genes, config))
    if not is_released:
        return Start(genes, frequencies, factors)
    order = coexpression_order(factors)
    n_padding = -len(genes) % 2**config.network.num_downsamples
    genes = np.concatenate([genes[order], np.full(n_padding, "", dtype=genes.dtype)])
    frequencies, factors = (
        np.concatenate([values[order], np.zeros((n_padding, values.shape[1]))]) for values in (frequencies, factors)
    )
    return Start(genes, frequencies, factors)


def new_network(start: Start, config: PretrainConfig) -> Network:
    """Make a network; a compact one is initialised with bin frequencies and co-expression."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = make_network(config.network, len(start.genes))
    if isinstance(config.network, ReleasedConfig):
        return network
    with torch.no_grad():
        network.profile.log_prior.copy_(torch.from_numpy(np.log(start.frequencies)))
        scale = np.sqrt((start.factors**2).mean(0, keepdims=True)) + 1e-12
        network.embedder.gene_factors.copy_(torch.from_numpy(start.factors / scale))
    return network


def token_rules(genes: np.ndarray, config: PretrainConfig) -> TokenRules:
    """Return the token rules of a network of ``config``."""
    network = config.network
    return TokenRules(genes, mask=network.mask_token, pad=network.pad_token, binning=config.binning)


def hold_out(sources: Sequence[Source], config: PretrainConfig) -> list[np.ndarray]:
    """Draw the held-out cells of each source, (n_cells,) bool; at least one in total."""
    drawn = [
        np.random.default_rng([config.seed, 8, number]).random(len(source.samples)) < config.validation_fraction
        for number, source in enumerate(sources)
    ]
    if not any(mask.any() for mask in drawn):
        next((mask for mask in drawn if len(mask)), np.zeros(1))[0] = True
    if all(mask.all() for mask in drawn):
        msg = "data has no cells besides the held-out ones; give more cells, or a smaller validation_fraction."
        raise ValueError(msg)
    return drawn
