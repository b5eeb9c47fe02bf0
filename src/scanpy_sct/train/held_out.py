"""Held-out cells while a network is trained: how well it predicts them, beside simple baselines and with parts off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.plan.bags import similarity_points
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset, TrainingBag, ask_held_out, draw_hidden
from scanpy_sct.train.sources import Source
from scanpy_sct.train.stream import read_block

N_BAGS, MAX_TRIES = 8, 5
N_ASKED, N_CELLS = 16, 50
N_NEIGHBORS = 10


def held_out_bags(
    sources: Sequence[Source], held_out: Sequence[np.ndarray], rules: TokenRules, config: PretrainConfig
) -> list[TrainingBag]:
    """Draw the same few bags for the same seed: held-out cells, which are asked for, in company of cells like them."""
    bags: list[TrainingBag] = []
    for number in range(N_BAGS * MAX_TRIES):
        rng = np.random.default_rng([config.seed, 2, number])
        weights = np.sqrt([mask.sum() for mask in held_out])
        source = rng.choice(len(sources), p=weights / weights.sum())
        cell = rng.choice(np.flatnonzero(held_out[source]))
        start = cell - cell % config.block_size
        dataset = read_block(sources[source], held_out[source], start, start + config.block_size)
        bag = _bag_around(dataset, cell - start, rules, config, rng)
        # A cell alone, or nothing expressed, is no test.
        if len(bag.tokens) > 1 and 0 < (bag.truth > 0).mean() < 1:
            bags.append(bag)
        if len(bags) == N_BAGS:
            break
    return bags


def _bag_around(
    dataset: Dataset, cell: int, rules: TokenRules, config: PretrainConfig, rng: np.random.Generator
) -> TrainingBag:
    # Entries are hidden first, since which cells are similar must not be told from them.
    hidden = draw_hidden(dataset.measured, len(dataset.samples), config.mask_fraction, rng)
    if not dataset.points.any():
        entries = dataset.log_counts.tocoo()
        seen = ~hidden[entries.row, entries.col]
        places = (entries.row[seen], entries.col[seen])
        visible = sparse.csr_matrix((entries.data[seen], places), shape=entries.shape)
        dataset = replace(dataset, points=similarity_points(visible, config.seed))
    rows = _company(dataset, cell)
    return ask_held_out(dataset, rows, hidden[rows], rules, config, rng)


def _company(dataset: Dataset, first: int) -> np.ndarray:
    """Rows of up to 16 held-out cells, and of other cells up to 50, of one sample and near the first."""
    distance = ((dataset.points - dataset.points[first]) ** 2).sum(1)
    rows = np.flatnonzero(dataset.samples == dataset.samples[first])
    rows = rows[np.argsort(distance[rows], kind="stable")]
    asked = rows[dataset.held_out[rows]][:N_ASKED]
    return np.concatenate([asked, rows[~dataset.held_out[rows]][: N_CELLS - len(asked)]])


@torch.no_grad()
def validate(
    network: nn.Module, bags: Sequence[TrainingBag], device: torch.device, *, with_tower: bool = True
) -> dict[str, float]:
    """Loss, and average precision of "is it expressed", over held-out bags: means over bags.

    Parameters
    ----------
    network
        The network; it is left in evaluation mode.
    bags
        From :func:`held_out_bags`.
    device
        Where the network is.
    with_tower
        Judge the convolutional path and the trunk too; without them it takes a tenth of the time.

    Returns
    -------
    `loss_` and `auprc_` of these variants of the network, as far as it has the parts:

    * `full`: all of it; `direct`: without convolutions and trunk;
    * `lesion`: with the output of the trunk replaced by its mean over positions;
    * `cells_lesion`: without convolutions, the output of the transformer over cells replaced by its mean over cells;
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
        logits, shares = _answers(network, bag, device, with_tower=with_tower)
        for name, levels in logits.items():
            result.setdefault(f"loss_{name}", []).append(F.cross_entropy(levels, truth).item())
            score = 1 - levels.softmax(-1)[:, 0].cpu().numpy()
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(expressed, score))
        for name, score in _baselines(network, bag):
            result.setdefault(f"auprc_{name}", []).append(average_precision_score(expressed, score))
        for name, share in shares.items():
            result.setdefault(f"cell_variance_{name}", []).append(share)
    return {name: float(np.mean(values)) for name, values in result.items()}


def _answers(
    network: nn.Module, bag: TrainingBag, device: torch.device, *, with_tower: bool
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Logits (places, levels) of the network, whole and with parts taken away; shares of variance between cells."""
    tokens, places = torch.from_numpy(bag.tokens).to(device), torch.from_numpy(bag.places).to(device)

    def run(name: str, tokens: Tensor = tokens, places: Tensor = places) -> dict:
        return network(tokens.reshape(1, -1), outputs={name}, positions=places)

    has_direct = network.config.context
    best = "direct_logits" if has_direct else "logits"
    answers, shares = {}, {}
    if with_tower or not has_direct:
        found = run("logits")
        answers["full"] = found["logits"]
        shares = {
            "stem": _between_cells(found["residuals"][0][0].T, len(tokens)),
            "trunk": _between_cells(found["transformer_out"][0], len(tokens)),
        }
        with lesion(network.layers):
            answers["lesion"] = run("logits")["logits"]
    if has_direct:
        answers["direct"] = run("direct_logits")["direct_logits"]
    if network.config.cell_layers:
        with lesion(network.cell_path.layers):
            answers["cells_lesion"] = run("direct_logits")["direct_logits"]
    cells, genes = places // network.n_genes, places % network.n_genes
    alone = [run(best, tokens[cell : cell + 1], genes[cells == cell])[best] for cell in cells.unique()]
    answers["alone"] = torch.cat(alone)
    return {name: logits[:, : network.config.num_bins].float() for name, logits in answers.items()}, shares


def _between_cells(values: Tensor, n_cells: int) -> float:
    """Share of the variance of activations (cells x positions, channels) that is between cells."""
    by_cell = values.float().unflatten(0, (n_cells, -1))
    return float(by_cell.var(0).mean() / by_cell.flatten(0, 1).var(0).mean().clamp_min(1e-12))


@contextmanager
def lesion(layers: nn.ModuleList) -> Iterator[None]:
    """Replace the output of transformer layers by its mean over positions for a while."""
    handle = layers[-1].register_forward_hook(
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
