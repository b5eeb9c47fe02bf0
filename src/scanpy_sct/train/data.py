"""Training data: counts of many files in one vocabulary, and bags drawn from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bags import similarity_points
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.read.expression import Expression
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig

logger = logging.getLogger(__name__)

MIN_PANEL, MAX_PANEL = 300, 5000
HIDDEN_GENES = 0.25
MIN_DEPTH = 0.2
MAX_GENE_EFFECT = 1.0
"""Largest spread, on the natural log scale, of what genes keep of their counts."""


@dataclass(frozen=True)
class Dataset:
    """One file: counts at the positions of the vocabulary, and where its cells are."""

    name: str
    log_counts: sparse.csr_matrix
    measured: np.ndarray
    samples: np.ndarray
    points: np.ndarray
    """Cells close to one another here make good bags: tissue coordinates, else expression."""
    held_out: np.ndarray
    """Cells never trained on, (n_cells,) bool."""
    hidden: sparse.csr_matrix | None = None
    """Entries that are neither seen nor asked for, (n_cells, positions) bool; `log_counts` lacks them."""

    def always_hidden(self, rows: np.ndarray) -> np.ndarray:
        """Return ``hidden`` for some cells, (len(rows), positions) bool."""
        if self.hidden is None:
            return np.zeros((len(rows), len(self.measured)), dtype=bool)
        return self.hidden[rows].toarray()


def as_dataset(
    expression: Expression, name: str, held_out: np.ndarray, seed: int, hidden: sparse.csr_matrix | None = None
) -> Dataset:
    """Keep of ``expression`` what training needs; cells without a place are placed by their expression."""
    points = expression.coordinates
    if points is None:
        points = similarity_points(expression.log_values, seed)
    logger.info("%s: %d cells, %d genes", name, len(held_out), expression.measured.sum())
    return Dataset(name, expression.token_values, expression.measured, expression.samples, points, held_out, hidden)


@dataclass(frozen=True)
class TrainingBag:
    """Tokens of one bag, the places that were hidden, and the truth there."""

    tokens: np.ndarray
    """(cells, positions) uint8."""
    places: np.ndarray
    """Hidden places of the flattened tokens."""
    truth: np.ndarray
    """Token that stood there."""
    points: np.ndarray
    """(cells, dimensions): the `points` of these cells."""


def draw_bag(
    datasets: Sequence[Dataset],
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
    size: int,
) -> TrainingBag:
    """Draw a data set (by the root of its size), cells, a depth, a panel and what is hidden, and make the tokens."""
    dataset, usable = _draw_dataset(datasets, rng, held_out=False)
    rows = _draw_cells(dataset, usable, size, rng, near=rng.random() < config.near_share)
    return hide_in_bag(dataset, rows, rules, config, rng)


def hide_in_bag(
    dataset: Dataset,
    rows: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Draw a depth, a panel and what is hidden in a bag for training, and make its tokens."""
    counts = dataset.log_counts[rows]
    if rng.random() < config.thin_share:
        counts = _thin(counts, rng.uniform(MIN_DEPTH, 1), rng)
    # No draw where the share is 0: what was trained before there was this option stays the same.
    if config.gene_effect_share and rng.random() < config.gene_effect_share:
        counts = _thin(counts, _gene_effects(counts.shape[1], rng)[counts.indices], rng)
    measured = dataset.measured
    if rng.random() < config.panel_share:
        measured = _draw_panel(measured, rng)
    hidden = draw_hidden(dataset.measured, len(rows), rng.uniform(*config.mask_range), rng)
    if rng.random() < config.hidden_gene_share:
        hidden |= (rng.random(len(measured)) < HIDDEN_GENES) & dataset.measured
    # Genes outside the panel are unmeasured: hidden in every cell.
    asked = hidden | (dataset.measured & ~measured & (rng.random(hidden.shape) < 0.1))
    return _hide(dataset, rows, counts, rules, hidden | ~measured, asked, measured, config.max_hidden_entries, rng)


