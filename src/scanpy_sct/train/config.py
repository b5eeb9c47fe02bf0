"""Settings of training runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import get_args

from scanpy_sct.model import CompactConfig, ReleasedConfig
from scanpy_sct.plan.bins import Binning


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of :func:`scanpy_sct.train.pretrain`; the defaults are the recipe of `sct-mini`."""

    name: str = "sct"
    """Name of the checkpoint."""
    network: CompactConfig | ReleasedConfig = field(
        default_factory=partial(CompactConfig, cell_dim=96, bag_correction=False)
    )
    """The network to train: compact, or the released architecture from scratch."""
    binning: Binning = "counts"
    """Bins of detected genes, one fewer than `network.n_bins`: `"counts"`, of 1, 2, 3-4, 5-8, ... counts; `"uniform"`,
    of equal width in each cell's log1p range, as in the released network."""
    steps: int = 40_000
    """Optimiser steps."""
    bags_per_step: int = 1
    """Bags whose gradients are averaged in a step, over all processes; a multiple of their number."""
    bag_sizes: tuple[int, ...] = (24, 50)
    """Cells of a bag; one of these numbers is drawn for each block."""
    block_size: int = 1024
    """Cells that are read together from a file."""
    window_blocks: int = 4
    """Blocks whose bags are shuffled together; memory holds twice as many for each of `bags_per_step`."""
    balance: float = 0.5
    """A file of n cells is drawn as if it had n ** `balance` (times a constant): 0 draws all files equally."""
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights, which the checkpoint has; 0: no average."""
    mask_fraction: float = 0.25
    """Fraction of entries masked in each pass of a prediction, which determines the number of passes."""
    mask_range: tuple[float, float] = (0.1, 0.6)
    """Range from which the fraction of masked entries of a training bag is drawn."""
    masked_gene_fraction: float = 0.3
    """Fraction of bags in which a quarter of the genes is masked in all cells."""
    panel_fraction: float = 0.2
    """Fraction of bags with a random panel of genes; the other genes are unmeasured."""
    thin_fraction: float = 0.3
    """Fraction of bags whose counts are thinned to between a fifth and all of their depth."""
    near_fraction: float = 0.7
    """Fraction of bags of neighbouring cells, in space or in expression; the others are random."""
    max_masked_tokens: int = 100_000
    """Largest number of masked tokens of a bag in the loss; of more, this number is drawn."""
    prior_cells: float | None = 10.0
    """Prior of the bag correction that is added to a compact network after training, unless it was trained with one:
    the number of expected cells by which the correction is shrunk. None: no correction."""
    whitening: float = 0.5
    """Whitening of a compact network's embedding after training, so that no few directions dominate the distances:
    0 does not change the embedding, 1 equalises all directions. Predictions do not change."""
    validation_fraction: float = 0.04
    """Fraction of cells held out of training for the reports."""
    report_every: int = 500
    """Steps between two reports on held-out cells."""
    checkpoint_minutes: float = 5.0
    """Minutes between two saved states, from which a stopped run can continue."""
    seed: int = 0

    def __post_init__(self) -> None:
        integers = ("steps", "bags_per_step", "block_size", "window_blocks", "report_every", "max_masked_tokens")
        fractions = ("balance", "masked_gene_fraction", "panel_fraction", "thin_fraction", "near_fraction", "whitening")
        inner = ("mask_fraction", "validation_fraction")
        is_prior = self.prior_cells is None or self.prior_cells > 0
        _check(
            self,
            {
                "at least 1": {name: getattr(self, name) >= 1 for name in integers},
                "sizes of at least 1": {"bag_sizes": len(self.bag_sizes) > 0 and min(self.bag_sizes) >= 1},
                "not negative": {name: getattr(self, name) >= 0 for name in ("warmup_steps", "checkpoint_minutes")},
                "positive": {name: getattr(self, name) > 0 for name in ("learning_rate", "gradient_clip")},
                "positive or None": {"prior_cells": is_prior},
                "between 0 and 1": {name: 0 <= getattr(self, name) <= 1 for name in fractions},
                "at least 0 and below 1": {"ema_decay": 0 <= self.ema_decay < 1},
                "above 0 and below 1": {name: 0 < getattr(self, name) < 1 for name in inner},
                "two increasing fractions between 0 and 1": {"mask_range": _is_range(self.mask_range)},
                "'uniform' or 'counts'": {"binning": self.binning in get_args(Binning)},
            },
        )


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of :func:`scanpy_sct.train.finetune`.

    The result depends on data and seed only, unless `minutes` ends the training.
    """

    spatial: bool = False
    """Let the network read the coordinates of the cells."""
    steps: int = 300
    """Largest number of optimiser steps, one bag each."""
    minutes: float | None = None
    """Time limit."""
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    pull: float = 20.0
    """Weight decay towards the weights of the model: each step reverts this fraction, times the learning rate, of the
    changes. Without it, predictions of held-out cells soon become worse."""
    gradient_clip: float = 1.0
    bag_size: int = 50
    """Cells of a bag; fewer need less memory, which matters for the released network."""
    mask_range: tuple[float, float] = (0.1, 0.5)
    """Range from which the fraction of masked entries of a training bag is drawn."""
    mask_fraction: float = 0.25
    """Fraction of entries masked in the validation on held-out cells."""
    masked_gene_fraction: float = 0.0
    """Fraction of bags in which a quarter of the genes is masked in all cells."""
    panel_fraction: float = 0.0
    """Fraction of bags with a random panel of genes; the other genes are unmeasured."""
    thin_fraction: float = 0.0
    """Fraction of bags whose counts are thinned to between a fifth and all of their depth."""
    near_fraction: float = 0.7
    """Fraction of bags of neighbouring cells, in space or in expression; the others are random."""
    max_masked_tokens: int = 200_000
    """Largest number of masked tokens of a bag in the loss; of more, this number is drawn."""
    validation_fraction: float = 0.1
    """Fraction of cells held out for validation."""
    validate_every: int = 50
    """Steps between two validations on held-out cells."""
    patience: int = 4
    """Stop after this number of validations in a row without improvement."""

    def __post_init__(self) -> None:
        fractions = ("masked_gene_fraction", "panel_fraction", "thin_fraction", "near_fraction")
        inner = ("mask_fraction", "validation_fraction")
        integers = ("steps", "validate_every", "patience", "max_masked_tokens")
        _check(
            self,
            {
                "at least 1": {name: getattr(self, name) >= 1 for name in integers},
                "at least 2": {"bag_size": self.bag_size >= 2},
                "positive": {name: getattr(self, name) > 0 for name in ("learning_rate", "gradient_clip")},
                "positive or None": {"minutes": self.minutes is None or self.minutes > 0},
                "between 0 and 1": {name: 0 <= getattr(self, name) <= 1 for name in fractions},
                "above 0 and below 1": {name: 0 < getattr(self, name) < 1 for name in inner},
                "two increasing fractions between 0 and 1": {"mask_range": _is_range(self.mask_range)},
            },
        )


def _is_range(mask_range: tuple[float, float]) -> bool:
    low, high = mask_range
    return 0 < low <= high < 1


def _check(config: PretrainConfig | FinetuneConfig, rules: dict[str, dict[str, bool]]) -> None:
    for rule, results in rules.items():
        for name, is_good in results.items():
            if not is_good:
                msg = f"{name}={getattr(config, name)!r} must be {rule}."
                raise ValueError(msg)
