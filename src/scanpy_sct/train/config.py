"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from scanpy_sct.model import CompactConfig
from scanpy_sct.plan.bins import Binning

GENE_ORDERS = ("coexpression", "mean", "given")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of :func:`scanpy_sct.train.pretrain`.

    The defaults make a small network with all its parts. The settings of `sct-mini` are in `scripts/recipe.py`.
    """

    name: str = "sct"
    """Name of the checkpoint."""
    network: CompactConfig = field(default_factory=lambda: CompactConfig(bag_correction=False))
    binning: str = "uniform"
    """Bins of a cell's expressed genes, as many as `network.mask_token_id` leaves room for: `"uniform"`, of equal width
    on the log scale of the cell; `"quantile"`, of equally many genes; `"counts"`, of 1, 2, 3-4, 5-8, ... counts."""
    gene_order: str = "coexpression"
    """Order of the genes along the convolutions: `"coexpression"` or `"mean"` (expression) in the training data, or as
    `"given"` by the vocabulary."""
    steps: int = 1500
    """Optimiser steps."""
    bags_per_step: int = 1
    """Bags whose gradients are averaged in a step, over all processes; a multiple of their number."""
    block_size: int = 1024
    """Cells that are read together from a file."""
    window_blocks: int = 4
    """Blocks among whose bags is shuffled; memory holds twice as many for each of `bags_per_step`."""
    balance: float = 0.5
    """A file of n cells is shown as if it had n ** `balance` (times a constant): 1 as it is, 0 all files alike."""
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    """Where above 0, the checkpoint holds a moving average of the weights that keeps this share of itself a step."""
    tower_every: int = 8
    """The convolutional path takes part in one of so many steps (0: in none); the direct paths, far cheaper, in all."""
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
    gene_effect_share: float = 0.0
    """Share of bags in which every gene's counts are thinned by a share of its own, as another chemistry would."""
    near_share: float = 0.7
    """Share of bags made of cells close to one another, in space or in expression; the rest are random."""
    max_hidden_entries: int = 200_000
    """Entries of a bag that count in the loss; more are sampled."""
    validation_share: float = 0.04
    """Share of cells kept out of training, to report on while it runs."""
    report_every: int = 100
    """Steps between two reports on held-out cells."""
    checkpoint_minutes: float = 5.0
    """Minutes between two states that a stopped run can continue from."""
    seed: int = 0

    def __post_init__(self) -> None:
        whole = ("steps", "bags_per_step", "tower_bag_size", "block_size", "window_blocks", "report_every")
        whole += ("max_hidden_entries",)
        shares = ("balance", "hidden_gene_share", "panel_share", "thin_share", "gene_effect_share", "near_share")
        low, high = self.mask_range
        _check(
            self,
            {
                "at least 1": {name: getattr(self, name) >= 1 for name in whole},
                "sizes of at least 1": {"bag_sizes": len(self.bag_sizes) > 0 and min(self.bag_sizes) >= 1},
                "not negative": {
                    name: getattr(self, name) >= 0 for name in ("tower_every", "warmup_steps", "checkpoint_minutes")
                },
                "positive": {name: getattr(self, name) > 0 for name in ("learning_rate", "gradient_clip")},
                "between 0 and 1": {name: 0 <= getattr(self, name) <= 1 for name in shares},
                "at least 0 and below 1": {"ema_decay": 0 <= self.ema_decay < 1},
                "above 0 and below 1": {
                    name: 0 < getattr(self, name) < 1 for name in ("mask_fraction", "validation_share")
                },
                "two rising shares": {"mask_range": 0 < low <= high < 1},
                "'uniform', 'quantile' or 'counts'": {"binning": self.binning in get_args(Binning)},
                "'coexpression', 'mean' or 'given'": {"gene_order": self.gene_order in GENE_ORDERS},
            },
        )


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of :func:`scanpy_sct.train.finetune`.

    `steps` is the budget: with it the result depends on data and seed alone. `minutes` is a guard for slow machines:
    where it ends the training, the result depends on the machine too.
    """

    spatial: bool = False
    """Let the network read where on the tissue each cell lies, if it does not yet."""
    steps: int = 300
    """Optimiser steps, one bag each; the step at which held-out cells are predicted best is kept."""
    minutes: float | None = None
    """Stop after so many minutes, whatever the step."""
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    pull: float = 20.0
    """Weight decay towards the weights of the model: each step takes back this share, times the learning rate, of what
    has changed. Without it, cells that were held out are soon predicted worse."""
    gradient_clip: float = 1.0
    bag_size: int = 50
    """Cells of a bag; where the whole network is trained, `tower_bag_size`."""
    tower_bag_size: int = 16
    mask_range: tuple[float, float] = (0.1, 0.5)
    """Share of entries hidden in a training bag, drawn evenly."""
    mask_fraction: float = 0.25
    """Share of entries hidden for the test on held-out cells."""
    hidden_gene_share: float = 0.0
    """Share of bags in which a quarter of the genes is hidden in all cells."""
    panel_share: float = 0.0
    """Share of bags that see only a random panel of genes, the rest being unmeasured."""
    thin_share: float = 0.0
    """Share of bags whose counts are thinned to between a fifth and all of their depth."""
    gene_effect_share: float = 0.0
    """Share of bags in which every gene's counts are thinned by a share of its own, as another chemistry would."""
    near_share: float = 0.7
    """Share of bags made of cells close to one another, in space or in expression; the rest are random."""
    max_hidden_entries: int = 200_000
    """Entries of a bag that count in the loss; more are sampled."""
    validation_share: float = 0.1
    """Share of cells held out to judge by."""
    validate_every: int = 50
    """Steps between two tests on held-out cells."""
    patience: int = 4
    """Stop after so many tests in a row without improvement."""

    def __post_init__(self) -> None:
        shares = ("hidden_gene_share", "panel_share", "thin_share", "gene_effect_share", "near_share")
        inner = ("mask_fraction", "validation_share")
        low, high = self.mask_range
        rules = {
            "at least 1": {name: getattr(self, name) >= 1 for name in ("steps", "validate_every", "patience")},
            "at least 2": {name: getattr(self, name) >= 2 for name in ("bag_size", "tower_bag_size")},
            "positive": {"learning_rate": self.learning_rate > 0, "minutes": self.minutes is None or self.minutes > 0},
            "between 0 and 1": {name: 0 <= getattr(self, name) <= 1 for name in shares},
            "above 0 and below 1": {name: 0 < getattr(self, name) < 1 for name in inner},
            "two rising shares": {"mask_range": 0 < low <= high < 1},
        }
        _check(self, rules)


def _check(config: PretrainConfig | FinetuneConfig, rules: dict[str, dict[str, bool]]) -> None:
    for rule, results in rules.items():
        for name, is_good in results.items():
            if not is_good:
                msg = f"{name}={getattr(config, name)!r} must be {rule}."
                raise ValueError(msg)
