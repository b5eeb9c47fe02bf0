"""Training data: counts of several files for one vocabulary, and bags drawn from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bags import CellsToPlan, bag_points
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.sparse_tools import with_data
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig

logger = logging.getLogger(__name__)

MIN_PANEL, MAX_PANEL = 300, 5000
MASKED_GENES = 0.25
MIN_DEPTH = 0.2
UNMEASURED_TARGETS = 0.1
"""Fraction of the entries outside a drawn panel that are predicted."""


@dataclass(frozen=True)
class Dataset:
    """Cells of one file or object: counts for the genes of the vocabulary, and coordinates."""

    name: str
    log_counts: sparse.csr_matrix
    """(n_cells, n_genes): log1p of counts, or the other values that the network bins."""
    measured: np.ndarray
    """(n_genes,) bool."""
    samples: np.ndarray
    """(n_cells,) number of the sample of each cell."""
    points: np.ndarray
    """(n_cells, dimensions): coordinates, else principal components of expression; bags gather neighbours in it."""
    held_out: np.ndarray
    """(n_cells,) bool: cells never trained on."""
    hidden: sparse.csr_matrix | None = None
    """(n_cells, n_genes) bool: entries that are neither visible nor predicted; `log_counts` lacks them."""

    def at_genes(self, gene_index: np.ndarray) -> Dataset:
        """Keep only some genes of the vocabulary."""
        hidden = None if self.hidden is None else self.hidden[:, gene_index]
        return replace(
            self, log_counts=self.log_counts[:, gene_index], measured=self.measured[gene_index], hidden=hidden
        )


def as_dataset(block: CellBlock, name: str, held_out: np.ndarray, seed: int) -> Dataset:
    """Return the training data of a block; without coordinates, points are computed from expression."""
    points = bag_points("auto", CellsToPlan(block.coordinates, lambda: block.log_values, seed))
    logger.info("%s: %d cells, %d genes", name, block.n_cells, block.measured.sum())
    return Dataset(name, block.token_values, block.measured, block.samples, points, held_out, block.hidden)


@dataclass(frozen=True)
class TrainingBag:
    """Tokens of one bag, and the true bins of its targets."""

    tokens: np.ndarray
    """(cells, genes) uint8."""
    token_index: np.ndarray
    """Token index of the targets."""
    bins: np.ndarray
    """True bin of each target."""
    points: np.ndarray
    """(cells, dimensions): the `points` of these cells."""


def draw_bag(
    datasets: Sequence[Dataset],
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
    size: int,
) -> TrainingBag:
    """Draw a data set (with the square root of its size as weight) and a training bag of it."""
    dataset, usable = _draw_dataset(datasets, rng, held_out=False)
    rows = _draw_cells(dataset, usable, size, rng, near=rng.random() < config.near_fraction)
    return mask_for_training(dataset, rows, rules, config, rng)


def draw_validation_bag(
    datasets: Sequence[Dataset], rules: TokenRules, config: FinetuneConfig, rng: np.random.Generator, size: int
) -> TrainingBag:
    """Draw a held-out cell and its nearest neighbours, trained on or not; only held-out cells are targets."""
    dataset, usable = _draw_dataset(datasets, rng, held_out=True)
    first = rng.choice(usable)
    rows = _nearest(dataset, first, np.flatnonzero(dataset.samples == dataset.samples[first]), size)
    masked = draw_masked(dataset.measured, len(rows), config.mask_fraction, rng)
    return mask_for_validation(dataset, rows, masked, rules, config, rng)


def mask_for_training(
    dataset: Dataset,
    rows: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Draw a depth, a panel and the masked entries of a bag, and make its tokens."""
    counts = dataset.log_counts[rows]
    if rng.random() < config.thin_fraction:
        counts = _thin(counts, rng.uniform(MIN_DEPTH, 1), rng)
    panel = dataset.measured
    if rng.random() < config.panel_fraction:
        panel = _draw_panel(panel, rng)
    masked = draw_masked(dataset.measured, len(rows), rng.uniform(*config.mask_range), rng)
    if rng.random() < config.masked_gene_fraction:
        masked |= (rng.random(len(panel)) < MASKED_GENES) & dataset.measured
    # Genes outside the panel are unmeasured: masked in every cell.
    targets = masked | (dataset.measured & ~panel & (rng.random(masked.shape) < UNMEASURED_TARGETS))
    return _make_bag(replace(dataset, measured=panel), rows, counts, masked, targets, rules, config, rng)


