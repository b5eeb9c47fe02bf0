"""The training loop: take bags, hide, predict, step; report and save as it goes."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.settings import settings
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig
from scanpy_sct.train.data import Dataset, TrainingBag, hide_in_bag
from scanpy_sct.train.held_out import held_out_bags, validate
from scanpy_sct.train.sources import Source
from scanpy_sct.train.state import GOOD_FILE, Log, Progress, go_back, load_state, save_state
from scanpy_sct.train.stream import BagStream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scanpy_sct.model import CompactNetwork

logger = logging.getLogger(__name__)

FINAL_LEARNING_RATE = 0.02
EXPLODED = 2.0
"""A loss on held-out cells of so many times its lowest value is an explosion; bags of training differ too much."""


class Pretraining:
    """A network, its optimiser, and the bags it learns from; :meth:`fit` does the work.

    Every bag draws from its own random generator, made of the seed, the number of the step and its own number within
    the step: a run that was stopped and resumed, or shared among several processes, sees the same bags as one that
    was not.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: CompactNetwork,
        sources: Sequence[Source],
        held_out: Sequence[np.ndarray],
        rules: TokenRules,
        config: PretrainConfig,
        folder: Path,
    ) -> None:
        self.fabric, self.network, self.rules, self.config, self.folder = fabric, network, rules, config, folder
        self.sources, self.held_out = sources, held_out
        optimizer = torch.optim.AdamW(_parameter_groups(network, config), lr=config.learning_rate, betas=(0.9, 0.98))
        self.model, self.optimizer = fabric.setup(network, optimizer)
        self.average = copy.deepcopy(network) if config.ema_decay else network
        self.own_streams = range(fabric.global_rank, config.bags_per_step, fabric.world_size)

    def fit(self) -> None:
        """Train to the last step, from where the state in the folder is; then put the averaged weights in place."""
        fabric, config = self.fabric, self.config
        parts = {"model": self.model, "optimizer": self.optimizer}
        if config.ema_decay:
            parts["average"] = self.average
        progress = load_state(fabric, self.folder, parts)
        is_first = fabric.is_global_zero
        log = Log(self.folder, progress.step, is_writer=is_first)
        test_bags = held_out_bags(self.sources, self.held_out, self.rules, config) if is_first else []
        try:
            with _bar(config, progress, shown=is_first) as bar:
                self._train(parts, progress, test_bags, log, bar)
        except FloatingPointError as error:
            fabric.barrier()
            kept = go_back(self.folder) if is_first else ""
            fabric.barrier()
            msg = f"{error} Lower learning_rate; {kept}."
            raise FloatingPointError(msg) from error
        finally:
            log.close()
        self.network.load_state_dict(self.average.state_dict())

    def _train(
        self, parts: dict[str, Any], progress: Progress, test_bags: Sequence[TrainingBag], log: Log, bar: Any
    ) -> None:
        fabric, config, n_left = self.fabric, self.config, self.config.steps - progress.step
        saved = started = time.monotonic()
        for bags in islice(self._bags(progress.step), n_left) if n_left > 0 else ():
            self._step(bags, progress)
            progress.minutes += (time.monotonic() - started) / 60
            bar.update(1)
            is_last = progress.step == config.steps
            if progress.step % config.report_every == 0 or is_last:
                row = self._report(progress, test_bags)
                log.add(row)
                bar.set_postfix(loss=row["loss"], cells_per_s=row["cells_per_s"])
                save_state(fabric, self.folder, parts, progress, GOOD_FILE)
            is_due = fabric.broadcast(time.monotonic() - saved > 60 * config.checkpoint_minutes)
            if is_due or is_last:
                save_state(fabric, self.folder, parts, progress)
                saved = time.monotonic()
            # Waiting for the reader counts, judging and saving do not.
            started = time.monotonic()

    def _bags(self, first: int) -> Iterator[list[tuple[Dataset, np.ndarray]]]:
        """Yield the bags of this process, step by step."""
        config = self.config
        streams = [
            BagStream(self.sources, self.held_out, config, number, config.bags_per_step).bags(first)
            for number in self.own_streams
        ]
        try:
            while True:
                yield [next(stream) for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def _step(self, bags: list[tuple[Dataset, np.ndarray]], progress: Progress) -> None:
        """Take one optimiser step; its loss is the mean over the bags of all processes."""
        config, step = self.config, progress.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        with_tower = uses_tower(step, config)
        self.model.train()
        total = torch.zeros(2, device=self.fabric.device)
        for place, (stream, (dataset, rows)) in enumerate(zip(self.own_streams, bags, strict=True)):
            rng = np.random.default_rng([config.seed, 1, step, stream])
            if with_tower and len(rows) > config.tower_bag_size:
                rows = rng.permutation(rows)[: config.tower_bag_size]
            bag = hide_in_bag(dataset, rows, self.rules, config, rng)
            is_last = place == len(bags) - 1
            with nullcontext() if is_last else self.fabric.no_backward_sync(self.model):
                loss = _loss(self.model, bag, self.fabric.device, with_tower=with_tower)
                self.fabric.backward(loss / len(bags))
            total += torch.stack([loss.detach() / len(bags), loss.new_tensor(len(rows))])
        loss = self.fabric.all_reduce(total[0], reduce_op="mean").item()
        # Every process sees the same number, so that all stop together.
        if not math.isfinite(loss):
            msg = f"The loss became {loss} at step {step}."
            raise FloatingPointError(msg)
        try:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.gradient_clip)
        except RuntimeError as error:
            msg = f"A gradient became infinite or NaN at step {step}."
            raise FloatingPointError(msg) from error
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average(step)
        progress.step += 1
        progress.cells += int(self.fabric.all_reduce(total[1], reduce_op="sum").item())
        progress.loss_sum += loss
        progress.n_losses += 1

    @torch.no_grad()
    def _average(self, step: int) -> None:
        if not self.config.ema_decay:
            return
        # A long memory begins short, or the start would weigh on the average for long.
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _report(self, progress: Progress, test_bags: Sequence[TrainingBag]) -> dict[str, float]:
        row = {
            "step": progress.step,
            "cells": progress.cells,
            "minutes": progress.minutes,
            "cells_per_s": progress.cells / max(60 * progress.minutes, 1e-9),
            "loss": progress.loss_sum / max(progress.n_losses, 1),
        }
        progress.loss_sum, progress.n_losses = 0.0, 0
        if self.fabric.is_global_zero:
            with_tower = self.config.tower_every > 0 and self.config.network.convolutions
            row |= validate(self.average, test_bags, self.fabric.device, with_tower=with_tower)
        loss = self.fabric.broadcast(row.get("loss_full", row.get("loss_direct")))
        progress.best_loss = min(progress.best_loss, loss)
        if not loss <= EXPLODED * progress.best_loss:
            msg = (
                f"The loss on held-out cells rose from {progress.best_loss:.3g} to {loss:.3g} by step {progress.step}."
            )
            raise FloatingPointError(msg)
        return row


