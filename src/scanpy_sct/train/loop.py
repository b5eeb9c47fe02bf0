"""The pretraining loop: draw bags, mask, predict, step, report, save."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.settings import settings
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset, mask_for_training
from scanpy_sct.train.held_out import HeldOut, validate
from scanpy_sct.train.optimise import Optimisation
from scanpy_sct.train.sources import Source
from scanpy_sct.train.state import GOOD_FILE, Log, Progress, go_back, load_state, save_state
from scanpy_sct.train.stream import BagStream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scanpy_sct.model.network import Network

EXPLODED = 2.0
"""Training stops if the loss on held-out cells reaches this multiple of its lowest value."""


class Pretraining:
    """Pretraining of a network; :meth:`fit` runs it.

    The random generator of a bag depends on the seed, the step and the number of the bag within the step only: a
    resumed or distributed run draws the same bags as an uninterrupted one.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        sources: Sequence[Source],
        held_out: Sequence[np.ndarray],
        rules: TokenRules,
        config: PretrainConfig,
        folder: Path,
    ) -> None:
        self.fabric, self.network, self.rules, self.config, self.folder = fabric, network, rules, config, folder
        self.sources, self.held_out = sources, held_out
        self.optimisation = Optimisation(fabric, network, _parameter_groups(network, config), config)
        self.average = copy.deepcopy(network) if config.ema_decay else network
        self.own_streams = range(fabric.global_rank, config.bags_per_step, fabric.world_size)

    def fit(self, test: HeldOut | None) -> None:
        """Train from the saved state to the last step, then load the averaged weights into the network.

        The first process reports on the held-out cells of ``test``.
        """
        fabric, is_first = self.fabric, self.fabric.is_global_zero
        parts = {"model": self.optimisation.model, "optimizer": self.optimisation.optimizer}
        if self.config.ema_decay:
            parts["average"] = self.average
        progress = load_state(fabric, self.folder, parts)
        with (
            closing(Log(self.folder, progress.step, is_writer=is_first)) as log,
            _bar(self.config, progress, is_shown=is_first) as bar,
        ):
            try:
                self._train(parts, progress, test, log, bar)
            except FloatingPointError as error:
                fabric.barrier()
                kept = go_back(self.folder) if is_first else ""
                fabric.barrier()
                msg = f"{error} {kept}"
                raise FloatingPointError(msg) from error
        self.network.load_state_dict(self.average.state_dict())

    def _train(self, parts: dict[str, Any], progress: Progress, test: HeldOut | None, log: Log, bar: Any) -> None:
        fabric, config, n_left = self.fabric, self.config, self.config.steps - progress.step
        saved = started = time.monotonic()
        for bags in islice(self._bags(progress.step), n_left) if n_left > 0 else ():
            self._step(bags, progress)
            progress.minutes += (time.monotonic() - started) / 60
            bar.update(1)
            is_last = progress.step == config.steps
            if progress.step % config.report_every == 0 or is_last:
                row = self._report(progress, test)
                log.add(row)
                bar.set_postfix(loss=row["loss"], cells_per_s=row["cells_per_s"])
                save_state(fabric, self.folder, parts, progress, GOOD_FILE)
            is_due = fabric.broadcast(time.monotonic() - saved > 60 * config.checkpoint_minutes)
            if is_due or is_last:
                save_state(fabric, self.folder, parts, progress)
                saved = time.monotonic()
            # The time of reports and saving is not counted.
            started = time.monotonic()

    def _bags(self, first: int) -> Iterator[list[tuple[Dataset, np.ndarray]]]:
        """Yield the bags of this process for each step."""
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
        config, step = self.config, progress.step
        masked = [
            mask_for_training(dataset, rows, self.rules, config, np.random.default_rng([config.seed, 1, step, stream]))
            for stream, (dataset, rows) in zip(self.own_streams, bags, strict=True)
        ]
        progress.loss_sum += self.optimisation.step(masked, step)
        progress.n_losses += 1
        self._average(step)
        progress.step += 1
        n_cells = torch.tensor(sum(len(bag.tokens) for bag in masked), device=self.fabric.device)
        progress.cells += int(self.fabric.all_reduce(n_cells, reduce_op="sum"))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        if not self.config.ema_decay:
            return
        # A smaller decay at first, so that the initial weights do not dominate the average.
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _report(self, progress: Progress, test: HeldOut | None) -> dict[str, float]:
        row = {
            "step": progress.step,
            "cells": progress.cells,
            "minutes": progress.minutes,
            "cells_per_s": progress.cells / max(60 * progress.minutes, 1e-9),
            "loss": progress.loss_sum / max(progress.n_losses, 1),
        }
        progress.loss_sum, progress.n_losses = 0.0, 0
        if test is not None:
            row |= validate(self.average, test, self.fabric.device)
        loss = self.fabric.broadcast(row.get("loss_network"))
        progress.best_loss = min(progress.best_loss, loss)
        if not loss <= EXPLODED * progress.best_loss:
            msg = (
                f"The loss on held-out cells rose from {progress.best_loss:.3g} to {loss:.3g} by step {progress.step}: "
                "lower learning_rate."
            )
            raise FloatingPointError(msg)
        return row


def _parameter_groups(network: Network, config: PretrainConfig) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _bar(config: PretrainConfig, progress: Progress, *, is_shown: bool) -> Any:
    from tqdm.auto import tqdm

    disable = not (is_shown and settings.progress)
    return tqdm(total=config.steps, initial=progress.step, desc="sct pretrain", unit="step", disable=disable)
