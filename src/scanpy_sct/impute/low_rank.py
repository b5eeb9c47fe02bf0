"""Predict masked entries from the data alone, by a low-rank reconstruction.

Cells x genes of log-normalised values, each gene centred on the mean of its visible entries and masked entries at that
mean, are approximated by their leading singular vectors. The weight of each component is estimated on masked entries,
so that the number of components need not be chosen: components of noise get little weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_range_finder

from scanpy_sct.impute.calibrate import MAX_LOG_ODDS
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.run.threads import in_threads
from scanpy_sct.sparse_tools import COUNTS_PER_CELL, entry_rows, log_normalise, row_extremes, row_totals, with_data

N_COMPONENTS = 100
N_OVERSAMPLES = 10
"""Directions that are searched beyond the components, for accuracy."""
VARIANCE_FRACTION, MIN_VARIABLE_GENES = 0.95, 1000
"""Directions are searched in the most variable genes, with this fraction of the variance of all genes: time and memory
grow with it. With 0.8 the predictions of 511 cells became slightly worse than with all genes, with 0.95 better."""
CELLS_AT_ONCE = 64
CHECKED_CELLS, CHECKED_ENTRIES = 500, 100_000
ENTRIES_AT_ONCE = 5_000
SMALLEST = np.float32(1e-9)
"""Smallest expected count, of which the logarithm is taken."""


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

    def per_count(self, rows: slice) -> np.ndarray:
        """Return the expected count of a normalised value of 1 on the linear scale, (cells,)."""
        return self.total[rows] / (COUNTS_PER_CELL * self.unit[rows])


@dataclass(frozen=True)
class _Visible:
    """Visible values of a few cells in one pass."""

    rows: slice
    visible_bits: np.ndarray
    """Visible entries, eight a byte: they are used several times, and a byte for each would need much memory."""
    normalised: sparse.csr_matrix
    """(cells, genes) float32, log-normalised."""
    total: np.ndarray
    unit: np.ndarray

    @classmethod
    def all_of(cls, values: sparse.csr_matrix, masks: BlockMasks, number: int) -> list[_Visible]:
        """Return those of all cells, a few at a time, so that temporary arrays are small."""
        n_cells = values.shape[0]
        starts = range(0, n_cells, CELLS_AT_ONCE)
        return [cls.of(values, masks, number, slice(start, min(start + CELLS_AT_ONCE, n_cells))) for start in starts]

    @classmethod
    def of(cls, values: sparse.csr_matrix, masks: BlockMasks, number: int, rows: slice) -> _Visible:
        visible = masks.visible(values[rows], number, rows)
        linear = with_data(visible, np.expm1(visible.data))
        total = row_totals(linear)
        bits = np.packbits(~masks.masked(number, rows), axis=1)
        return cls(rows, bits, log_normalise(linear, total).astype(np.float32), total, smallest_values(linear))

    def is_visible(self, n_genes: int) -> np.ndarray:
        """Return 1 for each visible entry, else 0, (cells, genes) uint8."""
        return np.unpackbits(self.visible_bits, axis=1, count=n_genes)

    def centred(self, mean: np.ndarray) -> np.ndarray:
        """Return values less the gene's mean, masked entries 0, (cells, genes) float32."""
        # A product is several times as fast as `np.where`.
        result = self.is_visible(len(mean)) * -mean
        result[entry_rows(self.normalised), self.normalised.indices] += self.normalised.data
        return result


def fit_low_rank(values: sparse.csr_matrix, masks: BlockMasks, seed: int) -> tuple[list[LowRank], list[CellScores]]:
    """Fit the components of each pass, and their weights.

    Parameters
    ----------
    values
        (cells, genes) values on the log scale of the input.
    masks
        In which pass each of these entries is masked.
    seed
        Seed of the randomised decomposition, and of the entries on which weights are estimated.

    Returns
    -------
    Components of each pass, and the scores of the cells. The weights of a pass are estimated on other passes;
    components without weight are left out.
    """

    def fitted(number: int) -> tuple[LowRank, CellScores, tuple[np.ndarray, np.ndarray]]:
        fit, found = _fit_pass(values, masks, number, seed)
        return fit, found, _weight_evidence(fit, found, values, masks, number, seed)

    fits, scores, evidence = zip(*in_threads(fitted, range(masks.n_passes)), strict=True)
    learns_from = masks.learns_from
    if masks.hidden_pass is not None:
        # A blend is learnt from the probe for the pass of hidden entries: both must weight components alike.
        learns_from[-2] = learns_from[-1]
    weighted = []
    for fit, cells, teachers in zip(fits, scores, learns_from, strict=True):
        others = [evidence[number] for number in np.flatnonzero(teachers)]
        weights = component_weights(*(sum(parts) for parts in zip(*others, strict=True)))
        weighted.append(_with_weights(fit, cells, weights))
    fits, scores = zip(*weighted, strict=True)
    return list(fits), list(scores)


