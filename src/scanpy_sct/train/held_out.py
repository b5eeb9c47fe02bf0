"""Validation on held-out cells during pretraining: the network, ablations and simple baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scanpy_sct.model.network import Bags
from scanpy_sct.plan.bags import CellsToPlan, bag_points
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.sparse_tools import without_masked
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset, TrainingBag, draw_masked, mask_for_validation
from scanpy_sct.train.optimise import as_tensors, cross_entropy
from scanpy_sct.train.sources import Source
from scanpy_sct.train.stream import read_block

if TYPE_CHECKING:
    from scanpy_sct.model.network import Network

N_BAGS, MAX_TRIES = 8, 5
N_TARGET_CELLS, N_CELLS = 16, 50
N_NEIGHBORS = 10


@dataclass(frozen=True)
class HeldOut:
    """Bags of held-out cells, for validation."""

    bags: list[TrainingBag]
    detection_rates: np.ndarray
    """(n_genes,) detection rate in the training data."""


def held_out_bags(
    sources: Sequence[Source], held_out: Sequence[np.ndarray], rules: TokenRules, config: PretrainConfig
) -> list[TrainingBag]:
    """Draw bags of held-out cells, which are the targets, with context cells that are similar to them."""
    bags: list[TrainingBag] = []
    for number in range(N_BAGS * MAX_TRIES):
        rng = np.random.default_rng([config.seed, 2, number])
        weights = np.sqrt([mask.sum() for mask in held_out])
        source = rng.choice(len(sources), p=weights / weights.sum())
        cell = rng.choice(np.flatnonzero(held_out[source]))
        start = cell - cell % config.block_size
        dataset = read_block(sources[source], held_out[source], start, start + config.block_size)
        bag = _bag_around(dataset, cell - start, rules, config, rng)
        # A single cell, or targets that are all equal, cannot be evaluated.
        if len(bag.tokens) > 1 and 0 < (bag.bins > 0).mean() < 1:
            bags.append(bag)
        if len(bags) == N_BAGS:
            break
    return bags


def _bag_around(
    dataset: Dataset, cell: int, rules: TokenRules, config: PretrainConfig, rng: np.random.Generator
) -> TrainingBag:
    # Masked before neighbours are searched, since masked entries must not inform which cells are similar.
    masked = draw_masked(dataset.measured, len(dataset.samples), config.mask_fraction, rng)
    if not dataset.points.any():
        visible = without_masked(dataset.log_counts, masked)
        dataset = replace(dataset, points=bag_points("similar", CellsToPlan(None, lambda: visible, config.seed)))
    rows = _neighbouring_cells(dataset, cell)
    return mask_for_validation(dataset, rows, masked[rows], rules, config, rng)


def _neighbouring_cells(dataset: Dataset, first: int) -> np.ndarray:
    """Return rows of up to 16 held-out cells and of others, 50 in all, of one sample and nearest to ``first``."""
    distance = ((dataset.points - dataset.points[first]) ** 2).sum(1)
    rows = np.flatnonzero(dataset.samples == dataset.samples[first])
    rows = rows[np.argsort(distance[rows], kind="stable")]
    targets = rows[dataset.held_out[rows]][:N_TARGET_CELLS]
    return np.concatenate([targets, rows[~dataset.held_out[rows]][: N_CELLS - len(targets)]])


@torch.no_grad()
def validate(network: Network, test: HeldOut, device: torch.device) -> dict[str, float]:
    """Return loss and average precision of "is it detected", means over held-out bags.

    `loss_` and `auprc_` are those of the network in three variants:

    * `network`: the whole network;
    * `ablated`: the output of its transformer (attention among the cells of a bag in a compact network, the bottleneck
      transformer in a released one) is replaced by its mean;
    * `alone`: every cell in a bag of its own.

    `auprc_` also has the baselines `gene_constant` (detection rates in the training data), `bag_mean` (fraction of the
    bag's other cells in which the gene is detected) and `knn` (the same in the 10 most similar of them). The network is
    left in evaluation mode.
    """
    from sklearn.metrics import average_precision_score

    network.eval()
    result: dict[str, list[float]] = {}
    for bag in test.bags:
        detected = bag.bins > 0
        bins = torch.from_numpy(bag.bins).to(device).long()
        for name, logits in _variants(network, bag, device):
            result.setdefault(f"loss_{name}", []).append(float(cross_entropy(logits, bins)))
            score = 1 - logits.float().softmax(-1)[:, 0].cpu().numpy()
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(detected, score))
        for name, score in _baselines(bag, test.detection_rates, network.config.n_bins):
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(detected, score))
    return {name: float(np.mean(values)) for name, values in result.items()}


def _variants(network: Network, bag: TrainingBag, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Yield the logits (tokens, n_bins) of the whole network and of its ablations."""
    bags, token_index = as_tensors(bag, device)
    yield "network", network.bin_logits(bags, token_index)
    if len(layers := transformer_layers(network)):
        with ablated(layers):
            yield "ablated", network.bin_logits(bags, token_index)
    cells, number = (token_index // network.n_genes).unique(return_inverse=True)
    alone = Bags(bags.tokens[0, cells][:, None])
    yield "alone", network.bin_logits(alone, number * network.n_genes + token_index % network.n_genes)


def transformer_layers(network: Network) -> nn.ModuleList:
    """Return the layers of the cell transformer (compact) or of the bottleneck transformer (released)."""
    return getattr(network, "cell_transformer", network).layers


@contextmanager
def ablated(layers: nn.ModuleList) -> Iterator[None]:
    """Replace the output of transformer layers by its mean over the sequence, within the context."""
    handle = layers[-1].register_forward_hook(
        lambda module, inputs, output: output.mean(1, keepdim=True).expand_as(output)
    )
    try:
        yield
    finally:
        handle.remove()


def _baselines(bag: TrainingBag, detection_rates: np.ndarray, n_bins: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield scores of detection at each target, from the visible entries of the bag."""
    cells, genes = np.divmod(bag.token_index, bag.tokens.shape[1])
    visible, detected = bag.tokens < n_bins, (bag.tokens > 0) & (bag.tokens < n_bins)
    prior = detection_rates[genes]
    yield "gene_constant", prior
    # Targets are masked, so that no cell counts itself; the prior, with the weight of one cell, resolves ties.
    yield "bag_mean", (detected.sum(0)[genes] + prior) / (visible.sum(0)[genes] + 1)
    values = (bag.tokens * visible).astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    similarity = values @ values.T
    np.fill_diagonal(similarity, -1)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(N_NEIGHBORS, len(values) - 1)]
    n_detected = detected[nearest[cells], genes[:, None]].sum(1)
    yield "knn", (n_detected + prior) / (visible[nearest[cells], genes[:, None]].sum(1) + 1)
