"""The optimiser step of pretraining and finetuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scanpy_sct.model.network import Bags
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig
from scanpy_sct.train.data import TrainingBag

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scanpy_sct.model.network import Network

FINAL_LEARNING_RATE = 0.02
BETAS = (0.9, 0.98)


class MaskedLoss(nn.Module):
    """Loss of a network on a bag: the module that distributed strategies wrap."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, coordinates: Tensor | None, token_index: Tensor, bins: Tensor) -> Tensor:
        """Return the mean cross-entropy of the true ``bins`` at ``token_index``."""
        return cross_entropy(self.network.bin_logits(Bags(tokens, coordinates), token_index), bins)


class Optimisation:
    """A network with its optimiser; ``groups`` are the trained parameters, as the optimiser takes them."""

    def __init__(
        self, fabric: Fabric, network: Network, groups: list[Any], config: PretrainConfig | FinetuneConfig
    ) -> None:
        self.fabric, self.config, self.reads_coordinates = fabric, config, network.config.reads_coordinates
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
        self.model, self.optimizer = fabric.setup(MaskedLoss(network), optimizer)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]

    def loss(self, bag: TrainingBag) -> Tensor:
        """Return the loss on one bag."""
        bags, token_index = as_tensors(bag, self.fabric.device, coordinates=self.reads_coordinates)
        bins = torch.from_numpy(bag.bins).to(self.fabric.device).long()
        return self.model(bags.tokens, bags.coordinates, token_index, bins)

    def step(self, bags: Sequence[TrainingBag], number: int) -> float:
        """Take step ``number`` and return the mean loss over the bags of all processes.

        A loss or gradient that is not finite raises a FloatingPointError, in all processes.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.config)
        self.model.train()
        total = torch.zeros((), device=self.fabric.device)
        for bag in bags:
            is_last = bag is bags[-1]
            with nullcontext() if is_last else self.fabric.no_backward_sync(self.model):
                loss = self.loss(bag) / len(bags)
                self.fabric.backward(loss)
            total += loss.detach()
        loss = float(self.fabric.all_reduce(total, reduce_op="mean"))
        if not math.isfinite(loss):
            msg = f"The loss became {loss} at step {number}: lower learning_rate."
            raise FloatingPointError(msg)
        try:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.config.gradient_clip)
        except RuntimeError as error:
            msg = f"A gradient became infinite or NaN at step {number}: lower learning_rate."
            raise FloatingPointError(msg) from error
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


def as_tensors(bag: TrainingBag, device: torch.device, *, coordinates: bool = False) -> tuple[Bags, Tensor]:
    """Return the bag and the token index of its targets, on ``device``."""
    points = torch.from_numpy(bag.points.astype(np.float32))[None].to(device) if coordinates else None
    tokens = torch.from_numpy(bag.tokens)[None].to(device)
    return Bags(tokens, points), torch.from_numpy(bag.token_index).to(device)


def learning_rate(step: int, config: PretrainConfig | FinetuneConfig) -> float:
    """Return the learning rate: linear warm-up, then cosine decay to 2 % of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    cosine = (1 + math.cos(math.pi * min(progress, 1))) / 2
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def cross_entropy(logits: Tensor, bins: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``bins`` (tokens,) under ``logits`` (tokens, n_bins)."""
    # Bins first: normalising over short rows is slow.
    logits = logits.float().T.contiguous()
    return (logits.logsumexp(0) - logits.gather(0, bins[None])[0]).mean()


def make_fabric(**options: Any) -> Fabric:
    """Return a Lightning Fabric; a missing package raises an ImportError with the command that installs it."""
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        msg = 'Training needs lightning-fabric: pip install "scanpy_sct[train]"'
        raise ImportError(msg) from error
    return Fabric(**options)
