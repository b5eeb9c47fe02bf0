"""The training loop: draw a bag, hide, predict, step; report and save as it goes."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig
from scanpy_sct.train.data import Dataset, TrainingBag, draw_bag, draw_company_bag

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.model import Sct

logger = logging.getLogger(__name__)

STATE_FILE, LOG_FILE = "training_state.ckpt", "log.csv"
FINAL_LEARNING_RATE = 0.02
VALIDATION_BAGS = 8
VALIDATION_SIZE = 16


def train(
    fabric: Fabric,
    network: Sct,
    datasets: Sequence[Dataset],
    rules: TokenRules,
    config: PretrainConfig,
    folder: Path,
) -> None:
    """Train ``network`` in place; continue where ``folder`` holds the state of an earlier run.

    Every step draws from its own random generator, made of the seed and the number of the step: a run that was
    stopped and resumed sees the same bags as one that was not.
    """
    optimizer = torch.optim.AdamW(_parameter_groups(network, config), lr=config.learning_rate, betas=(0.9, 0.98))
    model, optimizer = fabric.setup(network, optimizer)
    first = _resume(fabric, folder, model, optimizer)
    validation = [_validation_bag(datasets, rules, config, number) for number in range(VALIDATION_BAGS)]
    saved, started, losses = time.monotonic(), time.monotonic(), []
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        losses.append(_train_step(fabric, model, optimizer, datasets, rules, config, step))
        if not math.isfinite(losses[-1]):
            msg = (
                f"The loss became {losses[-1]} at step {step}. The last good state is in {folder}: lower learning_rate."
            )
            raise FloatingPointError(msg)
        done = step + 1
        if done % config.report_every == 0 or done == config.steps:
            report = {"step": done, "minutes": (time.monotonic() - started) / 60, "loss": np.mean(losses)}
            _report(folder, report | validate(model, validation))
            losses = []
        if time.monotonic() - saved > 60 * config.checkpoint_minutes or done == config.steps:
            _save(fabric, folder, model, optimizer, done)
            saved = time.monotonic()


def learning_rate(step: int, config: PretrainConfig | FinetuneConfig) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    cosine = (1 + math.cos(math.pi * min(progress, 1))) / 2
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def _train_step(
    fabric: Fabric,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    datasets: Sequence[Dataset],
    rules: TokenRules,
    config: PretrainConfig,
    step: int,
) -> float:
    rng = np.random.default_rng([config.seed, 1, step])
    with_tower = not config.network.context or step % config.tower_every == 0
    size = config.tower_bag_size if with_tower else int(rng.choice(config.bag_sizes))
    bag = draw_bag(datasets, rules, config, rng, size)
    model.train()
    loss = _loss(model, bag, fabric.device, with_tower=with_tower)
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=config.gradient_clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _hidden_logits(model: torch.nn.Module, bag: TrainingBag, device: torch.device, *, with_tower: bool) -> Tensor:
    tokens = torch.from_numpy(bag.tokens).to(device).reshape(1, -1)
    places = torch.from_numpy(bag.places).to(device)
    if with_tower:
        return model(tokens, outputs={"logits"}, positions=places)["logits"]
    return model(tokens, outputs={"direct_logits"})["direct_logits"].flatten(0, 2)[places]


def _loss(model: torch.nn.Module, bag: TrainingBag, device: torch.device, *, with_tower: bool) -> Tensor:
    logits = _hidden_logits(model, bag, device, with_tower=with_tower)
    return F.cross_entropy(logits.float(), torch.from_numpy(bag.truth).to(device).long())


def _validation_bag(datasets: Sequence[Dataset], rules: TokenRules, config: PretrainConfig, number: int) -> TrainingBag:
    rng = np.random.default_rng([config.seed, 2, number])
    return draw_bag(datasets, rules, config, rng, VALIDATION_SIZE, validation=True)


@torch.no_grad()
def validate(model: torch.nn.Module, bags: Sequence[TrainingBag]) -> dict[str, float]:
    """Mean loss and average precision of "is it expressed" on held-out bags, with and without the tower.

    Beside them stands what the training frequencies of each gene, the same for all cells, would reach.
    """
    from sklearn.metrics import average_precision_score

    model.eval()
    device = next(model.parameters()).device
    result: dict[str, list[float]] = {}
    for bag in bags:
        expressed = bag.truth > 0
        truth = torch.from_numpy(bag.truth).to(device).long()
        variants = {"full": _hidden_logits(model, bag, device, with_tower=True)}
        if model.config.context:
            variants["direct"] = _hidden_logits(model, bag, device, with_tower=False)
            prior = model.profile.log_prior
            variants["gene_constant"] = prior[torch.from_numpy(bag.places).to(device) % len(prior)]
        for name, logits in variants.items():
            zero = logits.float().softmax(-1)[:, 0].cpu().numpy()
            result.setdefault(f"loss_{name}", []).append(F.cross_entropy(logits.float(), truth).item())
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(expressed, 1 - zero))
    return {name: float(np.mean(values)) for name, values in result.items()}


def _parameter_groups(network: Sct, config: PretrainConfig) -> list[dict]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _report(folder: Path, row: dict[str, float]) -> None:
    file = folder / LOG_FILE
    is_new = not file.exists()
    with file.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" for name, value in row.items()})
    logger.info(" ".join(f"{name}={value:.4g}" for name, value in row.items()))


def _save(fabric: Fabric, folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    partial = folder / (STATE_FILE + ".partial")
    fabric.save(partial, {"model": model, "optimizer": optimizer, "step": step})
    partial.replace(folder / STATE_FILE)


def _resume(fabric: Fabric, folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not (folder / STATE_FILE).exists():
        return 0
    state = {"model": model, "optimizer": optimizer, "step": 0}
    fabric.load(folder / STATE_FILE, state)
    logger.info("Continuing at step %d from %s", state["step"], folder)
    return int(state["step"])


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
        # Levels come first: normalising over rows of five is slow.
        return (logits.logsumexp(0) - logits.gather(0, truth[None])[0]).mean()

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
