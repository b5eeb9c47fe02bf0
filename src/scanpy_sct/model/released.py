"""The released architecture: convolutional encoder, bottleneck transformer, decoder, head."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scanpy_sct.model import inference
from scanpy_sct.model.layers import (
    DownBlock,
    SpatialEncoding,
    TransformerBlock,
    UpBlock,
    gelu,
    linear_gelu,
    random_weights,
)
from scanpy_sct.model.network import Bags, check_bags
from scanpy_sct.model.profile import Background

CHANNEL_MULTIPLE = 32
HEAD_CHUNK = 65_536
"""Tokens in one call of the head: its hidden layer over a whole released bag would need 4 GB in float32."""
HEAD_CHUNK_IN_CACHE = 4_096
"""The same on a processor, whose cache holds the hidden layer of so many."""


@dataclass(frozen=True)
class ReleasedConfig:
    """Configuration of :class:`ReleasedNetwork`: names and defaults are those of the released files."""

    alphabet_size: int = 7
    """Number of different tokens: 0 (not detected), 1-4 (bins of expression), mask, pad."""
    mask_token_id: int = 5
    pad_token_id: int = 6
    num_downsamples: int = 8
    """How many times the encoder halves the length."""
    attention_heads: int = 16
    key_size: int = 64
    """Width of one attention head."""
    token_embed_dim: int = 64
    embed_dim: int = 1024
    ffn_embed_dim: int = 2048
    num_layers: int = 4
    """Layers of the bottleneck transformer."""
    layer_norm_eps: float = 1e-5
    num_cells: int = 50
    """Cells of a bag during training; the weights can be used with any number."""
    num_hidden_layers_head: int = 1
    use_skip_connection: bool = True
    use_spatial_information: bool = False
    """Add an encoding of each cell's coordinates to its tokens."""
    num_scales: int = 10
    sigma_min: float = 1.0
    sigma_max: float = 10.0
    use_gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them."""

    def __post_init__(self) -> None:
        if self.embed_dim % CHANNEL_MULTIPLE:
            msg = f"embed_dim={self.embed_dim} must be a multiple of {CHANNEL_MULTIPLE}."
            raise ValueError(msg)
        if self.use_skip_connection and self.token_embed_dim % CHANNEL_MULTIPLE:
            msg = (
                f"token_embed_dim={self.token_embed_dim} must be a multiple of {CHANNEL_MULTIPLE} "
                "when use_skip_connection is on."
            )
            raise ValueError(msg)
        if not 1 < self.mask_token_id < self.pad_token_id < self.alphabet_size:
            msg = (
                f"mask_token_id={self.mask_token_id}, pad_token_id={self.pad_token_id} and "
                f"alphabet_size={self.alphabet_size} must increase: tokens below the mask token are bins."
            )
            raise ValueError(msg)

    @property
    def n_bins(self) -> int:
        """Number of bins, zero included."""
        return self.mask_token_id

    @property
    def mask_token(self) -> int:
        """Token of a masked gene."""
        return self.mask_token_id

    @property
    def pad_token(self) -> int:
        """Token after the last gene."""
        return self.pad_token_id

    @property
    def bag_size(self) -> int:
        """Cells of a bag."""
        return self.num_cells

    @property
    def reads_coordinates(self) -> bool:
        """Whether the network reads the coordinates of cells."""
        return self.use_spatial_information

    @property
    def channels(self) -> list[int]:
        """Channels along the encoder (``num_downsamples + 1`` numbers)."""
        widths = np.linspace(self.token_embed_dim, self.embed_dim, self.num_downsamples + 1)
        return [int(np.ceil(width / CHANNEL_MULTIPLE)) * CHANNEL_MULTIPLE for width in widths]


class ReleasedNetwork(nn.Module):
    """Single-cell transformer as released.

    Parameters
    ----------
    config
        Configuration of the network.
    n_genes
        Number of genes, padding included; a multiple of ``2 ** config.num_downsamples``, else a ValueError is raised.
    """

    has_cell_embedding = False

    def __init__(self, config: ReleasedConfig, n_genes: int) -> None:
        super().__init__()
        depth, dim = config.num_downsamples, config.token_embed_dim
        if n_genes <= 0 or n_genes % 2**depth:
            msg = f"n_genes={n_genes} must be a positive multiple of 2**num_downsamples={2**depth}."
            raise ValueError(msg)
        self.config, self.n_genes = config, n_genes
        # The stem has `token_embed_dim` output channels, the last block of the decoder the first width.
        widths = config.channels
        self.token_embedding = nn.Embedding.from_pretrained(
            random_weights(config.alphabet_size, dim, std=1), freeze=False
        )
        if config.use_spatial_information:
            self.spatial_encoding = SpatialEncoding(dim, config.num_scales, config.sigma_min, config.sigma_max)
        self.stem = nn.Conv2d(dim, dim, (1, 15), padding=(0, 7))
        ins = [dim, *widths[1:]]
        self.down = nn.ModuleList(DownBlock(n_genes >> i, ins[i], ins[i + 1]) for i in range(depth))
        self.layers = nn.ModuleList(
            TransformerBlock(
                config.embed_dim, config.attention_heads, config.key_size, config.ffn_embed_dim, config.layer_norm_eps
            )
            for _ in range(config.num_layers)
        )
        self.up = nn.ModuleList(
            UpBlock(n_genes >> (depth - i), widths[depth - i], widths[depth - i - 1]) for i in range(depth)
        )
        sizes = [widths[0], *[config.embed_dim] * config.num_hidden_layers_head, config.alphabet_size]
        self.head = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.to(memory_format=torch.channels_last)

    def bin_logits(self, bags: Bags, token_index: Tensor, *, cell_weight: float = 1.0) -> Tensor:
        """Return the logit of every bin at some tokens, (tokens, n_bins) float32; ``cell_weight`` has no effect."""
        with inference.precision_of(self.stem.weight) as dtype:
            skips: list[Tensor] = []
            x = self._decode(self._encode(bags, skips, dtype), skips)
            x = x.squeeze(2).transpose(1, 2).flatten(0, 1)[token_index]
            size = HEAD_CHUNK_IN_CACHE if inference.is_used(x) else HEAD_CHUNK
            return torch.cat([self._head(chunk) for chunk in x.split(size)])[:, : self.config.n_bins]

    def cell_embedding(self, bags: Bags, background: Background | None = None) -> Tensor:
        """Return the mean transformer output of each cell, (batch, cells, embed_dim); ``background`` has no effect."""
        with inference.precision_of(self.stem.weight) as dtype:
            x = self._encode(bags, None, dtype)
            return x.float().unflatten(1, (bags.tokens.shape[1], -1)).mean(2)

    def _encode(self, bags: Bags, skips: list[Tensor] | None, dtype: torch.dtype) -> Tensor:
        """Return the output of the transformer (batch, positions, embed_dim); fill ``skips`` for the decoder."""
        check_bags(self, bags)
        if inference.is_used(self.stem.weight) and not self.config.use_spatial_information:
            x = inference.stem(self.stem, self.token_embedding.weight, bags.tokens, dtype)
        else:
            x = self._stem(bags).to(dtype)
        for block in self.down:
            if skips is not None:
                skips.append(x)
            x = self._run(block, x)
        x = x.squeeze(2).transpose(1, 2)
        for layer in self.layers:
            x = self._run(layer, x)
        return x

    def _stem(self, bags: Bags) -> Tensor:
        x = self.token_embedding(bags.tokens.int())  # (batch, cells, genes, channels)
        if self.config.use_spatial_information:
            x = x + self.spatial_encoding(bags.coordinates)[:, :, None]
        return gelu(self.stem(x.flatten(1, 2).transpose(1, 2).unsqueeze(2)))

    def _decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = x.transpose(1, 2).unsqueeze(2)
        for block in self.up:
            skip = skips.pop()
            x = self._run(block, x, skip if self.config.use_skip_connection else None)
        return x

    def _head(self, x: Tensor) -> Tensor:
        x = gelu(x)
        for layer in self.head[:-1]:
            x = linear_gelu(layer, x)
        # The last layer in float32; in training autocast decides.
        return self.head[-1](x.float() if inference.is_used(x) else x).float()

    def _run(self, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.config.use_gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)