def _with_weights(fit: LowRank, cells: CellScores, weights: np.ndarray) -> tuple[LowRank, CellScores]:
    """Set the weights, which do not increase, and leave out the last components, whose weight is 0."""
    n = max(1, np.count_nonzero(weights))
    # Copies, since a part of an array would hold all of it.
    fit = replace(fit, weights=weights[:n], components=fit.components[:n].copy())
    return fit, replace(cells, scores=cells.scores[:, :n].copy())


def cell_scores(fit: LowRank, values: sparse.csr_matrix, masks: BlockMasks, number: int) -> CellScores:
    """Compute the scores of other cells on the components of pass ``number``; arguments as in :func:`fit_low_rank`."""
    return _scores(fit, _Visible.all_of(values, masks, number))


def reconstruct_masked(
    fits: Sequence[LowRank],
    scores: Sequence[CellScores],
    pass_of: np.ndarray,
    rows: slice,
    genes: np.ndarray | slice,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the entries of some cells and genes, each from the pass ``pass_of`` (cells, genes) that masks it.

    Returns
    -------
    Log-odds of detection, and expected value if the gene is detected on the log scale of the input, of Poisson counts;
    (cells, genes) float32 each, of no meaning for entries without a pass.
    """
    normalised = np.zeros(pass_of.shape, dtype=np.float32)
    for number, (fit, cells) in enumerate(zip(fits, scores, strict=True)):
        # A product picks the entries of this pass several times as fast as a mask does.
        found = _normalised(fit, cells, rows, genes)
        found *= pass_of == number
        normalised += found
    # Total and unit of each cell are those of its visible entries, which differ between passes.
    group = pass_of + len(fits) * np.arange(len(pass_of), dtype=np.int32)[:, None]
    of_cells = [cells.per_count(rows) for cells in scores], [cells.unit[rows] for cells in scores]
    per_count, unit = (np.stack(each, axis=1, dtype=np.float32).ravel().take(group, mode="clip") for each in of_cells)
    return _as_counts(normalised, per_count, unit)


def _normalised(fit: LowRank, cells: CellScores, rows: slice, genes: np.ndarray | slice) -> np.ndarray:
    """Reconstruct log-normalised values, (cells, genes) float32."""
    result = (cells.scores[rows] * fit.weights) @ fit.components[:, genes]
    result += fit.mean[genes]
    return result


def _as_counts(normalised: np.ndarray, per_count: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert log-normalised values, which are overwritten, to log-odds and conditional mean of Poisson counts."""
    expected = np.expm1(np.maximum(normalised, 0, out=normalised), out=normalised)
    expected *= per_count
    detection = _detection(expected)
    # log(exp(expected) - 1), without an overflow.
    log_odds = np.log(detection)
    log_odds += expected
    np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS, out=log_odds)
    return log_odds, _mean_of_detected(expected, detection, unit)