def hide_for_test(
    dataset: Dataset,
    rows: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Hide entries of a bag and ask for those of its held-out cells; depth and panel stay."""
    hidden = draw_hidden(dataset.measured, len(rows), config.mask_fraction, rng)
    return ask_held_out(dataset, rows, hidden, rules, config, rng)


def ask_held_out(
    dataset: Dataset,
    rows: np.ndarray,
    hidden: np.ndarray,
    rules: TokenRules,
    config: PretrainConfig | FinetuneConfig,
    rng: np.random.Generator,
) -> TrainingBag:
    """Hide ``hidden`` (len(rows), positions) in a bag, and ask for the part of it that is in held-out cells."""
    asked = hidden & dataset.held_out[rows][:, None]
    counts = dataset.log_counts[rows]
    return _hide(dataset, rows, counts, rules, hidden, asked, dataset.measured, config.max_hidden_entries, rng)


def draw_company_bag(
    datasets: Sequence[Dataset], rules: TokenRules, config: FinetuneConfig, rng: np.random.Generator, size: int
) -> TrainingBag:
    """Draw a cell that was held out and its nearest neighbours, trained on or not; only held-out cells are asked for.

    So a held-out cell is judged in the company in which it will be used.
    """
    dataset, usable = _draw_dataset(datasets, rng, held_out=True)
    first = rng.choice(usable)
    rows = _nearest(dataset, first, np.flatnonzero(dataset.samples == dataset.samples[first]), size)
    return hide_for_test(dataset, rows, rules, config, rng)


def _draw_dataset(
    datasets: Sequence[Dataset], rng: np.random.Generator, *, held_out: bool
) -> tuple[Dataset, np.ndarray]:
    usable = [np.flatnonzero(dataset.held_out == held_out) for dataset in datasets]
    weights = np.sqrt([len(rows) for rows in usable])
    number = rng.choice(len(datasets), p=weights / weights.sum())
    return datasets[number], usable[number]


def _hide(
    dataset: Dataset,
    rows: np.ndarray,
    counts: sparse.csr_matrix,
    rules: TokenRules,
    hidden: np.ndarray,
    asked: np.ndarray,
    measured: np.ndarray,
    most: int,
    rng: np.random.Generator,
) -> TrainingBag:
    """Make tokens of ``counts`` without what is ``hidden``, and keep the truth of up to ``most`` entries ``asked``."""
    always = dataset.always_hidden(rows)
    truth = make_tokens(counts, counts, always, dataset.measured, rules).tokens
    tokens = make_tokens(counts, counts, hidden | always, measured, rules).tokens
    places = np.flatnonzero((asked & ~always).ravel())
    if len(places) > most:
        places = np.sort(rng.choice(places, most, replace=False))
    # Where unmeasured genes are coded as zero, one that is asked for would be seen as not expressed.
    tokens.ravel()[places] = rules.mask
    return TrainingBag(tokens, places, truth.ravel()[places], dataset.points[rows])


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


def _gene_effects(n_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Share of its counts that each gene keeps: half-normal on the log scale, of a spread drawn for the bag."""
    return np.exp(-rng.uniform(0, MAX_GENE_EFFECT) * np.abs(rng.standard_normal(n_genes)))


def _thin(log_counts: sparse.csr_matrix, depth: float | np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each count with the chance ``depth``: one for all, or one for each stored value."""
    thinned = log_counts.copy()
    counts = np.rint(np.expm1(thinned.data)).astype(np.int64)
    thinned.data = np.log1p(rng.binomial(counts, depth)).astype(np.float32)
    thinned.eliminate_zeros()
    return thinned


def _draw_panel(measured: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    positions = np.flatnonzero(measured)
    size = int(np.exp(rng.uniform(np.log(MIN_PANEL), np.log(MAX_PANEL))))
    panel = np.zeros_like(measured)
    panel[rng.choice(positions, min(size, len(positions)), replace=False)] = True
    return panel


def draw_hidden(measured: np.ndarray, n_cells: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw measured entries to hide, (n_cells, positions) bool."""
    return (rng.random((n_cells, len(measured)), dtype=np.float32) < fraction) & measured
