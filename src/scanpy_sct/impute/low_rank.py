"""Predict masked entries from the data alone, by a low-rank reconstruction.

Cells x genes of log-normalised values, each gene centred on the mean of its visible entries and masked entries at that
mean, are approximated by their leading singular vectors. The weight of each component is estimated on masked entries,
so that the number of components need not be chosen: components of noise get little weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_svd

from scanpy_sct.impute.calibrate import MAX_LOG_ODDS
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.sparse_tools import COUNTS_PER_CELL, log_normalise, row_extremes, row_totals, with_data, without_masked

N_COMPONENTS = 100
CELLS_AT_ONCE = 128
CHECKED_CELLS = 500
CHECKED_ENTRIES = 200_000
ENTRIES_AT_ONCE = 20_000
SMALLEST, LARGEST = 1e-9, 30.0
"""Range of expected counts; outside it the probability of detection is 0 or 1 to float32."""


@dataclass(frozen=True)
class LowRank:
    """Components of one pass, and their weights in the reconstruction of masked entries."""

    components: np.ndarray
    """(components, genes) float32."""
    mean: np.ndarray
    """(genes,) float32: mean of the visible log-normalised values."""
    visible_fraction: float
    """Fraction of the entries that is visible, by which scores are divided."""
    weights: np.ndarray
    """(components,) float32 between 0 and 1."""


@dataclass(frozen=True)
class CellScores:
    """Scores of cells on the components of one pass."""

    scores: np.ndarray
    """(cells, components) float32, before weights."""
    total: np.ndarray
    """(cells,) visible total, in linear units of the input."""
    unit: np.ndarray
    """(cells,) value of a single count in these units: the cell's smallest visible value."""


@dataclass(frozen=True)
class _Visible:
    """Visible values of some cells in one pass."""

    centred: np.ndarray
    """(cells, genes) float32: visible log-normalised values less the gene's mean, masked entries 0."""
    total: np.ndarray
    unit: np.ndarray


def fit_low_rank(values: sparse.csr_matrix, masks: BlockMasks, seed: int) -> tuple[list[LowRank], list[CellScores]]:
    """Fit the components of each pass, and their weights.

    Parameters
    ----------
    values
        (cells, genes) values on the log scale of the input, of measured genes.
    masks
        In which pass each of these entries is masked.
    seed
        Seed of the randomised decomposition, and of the entries on which weights are estimated.

    Returns
    -------
    Components of each pass, and the scores of the cells. The weights of a pass are estimated on other passes.
    """
    fits, scores, evidence = [], [], []
    for number in range(masks.n_passes):
        fit, found = _fit_pass(values, masks, number, seed)
        fits.append(fit)
        scores.append(found)
        evidence.append(_weight_evidence(fit, found, values, masks, number, seed))
    weighted = []
    learns_from = masks.learns_from
    if masks.hidden_pass is not None:
        # A blend is learnt from the probe for the pass of hidden entries: both must weight components alike.
        learns_from[-2] = learns_from[-1]
    for fit, teachers in zip(fits, learns_from, strict=True):
        others = [evidence[number] for number in np.flatnonzero(teachers)]
        weights = component_weights(*(sum(parts) for parts in zip(*others, strict=True)))
        weighted.append(LowRank(fit.components, fit.mean, fit.visible_fraction, weights))
    return weighted, scores


def cell_scores(fit: LowRank, values: sparse.csr_matrix, masks: BlockMasks, number: int) -> CellScores:
    """Compute the scores of other cells on the components of pass ``number``; arguments as in :func:`fit_low_rank`."""
    n_cells = values.shape[0]
    result = CellScores(
        np.empty((n_cells, len(fit.components)), dtype=np.float32), np.empty(n_cells), np.empty(n_cells)
    )
    for rows in _chunks(n_cells):
        visible = _visible(values[rows], masks.masked(number, rows), fit.mean)
        result.scores[rows] = visible.centred @ fit.components.T / fit.visible_fraction
        result.total[rows], result.unit[rows] = visible.total, visible.unit
    return result


def reconstruct(
    fit: LowRank, cells: CellScores, rows: np.ndarray | slice, genes: np.ndarray | slice
) -> tuple[np.ndarray, np.ndarray]:
    """Predict all entries of some cells and genes as Poisson counts.

    Returns
    -------
    Log-odds of detection, and expected value if the gene is detected on the log scale of the input; (cells, genes)
    float32 each.
    """
    normalised = (cells.scores[rows] * fit.weights) @ fit.components[:, genes] + fit.mean[genes]
    unit = cells.unit[rows][:, None]
    per_count = (cells.total[rows][:, None] / (COUNTS_PER_CELL * unit)).astype(np.float32)
    expected = np.expm1(np.maximum(normalised, 0, out=normalised), out=normalised)
    expected *= per_count
    np.maximum(expected, np.float32(SMALLEST), out=expected)
    log_odds = np.log(np.expm1(np.minimum(expected, np.float32(LARGEST))))
    np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS, out=log_odds)
    detection = -np.expm1(-expected)
    expected *= unit.astype(np.float32)
    expected /= detection
    return log_odds, np.log1p(expected, out=expected)