def mean_of_detected(expected: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return the conditional mean of Poisson counts, on the log scale of the input, from the ``expected`` ones.

    These are overwritten; ``unit`` is the value of a single count.
    """
    return _mean_of_detected(expected, _detection(expected), unit)


def _detection(expected: np.ndarray) -> np.ndarray:
    """Return the probability of a Poisson count above 0; expected counts below `SMALLEST` are raised to it."""
    detection = np.negative(np.maximum(expected, SMALLEST, out=expected))
    return np.negative(np.expm1(detection, out=detection), out=detection)


def _mean_of_detected(expected: np.ndarray, detection: np.ndarray, unit: np.ndarray) -> np.ndarray:
    expected *= unit
    expected /= detection
    return np.log1p(expected, out=expected)


def _fit_pass(values: sparse.csr_matrix, masks: BlockMasks, number: int, seed: int) -> tuple[LowRank, CellScores]:
    n_cells, n_genes = values.shape
    visible = _Visible.all_of(values, masks, number)
    n_visible, sums, squares = np.zeros((3, n_genes))
    for part in visible:
        n_visible += part.is_visible(n_genes).sum(axis=0)
        data = part.normalised.data.astype(np.float64)
        sums += np.bincount(part.normalised.indices, data, minlength=len(sums))
        squares += np.bincount(part.normalised.indices, data**2, minlength=len(sums))
    mean = sums / np.maximum(n_visible, 1)
    genes = _most_variable(np.maximum(squares - n_visible * mean**2, 0))
    mean = mean.astype(np.float32)
    components = _components(visible, mean, genes, seed)
    visible_fraction = max(1 - (n_cells - n_visible).sum() / max(n_cells * masks.n_measured, 1), 1e-6)
    fit = LowRank(components, mean, visible_fraction, np.ones(len(components), dtype=np.float32))
    return fit, _scores(fit, visible)


def _most_variable(variance: np.ndarray) -> np.ndarray:
    """Return the fewest genes that have most of the variance, increasing."""
    order = np.argsort(-variance, kind="stable")
    cumulative = np.cumsum(variance[order])
    n = np.searchsorted(cumulative, VARIANCE_FRACTION * cumulative[-1]) + 1
    return np.sort(order[: max(n, MIN_VARIABLE_GENES)])


def _components(visible: list[_Visible], mean: np.ndarray, genes: np.ndarray, seed: int) -> np.ndarray:
    """Compute the leading right singular vectors of the centred values, (components, genes) float32.

    A randomised decomposition (Halko, Martinsson and Tropp, 2011), whose range of cells is found in ``genes``.
    """
    n_cells, n_genes = visible[-1].rows.stop, len(mean)
    n_components = max(1, min(N_COMPONENTS, n_cells - 1, n_genes - 1))
    some = np.empty((n_cells, len(genes)), dtype=np.float32)
    for part in visible:
        some[part.rows] = part.centred(mean)[:, genes]
    cells = randomized_range_finder(some, size=n_components + N_OVERSAMPLES, n_iter=4, random_state=seed)
    del some
    projected = np.zeros((cells.shape[1], n_genes), dtype=np.float32)
    for part in visible:
        projected += cells[part.rows].T @ part.centred(mean)
    squares, directions = np.linalg.eigh((projected @ projected.T).astype(np.float64))
    largest = np.argsort(-squares, kind="stable")[:n_components]
    scale = np.sqrt(np.maximum(squares[largest], 1e-12 * max(squares.max(), 1e-12)))
    return ((directions[:, largest] / scale).astype(np.float32).T) @ projected


def _scores(fit: LowRank, visible: list[_Visible]) -> CellScores:
    by_gene = fit.components.T / np.float32(fit.visible_fraction)
    scores = np.concatenate([part.centred(fit.mean) @ by_gene for part in visible])
    return CellScores(
        scores, *(np.concatenate([getattr(part, name) for part in visible]) for name in ("total", "unit"))
    )


def _weight_evidence(
    fit: LowRank, cells: CellScores, values: sparse.csr_matrix, masks: BlockMasks, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the normal equations of the regression of masked values on components, on a sample of entries."""
    rng = np.random.default_rng([seed, 2])
    n_cells = values.shape[0]
    rows = np.sort(rng.choice(n_cells, min(n_cells, CHECKED_CELLS), replace=False))
    is_masked = masks.targets(number, rows)
    n_masked = np.count_nonzero(is_masked)
    drawn = slice(None) if n_masked <= CHECKED_ENTRIES else rng.choice(n_masked, CHECKED_ENTRIES, replace=False)
    cell, gene = np.divmod(np.flatnonzero(is_masked)[drawn], values.shape[1])
    factor = COUNTS_PER_CELL / np.maximum(cells.total[rows], 1e-12)
    found = np.asarray(values[rows[cell], gene]).ravel()
    measured = np.log1p(np.expm1(found) * factor[cell]) - fit.mean[gene]
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


def smallest_values(linear: sparse.csr_matrix) -> np.ndarray:
    """Return the smallest positive value of each cell; 1 for an empty one."""
    smallest = np.ones(linear.shape[0])
    filled, lowest, _ = row_extremes(linear)
    smallest[filled] = lowest
    return np.maximum(smallest, 1e-12)
