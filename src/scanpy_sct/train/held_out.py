"""Held-out cells while a network is trained: how well it predicts them, beside simple baselines and with parts off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset, TrainingBag, hide_for_test
from scanpy_sct.train.sources import Source
from scanpy_sct.train.stream import read_block

N_BAGS = 8
N_ASKED, N_CELLS = 16, 50
N_NEIGHBORS = 10


def held_out_bags(
    sources: Sequence[Source], held_out: Sequence[np.ndarray], rules: TokenRules, config: PretrainConfig
) -> list[TrainingBag]:
    """Draw the same few bags for the same seed: held-out cells, which are asked for, in company of cells like them."""
    bags = []
    for number in range(N_BAGS):
        rng = np.random.default_rng([config.seed, 2, number])
        weights = np.sqrt([mask.sum() for mask in held_out])
        source = rng.choice(len(sources), p=weights / weights.sum())
        cell = rng.choice(np.flatnonzero(held_out[source]))
        start = cell - cell % config.block_size
        dataset = read_block(sources[source], held_out[source], start, start + config.block_size, config.seed)
        bags.append(hide_for_test(dataset, _company(dataset, cell - start), rules, config, rng))
    return bags


def _company(dataset: Dataset, first: int) -> np.ndarray:
    """Rows of up to 16 held-out cells, and of other cells up to 50, of one sample and near the first."""
    distance = ((dataset.points - dataset.points[first]) ** 2).sum(1)
    rows = np.flatnonzero(dataset.samples == dataset.samples[first])
    rows = rows[np.argsort(distance[rows], kind="stable")]
    asked = rows[dataset.held_out[rows]][:N_ASKED]
    return np.concatenate([asked, rows[~dataset.held_out[rows]][: N_CELLS - len(asked)]])


@torch.no_grad()
def validate(network: nn.Module, bags: Sequence[TrainingBag], device: torch.device) -> dict[str, float]:
    """Loss, and average precision of "is it expressed", over held-out bags: means over bags.

    Parameters
    ----------
    network
        The network; it is left in evaluation mode.
    bags
        From :func:`held_out_bags`.
    device
        Where the network is.

    Returns
    -------
    `loss_` and `auprc_` of these variants of the network, as far as it has the parts:

    * `full`: all of it; `direct`: without convolutions and trunk;
    * `lesion`: with the output of the trunk replaced by its mean over positions;
    * `alone`: every cell in a bag of its own;

    `auprc_` of `gene_constant` (frequencies in the training data, the same for all cells), `bag_mean` (share of the
    bag's other cells that express the gene) and `knn` (of the 10 among them that are most similar); and
    `cell_variance_`: share of the variance of the activations, at the stem and at the trunk, that is between cells.
    """
    from sklearn.metrics import average_precision_score

    network.eval()
    result: dict[str, list[float]] = {}
    for bag in bags:
        expressed = bag.truth > 0
        truth = torch.from_numpy(bag.truth).to(device).long()
        for name, logits in _variants(network, bag, device):
            result.setdefault(f"loss_{name}", []).append(F.cross_entropy(logits, truth).item())
            score = 1 - logits.softmax(-1)[:, 0].cpu().numpy()
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(expressed, score))
        for name, score in _baselines(network, bag):
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(expressed, score))
        for name, share in _cell_variance(network, bag, device):
            result.setdefault(f"cell_variance_{name}", []).append(share)
    return {name: float(np.mean(values)) for name, values in result.items()}


def _variants(network: nn.Module, bag: TrainingBag, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Logits (places, levels) of the network, whole and with parts taken away."""
    tokens, places = torch.from_numpy(bag.tokens).to(device), torch.from_numpy(bag.places).to(device)
    n_levels = network.config.num_bins

    def run(outputs: str, tokens: Tensor = tokens, places: Tensor = places) -> Tensor:
        found = network(tokens.reshape(1, -1), outputs={outputs}, positions=places)[outputs]
        return found[:, :n_levels].float()

    best = "direct_logits" if network.config.context else "logits"
    yield "full", run("logits")
    with lesion(network):
        yield "lesion", run("logits")
    if network.config.context:
        yield "direct", run("direct_logits")
    cells, genes = places // network.n_genes, places % network.n_genes
    alone = [run(best, tokens[cell : cell + 1], genes[cells == cell]) for cell in cells.unique()]
    yield "alone", torch.cat(alone)


@contextmanager
def lesion(network: nn.Module) -> Iterator[None]:
    """Replace the output of the trunk by its mean over positions for a while."""
    handle = network.layers[-1].register_forward_hook(
        lambda module, inputs, output: (output[0].mean(1, keepdim=True).expand_as(output[0]), output[1])
    )
    try:
        yield
    finally:
        handle.remove()


def _baselines(network: nn.Module, bag: TrainingBag) -> Iterator[tuple[str, np.ndarray]]:
    """Score how likely expression is at the places, told by what is visible in the bag."""
    n_genes, n_levels = network.n_genes, network.config.num_bins
    cells, genes = bag.places // n_genes, bag.places % n_genes
    visible, expressed = bag.tokens < n_levels, (bag.tokens > 0) & (bag.tokens < n_levels)
    prior = np.full(n_genes, 0.5)
    if network.config.context:
        prior = 1 - network.profile.log_prior[:, 0].exp().cpu().numpy()
        yield "gene_constant", prior[genes]
    # Asked entries are hidden, so that no cell counts itself; the prior, with the weight of one cell, breaks ties.
    yield "bag_mean", (expressed.sum(0)[genes] + prior[genes]) / (visible.sum(0)[genes] + 1)
    seen = (bag.tokens * visible).astype(np.float32)
    seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12)
    similarity = seen @ seen.T
    np.fill_diagonal(similarity, -1)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(N_NEIGHBORS, len(seen) - 1)]
    n_expressed = expressed[nearest[cells], genes[:, None]].sum(1)
    yield "knn", (n_expressed + prior[genes]) / (visible[nearest[cells], genes[:, None]].sum(1) + 1)


def _cell_variance(network: nn.Module, bag: TrainingBag, device: torch.device) -> Iterator[tuple[str, float]]:
    tokens = torch.from_numpy(bag.tokens).to(device).reshape(1, -1)
    found = network(tokens, outputs={"residuals", "transformer_out"})
    stages = {"stem": found["residuals"][0][0].T, "trunk": found["transformer_out"][0]}
    for name, values in stages.items():
        by_cell = values.float().unflatten(0, (len(bag.tokens), -1))  # (cells, positions, channels)
        between = by_cell.var(0).mean()
        yield name, float(between / by_cell.flatten(0, 1).var(0).mean().clamp_min(1e-12))
