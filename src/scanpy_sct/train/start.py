"""What a new network starts from: its genes in their order, and what the training data tell of them."""

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
"""Cells from which order and frequencies of the genes are estimated."""
N_DIRECTIONS = 32
"""Dimensions of the co-expression by which genes are ordered."""


@dataclass(frozen=True)
class Start:
    """Facts of the training data, for the genes in their order."""

    genes: np.ndarray
    """(n_genes,) Ensembl ids, `""` for padding."""
    frequencies: np.ndarray
    """(n_genes, n_bins) how often each gene shows each bin."""
    factors: np.ndarray
    """(n_genes, dimensions) co-expression."""

    @property
    def detection_rates(self) -> np.ndarray:
        """How often each gene is detected, (n_genes,)."""
        return 1 - self.frequencies[:, 0]

    def save(self, file: Path) -> None:
        """Write a file that is complete or absent."""
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **asdict(self))
        partial.replace(file)

    @classmethod
    def load(cls, file: Path) -> Start:
        """Read what :meth:`save` wrote."""
        with np.load(file) as stored:
            return cls(**stored)


def find_start(
    data: Sequence[str | PathLike[str] | CensusCells], config: PretrainConfig, vocabulary: Sequence[str] | None
) -> Start:
    """Read some cells, and find what a network of ``config`` starts from.

    Genes are sorted. Those of the released architecture are put in the order of their co-expression, since its
    convolutions read neighbouring genes together, and padded to a length that its encoder can halve.
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
    """Make a network; a compact one starts from gene frequencies and co-expression."""
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
    """Token rules of a network trained here."""
    network = config.network
    return TokenRules(genes, mask=network.mask_token, pad=network.pad_token, binning=config.binning)


def hold_out(sources: Sequence[Source], config: PretrainConfig) -> list[np.ndarray]:
    """Draw the cells of each source that are never trained on, (n_cells,) bool; at least one in all."""
    drawn = [
        np.random.default_rng([config.seed, 8, number]).random(len(source.samples)) < config.validation_fraction
        for number, source in enumerate(sources)
    ]
    if not any(mask.any() for mask in drawn):
        next((mask for mask in drawn if len(mask)), np.zeros(1))[0] = True
    if all(mask.all() for mask in drawn):
        msg = "data has no cells to train on besides those held out; give more cells, or a smaller validation_fraction."
        raise ValueError(msg)
    return drawn
