"""What the data at hand say about their hidden entries by themselves: a low-rank reconstruction.

Cells x genes of log-normalised values, each gene centred on the mean of its visible entries, hidden entries at that
mean, are approximated by their leading singular vectors. How much of each component holds for entries that were hidden
is learnt from such entries, so that the number of components need not be chosen: noise is weighted down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_svd

from scanpy_sct.plan.bins import entry_rows
from scanpy_sct.run.inputs import HiddenOf

N_COMPONENTS = 100
MAX_CELLS = 8000
"""Components are found from at most so many cells, drawn at random (640 MB for 20,000 genes)."""
CELLS_AT_ONCE = 1000
TOTAL = 1e4
CHECKED_CELLS = 500
CHECKED_ENTRIES = 200_000


@dataclass(frozen=True)
class LowRank:
    """Low-rank reconstruction of all entries from those that are visible in one pass."""

    scores: np.ndarray
    """(cells, components) float32."""
    components: np.ndarray
    """(components, genes) float32."""
    mean: np.ndarray
    """(genes,) float32: mean of the visible log-normalised values."""
    total: np.ndarray
    """(cells,) visible total, in linear units of the input."""
    unit: np.ndarray
    """(cells,) what one count is worth in these units: the cell's smallest visible value."""

    def normalised(self, columns: np.ndarray | slice, trust: np.ndarray) -> np.ndarray:
        """Reconstruct `log1p` of the values per 10,000, (cells, columns) float32."""
        return (self.scores * trust) @ self.components[:, columns] + self.mean[columns]

    def entries(
        self, rows: np.ndarray, columns: np.ndarray, genes: np.ndarray | slice, trust: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict entries as Poisson counts.

        Parameters
        ----------
        rows, columns
            Entries; columns are counted within ``genes``.
        genes
            Genes to reconstruct.
        trust
            (components,) from :func:`fit_trust`.

        Returns
        -------
        Probability of being expressed, and expected value if so on the log scale of the input; (entries,) float32.
        """
        value = np.maximum(self.normalised(genes, trust)[rows, columns], 0)
        unit = self.unit[rows]
        expected = np.expm1(value) * (self.total[rows] / (TOTAL * unit))
        expected = np.maximum(expected, 1e-9).astype(np.float32)
        detection = -np.expm1(-expected)
        return detection, np.log1p(unit * expected / detection).astype(np.float32)


def fit_low_rank(visible: sparse.csr_matrix, is_hidden: HiddenOf, seed: int) -> LowRank:
    """Find the components of what is visible.

    Parameters
    ----------
    visible
        (cells, genes) visible values on the log scale of the input.
    is_hidden
        Given row numbers, which of their entries are hidden: (rows, genes) bool.
    seed
        Seed of the draw of cells and of the randomised decomposition.
    """
    n_cells, n_genes = visible.shape
    linear = visible.astype(np.float32, copy=True)
    linear.data = np.expm1(linear.data)
    total = np.asarray(linear.sum(axis=1, dtype=np.float64)).ravel()
    values = linear.copy()
    values.data = np.log1p(values.data * (TOTAL / np.maximum(total, 1e-12))[entry_rows(values)]).astype(np.float32)

    n_hidden = np.zeros(n_genes)
    for rows in _chunks(n_cells):
        n_hidden += is_hidden(rows).sum(axis=0)
    sums = np.asarray(values.sum(axis=0, dtype=np.float64)).ravel()
    mean = (sums / np.maximum(n_cells - n_hidden, 1)).astype(np.float32)

    def centred(rows: np.ndarray) -> np.ndarray:
        block = values[rows].toarray() - mean
        block[is_hidden(rows)] = 0
        return block

    rows = np.arange(n_cells)
    if n_cells > MAX_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(n_cells, MAX_CELLS, replace=False))
    n_components = max(1, min(N_COMPONENTS, len(rows) - 1, n_genes - 1))
    block = np.concatenate([centred(part) for part in np.array_split(rows, max(1, len(rows) // CELLS_AT_ONCE))])
    _, _, components = randomized_svd(block, n_components, n_iter=4, random_state=seed)
    components = components.astype(np.float32)
    if n_cells > MAX_CELLS:
        scores = np.concatenate([centred(part) @ components.T for part in _chunks(n_cells)])
    else:
        scores = block @ components.T
    # Hidden entries add nothing to a score: it is made up for by the share that is visible.
    scores /= max(1 - n_hidden.sum() / max(n_cells * n_genes, 1), 1e-6)
    return LowRank(scores, components, mean, total, _units(linear))


def trust_evidence(
    fitted: LowRank, truth: sparse.csr_matrix, is_asked: HiddenOf, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Set up the regression of hidden values on components (normal equations), from a sample of entries.

    Parameters
    ----------
    fitted
        Reconstruction from a pass.
    truth
        (cells, genes) values on the log scale of the input, hidden ones included.
    is_asked
        Given row numbers, which of their entries were hidden in that pass and may be used: (rows, genes) bool.
    seed
        Seed of the sample.

    Returns
    -------
    (components, components) and (components,).
    """
    rng = np.random.default_rng([seed, 2])
    n_cells = truth.shape[0]
    rows = np.sort(rng.choice(n_cells, min(n_cells, CHECKED_CELLS), replace=False))
    cell, gene = np.nonzero(is_asked(rows))
    if len(cell) > CHECKED_ENTRIES:
        drawn = rng.choice(len(cell), CHECKED_ENTRIES, replace=False)
        cell, gene = cell[drawn], gene[drawn]
    per_total = TOTAL / np.maximum(fitted.total[rows], 1e-12)
    measured = np.log1p(np.expm1(truth[rows].toarray()[cell, gene]) * per_total[cell]) - fitted.mean[gene]
    parts = fitted.scores[rows][cell] * fitted.components[:, gene].T
    return parts.T @ parts, parts.T @ measured


def fit_trust(squares: np.ndarray, products: np.ndarray) -> np.ndarray:
    """How far to follow each component, between 0 and 1 and falling from the first to the last; (components,)."""
    n = len(products)
    ridge = 1e-3 * max(np.trace(squares) / n, 1e-9)
    found = np.linalg.solve(squares + ridge * np.eye(n), products)
    # Later components explain less of the visible values; that they should hold for hidden ones better is chance.
    weights = np.maximum(np.diag(squares), 1e-12)
    falling = IsotonicRegression(y_min=0, y_max=1, increasing=False)
    return falling.fit(np.arange(n), found, sample_weight=weights).predict(np.arange(n)).astype(np.float32)


def _chunks(n_cells: int) -> list[np.ndarray]:
    return np.array_split(np.arange(n_cells), max(1, -(-n_cells // CELLS_AT_ONCE)))


def _units(linear: sparse.csr_matrix) -> np.ndarray:
    """Smallest positive value of each cell; 1 for an empty one."""
    filled = np.flatnonzero(np.diff(linear.indptr))
    unit = np.ones(linear.shape[0])
    if len(filled):
        unit[filled] = np.minimum.reduceat(linear.data, linear.indptr[filled])
    return np.maximum(unit, 1e-12)
