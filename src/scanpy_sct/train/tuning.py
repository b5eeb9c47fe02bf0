"""Training that continues from given weights: pulled back to them, judged on held-out cells."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.config import FinetuneConfig
from scanpy_sct.train.data import Dataset, TrainingBag, draw_bag, draw_company_bag
from scanpy_sct.train.loop import cross_entropy, learning_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

VALIDATION_BAGS = 8


class Tuning:
    """Training that is pulled back to where it started, judged on held-out cells; the best weights win."""

    def __init__(
        self,
        fabric: Fabric,
        paths: torch.nn.Module,
        checkpoint: Checkpoint,
        datasets: Sequence[Dataset],
        rules: TokenRules,
        config: FinetuneConfig,
        size: int,
        seed: int,
    ) -> None:
        self.fabric, self.paths, self.checkpoint = fabric, paths, checkpoint
        self.datasets, self.rules, self.config, self.size, self.seed = datasets, rules, config, size, seed
        self.trained = [parameter for parameter in paths.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.model, self.optimizer = fabric.setup(paths, optimizer)
        self.start = [parameter.detach().clone() for parameter in self.trained]
        self.validation = [
            draw_company_bag(datasets, rules, config, np.random.default_rng([seed, 2, number]), size)
            for number in range(VALIDATION_BAGS)
        ]

    def fit(self) -> None:
        """Train until the steps or the minutes are used up or nothing gets better; leave the best weights."""
        config, started = self.config, time.monotonic()
        best, best_step, weights = self._validate(), 0, self._weights()
        first, losses = best, []
        for step in range(config.steps):
            losses.append(self._step(step))
            done = step + 1
            late = config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            if done % config.validate_every and done < config.steps and not late:
                continue
            loss = self._validate()
            logger.info("step %d: loss %.5f, on held-out cells %.5f (before %.5f)", done, np.mean(losses), loss, first)
            losses = []
            if loss < best:
                best, best_step, weights = loss, done, self._weights()
            if late or done - best_step >= config.patience * config.validate_every:
                break
        self._restore(weights)
        if best_step == 0:
            logger.warning("Nothing better than the weights at the start was found: they stay.")

    def _step(self, step: int) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        bag = draw_bag(self.datasets, self.rules, config, np.random.default_rng([self.seed, 1, step]), self.size)
        self.model.train()
        loss = self._loss(bag)
        if not math.isfinite(loss.item()):
            msg = f"The loss became {loss.item()} at step {step}: lower learning_rate."
            raise FloatingPointError(msg)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._pull_back(min(1.0, config.pull * self.optimizer.param_groups[0]["lr"]))
        return loss.item()

    @torch.no_grad()
    def _pull_back(self, share: float) -> None:
        # Weight decay towards the weights of the model instead of zero (L2-SP; Li, Grandvalet & Davoine 2018).
        for parameter, start in zip(self.trained, self.start, strict=True):
            parameter.lerp_(start, share)

    def _loss(self, bag: TrainingBag) -> Tensor:
        """Cross-entropy of the levels at the hidden places, by the probabilities that predictions would have."""
        device = self.fabric.device
        coordinates = None
        if self.checkpoint.config.use_spatial_information:
            coordinates = torch.from_numpy(bag.points.astype(np.float32))[None].to(device)
        tokens, places = torch.from_numpy(bag.tokens).to(device), torch.from_numpy(bag.places).to(device)
        logits = self.model(tokens, places, coordinates).float() / self.checkpoint.temperature
        truth = torch.from_numpy(bag.truth).to(device).long()
        return cross_entropy(logits, truth)

    @torch.no_grad()
    def _validate(self) -> float:
        self.model.eval()
        return float(np.mean([self._loss(bag).item() for bag in self.validation]))

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.trained]

    @torch.no_grad()
    def _restore(self, weights: list[Tensor]) -> None:
        for parameter, kept in zip(self.trained, weights, strict=True):
            parameter.copy_(kept)