def uses_tower(step: int, config: PretrainConfig) -> bool:
    """Whether the convolutional path takes part in a step."""
    if not config.network.convolutions:
        return False
    return not config.network.context or (config.tower_every > 0 and step % config.tower_every == 0)


def learning_rate(step: int, config: PretrainConfig | FinetuneConfig) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    cosine = (1 + math.cos(math.pi * min(progress, 1))) / 2
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def _loss(model: nn.Module, bag: TrainingBag, device: torch.device, *, with_tower: bool) -> Tensor:
    """Cross-entropy of the levels at the hidden places."""
    tokens = torch.from_numpy(bag.tokens).to(device).reshape(1, -1)
    places = torch.from_numpy(bag.places).to(device)
    name = "logits" if with_tower else "direct_logits"
    logits = model(tokens, outputs={name}, positions=places)[name]
    return cross_entropy(logits.float().T, torch.from_numpy(bag.truth).to(device).long())


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy for logits (levels, places): to normalise over short rows, levels last, is slow."""
    logits = logits.contiguous()
    return (logits.logsumexp(0) - logits.gather(0, truth[None])[0]).mean()


def _parameter_groups(network: CompactNetwork, config: PretrainConfig) -> list[dict]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _bar(config: PretrainConfig, progress: Progress, *, shown: bool) -> Any:
    from tqdm.auto import tqdm

    hidden = not (shown and settings.progress)
    return tqdm(total=config.steps, initial=progress.step, desc="sct pretrain", unit="step", disable=hidden)