def reconstruct_masked(
    fits: Sequence[LowRank], scores: Sequence[CellScores], pass_of: np.ndarray, rows: slice, genes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the entries of some cells and genes, each from the pass ``pass_of`` (cells, genes) that masks it.

    Returns
    -------
    As :func:`reconstruct`; 0 for entries without a pass.
    """
    log_odds, mean = np.zeros((2, *pass_of.shape), dtype=np.float32)
    for number, (fit, cells) in enumerate(zip(fits, scores, strict=True)):
        is_masked = pass_of == number
        for table, found in zip((log_odds, mean), reconstruct(fit, cells, rows, genes), strict=True):
            np.copyto(table, found, where=is_masked)
    return log_odds, mean


def _fit_pass(values: sparse.csr_matrix, masks: BlockMasks, number: int, seed: int) -> tuple[LowRank, CellScores]:
    n_cells, n_genes = values.shape
    sums, n_masked = np.zeros((2, n_genes))
    for rows in _chunks(n_cells):
        masked = masks.masked(number, rows)
        n_masked += masked.sum(axis=0)
        sums += np.asarray(_log_normalised(values[rows], masked)[0].sum(axis=0, dtype=np.float64)).ravel()
    mean = (sums / np.maximum(n_cells - n_masked, 1)).astype(np.float32)
    centred = np.empty((n_cells, n_genes), dtype=np.float32)
    total, unit = np.empty((2, n_cells))
    for rows in _chunks(n_cells):
        visible = _visible(values[rows], masks.masked(number, rows), mean)
        centred[rows], total[rows], unit[rows] = visible.centred, visible.total, visible.unit
    n_components = max(1, min(N_COMPONENTS, n_cells - 1, n_genes - 1))
    _, _, components = randomized_svd(centred, n_components, n_iter=4, random_state=seed)
    components = components.astype(np.float32)
    visible_fraction = max(1 - n_masked.sum() / max(n_cells * n_genes, 1), 1e-6)
    scores = centred @ components.T
    scores /= visible_fraction
    fit = LowRank(components, mean, visible_fraction, np.ones(len(components), dtype=np.float32))
    return fit, CellScores(scores, total, unit)


def _log_normalised(
    values: sparse.csr_matrix, masked: np.ndarray
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Return visible log-normalised values, visible linear values, and their totals."""
    linear = without_masked(values, masked)
    linear = with_data(linear, np.expm1(linear.data.astype(np.float32)))
    total = row_totals(linear)
    return log_normalise(linear, total).astype(np.float32), linear, total


def _visible(values: sparse.csr_matrix, masked: np.ndarray, mean: np.ndarray) -> _Visible:
    normalised, linear, total = _log_normalised(values, masked)
    centred = normalised.toarray() - mean
    centred[masked] = 0
    return _Visible(centred, total, _smallest_values(linear))


def _weight_evidence(
    fit: LowRank, cells: CellScores, values: sparse.csr_matrix, masks: BlockMasks, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the normal equations of the regression of masked values on components, on a sample of entries."""
    rng = np.random.default_rng([seed, 2])
    n_cells = values.shape[0]
    rows = np.sort(rng.choice(n_cells, min(n_cells, CHECKED_CELLS), replace=False))
    cell, gene = np.nonzero(masks.targets(number, rows))
    if len(cell) > CHECKED_ENTRIES:
        drawn = rng.choice(len(cell), CHECKED_ENTRIES, replace=False)
        cell, gene = cell[drawn], gene[drawn]
    factor = COUNTS_PER_CELL / np.maximum(cells.total[rows], 1e-12)
    measured = np.log1p(np.expm1(values[rows].toarray()[cell, gene]) * factor[cell]) - fit.mean[gene]
    scores, by_gene = cells.scores[rows], np.ascontiguousarray(fit.components.T)
    squares, products = 0.0, 0.0
    for some in np.array_split(np.arange(len(cell)), max(1, -(-len(cell) // ENTRIES_AT_ONCE))):
        parts = scores[cell[some]] * by_gene[gene[some]]
        squares, products = squares + parts.T @ parts, products + parts.T @ measured[some]
    return squares, products


def component_weights(squares: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Compute the weights of the components from the normal equations ``squares`` and ``products``.

    They are between 0 and 1 and do not increase from one component to the next: later components explain less of the
    visible values, so that a larger weight would be due to noise.
    """
    n = len(products)
    ridge = 1e-3 * max(np.trace(squares) / n, 1e-9)
    found = np.linalg.solve(squares + ridge * np.eye(n), products)
    precision = np.maximum(np.diag(squares), 1e-12)
    regression = IsotonicRegression(y_min=0, y_max=1, increasing=False)
    return regression.fit_transform(np.arange(n), found, sample_weight=precision).astype(np.float32)


def _chunks(n_cells: int) -> list[np.ndarray]:
    return np.array_split(np.arange(n_cells), max(1, -(-n_cells // CELLS_AT_ONCE)))


def _smallest_values(linear: sparse.csr_matrix) -> np.ndarray:
    """Return the smallest positive value of each cell; 1 for an empty one."""
    smallest = np.ones(linear.shape[0])
    filled, lowest, _ = row_extremes(linear)
    smallest[filled] = lowest
    return np.maximum(smallest, 1e-12)