def mask_for_validation(
    dataset: Dataset,
    rows: np.ndarray,
    masked: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Mask ``masked`` (len(rows), n_genes) in a bag; its entries in held-out cells are the targets."""
    targets = masked & dataset.held_out[rows][:, None]
    return _make_bag(dataset, rows, dataset.log_counts[rows], masked, targets, rules, config, rng)


def draw_masked(measured: np.ndarray, n_cells: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw measured entries to mask, (n_cells, n_genes) bool."""
    return (rng.random((n_cells, len(measured)), dtype=np.float32) < fraction) & measured


def _make_bag(
    dataset: Dataset,
    rows: np.ndarray,
    counts: sparse.csr_matrix,
    masked: np.ndarray,
    targets: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Make the tokens of ``counts`` with ``masked`` entries, and the true bins of ``targets``, both (cells, genes)."""
    always = np.zeros_like(masked) if dataset.hidden is None else dataset.hidden[rows].toarray()
    everything = np.ones_like(dataset.measured)
    truth = make_tokens(counts, counts, always, everything, rules).tokens
    tokens = make_tokens(counts, counts, masked | always | ~dataset.measured, dataset.measured, rules).tokens
    token_index = np.flatnonzero((targets & ~always).ravel())
    if len(token_index) > config.max_masked_tokens:
        token_index = np.sort(rng.choice(token_index, config.max_masked_tokens, replace=False))
    return TrainingBag(tokens, token_index, truth.ravel()[token_index], dataset.points[rows])


def _draw_dataset(
    datasets: Sequence[Dataset], rng: np.random.Generator, *, held_out: bool
) -> tuple[Dataset, np.ndarray]:
    usable = [np.flatnonzero(dataset.held_out == held_out) for dataset in datasets]
    weights = np.sqrt([len(rows) for rows in usable])
    number = rng.choice(len(datasets), p=weights / weights.sum())
    return datasets[number], usable[number]


def _draw_cells(dataset: Dataset, usable: np.ndarray, size: int, rng: np.random.Generator, *, near: bool) -> np.ndarray:
    first = rng.choice(usable)
    rows = usable[dataset.samples[usable] == dataset.samples[first]]
    if not near or len(rows) <= size:
        return rng.permutation(rows)[:size]
    return _nearest(dataset, first, rows, size)


def _nearest(dataset: Dataset, first: int, rows: np.ndarray, size: int) -> np.ndarray:
    if len(rows) <= size:
        return rows
    distance = ((dataset.points[rows] - dataset.points[first]) ** 2).sum(1)
    return rows[np.argpartition(distance, size)[:size]]


def _thin(log_counts: sparse.csr_matrix, depth: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each count with probability ``depth``."""
    counts = np.rint(np.expm1(log_counts.data)).astype(np.int64)
    thinned = with_data(log_counts, np.log1p(rng.binomial(counts, depth)).astype(np.float32)).copy()
    thinned.eliminate_zeros()
    return thinned


def _draw_panel(measured: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gene_index = np.flatnonzero(measured)
    size = int(np.exp(rng.uniform(np.log(MIN_PANEL), np.log(MAX_PANEL))))
    panel = np.zeros_like(measured)
    panel[rng.choice(gene_index, min(size, len(gene_index)), replace=False)] = True
    return panel
