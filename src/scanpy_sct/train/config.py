"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from scanpy_sct.model.config import SctConfig


def _small_network() -> SctConfig:
    return SctConfig(
        token_embed_dim=32,
        embed_dim=96,
        ffn_embed_dim=192,
        num_layers=2,
        attention_heads=4,
        key_size=24,
        context=True,
        cell_dim=64,
        cell_layers=2,
    )


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of :func:`scanpy_sct.train.pretrain`; the defaults made `sct-mini`."""

    name: str = "sct"
    """Name of the checkpoint."""
    network: SctConfig = field(default_factory=_small_network)
    steps: int = 1500
    """Optimiser steps, one bag each."""
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    tower_every: int = 8
    """The convolutional path takes part in one of so many steps; the direct paths, far cheaper, in all."""
    bag_sizes: tuple[int, ...] = (16, 32, 50)
    """Bag sizes to draw from when the convolutional path rests."""
    tower_bag_size: int = 16
    """Bag size when it takes part."""
    mask_fraction: float = 0.25
    """Share of entries hidden at prediction, which sets the number of passes."""
    mask_range: tuple[float, float] = (0.1, 0.5)
    """Share of entries hidden in a training bag, drawn evenly."""
    hidden_gene_share: float = 0.2
    """Share of bags in which a quarter of the genes is hidden in all cells."""
    panel_share: float = 0.2
    """Share of bags that see only a random panel of genes, the rest being unmeasured."""
    thin_share: float = 0.3
    """Share of bags whose counts are thinned to between a fifth and all of their depth."""
    near_share: float = 0.7
    """Share of bags made of cells close to one another, in space or in expression; the rest are random."""
    max_hidden_entries: int = 200_000
    """Entries of a bag that count in the loss; more are sampled."""
    validation_share: float = 0.04
    """Share of cells kept out of training, to report on while it runs."""
    report_every: int = 100
    checkpoint_minutes: float = 5.0
    seed: int = 0
