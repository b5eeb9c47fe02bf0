"""Training that continues from given weights, with weight decay towards them and early stopping."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.config import FinetuneConfig
from scanpy_sct.train.data import Dataset, draw_bag, draw_validation_bag
from scanpy_sct.train.optimise import Optimisation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scanpy_sct.model import Network

logger = logging.getLogger(__name__)

VALIDATION_BAGS = 8


class Tuning:
    """Train with weight decay towards the initial weights; keep the weights that predict held-out cells best."""

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        datasets: Sequence[Dataset],
        rules: TokenRules,
        config: FinetuneConfig,
        seed: int,
    ) -> None:
        self.datasets, self.rules, self.config, self.seed = datasets, rules, config, seed
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimisation = Optimisation(fabric, network, self.trained, config)
        self.start = self._weights()
        self.validation = [
            draw_validation_bag(datasets, rules, config, np.random.default_rng([seed, 2, number]), config.bag_size)
            for number in range(VALIDATION_BAGS)
        ]

    def fit(self) -> None:
        """Train until the last step, the time limit or no further improvement; restore the best weights."""
        config, started = self.config, time.monotonic()
        best, best_step, weights = self._validate(), 0, self._weights()
        first, losses = best, []
        for step in range(1, config.steps + 1):
            losses.append(self._step(step - 1))
            is_late = config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            if step % config.validate_every and step < config.steps and not is_late:
                continue
            loss = self._validate()
            logger.info("step %d: loss %.5f, on held-out cells %.5f (before %.5f)", step, np.mean(losses), loss, first)
            losses = []
            if loss < best:
                best, best_step, weights = loss, step, self._weights()
            if is_late or step - best_step >= config.patience * config.validate_every:
                break
        self._restore(weights)
        if best_step == 0:
            logger.warning(
                "Training did not improve the predictions of held-out cells (loss %.5f before), so the weights are "
                "unchanged: use more cells.",
                first,
            )

    def _step(self, step: int) -> float:
        config, rng = self.config, np.random.default_rng([self.seed, 1, step])
        bag = draw_bag(self.datasets, self.rules, config, rng, config.bag_size)
        loss = self.optimisation.step([bag], step)
        self._pull_back(min(1.0, config.pull * self.optimisation.learning_rate))
        return loss

    @torch.no_grad()
    def _pull_back(self, fraction: float) -> None:
        # Weight decay towards the initial weights instead of zero (L2-SP; Li, Grandvalet & Davoine 2018).
        for parameter, start in zip(self.trained, self.start, strict=True):
            parameter.lerp_(start, fraction)

    @torch.no_grad()
    def _validate(self) -> float:
        self.optimisation.model.eval()
        return float(np.mean([self.optimisation.loss(bag).item() for bag in self.validation]))

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.trained]

    @torch.no_grad()
    def _restore(self, weights: list[Tensor]) -> None:
        for parameter, kept in zip(self.trained, weights, strict=True):
            parameter.copy_(kept)
