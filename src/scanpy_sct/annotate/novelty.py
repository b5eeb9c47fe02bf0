"""Probability that a cell is of a type that the reference lacks.

Two scores are combined, each averaged over the cell and its nearest neighbours in the query: `isolation` is large for
cells with near neighbours in the query but not in the reference, `Ensemble.energy` if no label has a large logit. The
first detects types far from all known ones, the second types between known ones and types shifted by the protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.annotate.features import fit_components, variable_genes
from scanpy_sct.plan.draw import draw_per_label

logger = logging.getLogger(__name__)

N_NEIGHBORS = 5
"""Few, so that a label with few cells does not look new."""
N_SMOOTHED = 10
MIN_CELLS = 50
"""With fewer cells in reference or query, novelty is not estimated."""
MAX_PER_LABEL = 500
MAX_QUERY = 20_000
"""Neighbours are searched among at most this many cells of the query, and components fitted to them."""
CELLS_AT_ONCE = 8192
WEIGHTS = (-5.5, 2.5, 1.6)
"""Constant, and weights of isolation and energy.

Rounded between two logistic regressions on labelled cells (blood, cardiac cells, cell lines and cortex) with one type
at a time removed from the reference, 10 % and 3 % of the cells being of the removed type.
"""
_TINY = 1e-9


def estimate_novelty(
    reference: sparse.csr_matrix,
    query: Callable[[np.ndarray], sparse.csr_matrix],
    labels: np.ndarray,
    energy: np.ndarray,
    empty: np.ndarray,
    seed: int,
) -> np.ndarray | None:
    """Estimate the probability that each cell is of a type that the reference lacks, (n_cells,); NaN for empty cells.

    Parameters
    ----------
    reference
        Log-normalised expression, (n_cells, n_shared_genes).
    query
        Function of increasing rows that returns the same of these cells. All cells are read in blocks; components and
        variable genes are those of the reference and at most 20,000 cells of the query.
    labels
        Of the reference, (n_cells,).
    energy
        Energy score of the query, (n_cells,).
    empty
        Cells of the query without counts, bool (n_cells,).
    seed
        Seed of the cells that are drawn.

    Returns
    -------
    None if reference or query has fewer than 50 cells.
    """
    full = np.flatnonzero(~empty)
    rows = draw_balanced(labels, len(full), seed)
    if min(len(full), len(rows)) < MIN_CELLS:
        logger.info("Novelty is not computed: it needs at least %d cells in adata and in the reference.", MIN_CELLS)
        return None
    drawn = full if len(full) <= MAX_QUERY else np.sort(np.random.default_rng(seed).permutation(full)[:MAX_QUERY])
    both = sparse.vstack([reference[rows], query(drawn)], format="csr")
    genes = variable_genes(both)
    fitted, components = fit_components(both[:, genes], seed)
    if len(drawn) == len(full):
        of_query = fitted[len(rows) :]
    else:
        of_query = np.empty((len(full), fitted.shape[1]), dtype=np.float32)
        for start in range(0, len(full), CELLS_AT_ONCE):
            part = slice(start, start + CELLS_AT_ONCE)
            of_query[part] = components.transform(query(full[part])[:, genes])
    result = np.full(len(empty), np.nan)
    result[full] = novelty(fitted[: len(rows)], of_query, energy[full], seed)
    return result


def draw_balanced(labels: np.ndarray, n_query: int, seed: int) -> np.ndarray:
    """Draw at most 500 cells per label of the reference, and return their rows, increasing.

    In total at most about twice as many cells as the query has, so that components fitted to both include directions in
    which only the query varies.
    """
    n_cells = int(np.clip(2 * n_query // len(np.unique(labels)), MIN_CELLS, MAX_PER_LABEL))
    return draw_per_label(labels, n_cells, seed)


class Neighborhoods:
    """Nearest neighbours of every query cell within the query, (n_cells, n_components)."""

    def __init__(self, query: np.ndarray, seed: int):
        rows = np.sort(np.random.default_rng(seed).permutation(len(query))[:MAX_QUERY])
        n_neighbors = min(N_SMOOTHED, len(rows) - 1)
        distance, found = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(query[rows]).kneighbors(query)
        # Cells that are searched find themselves; the others drop their farthest neighbour instead.
        itself = rows[found] == np.arange(len(query))[:, None]
        itself[~itself.any(axis=1), -1] = True
        shape = (len(query), n_neighbors)
        self.distance = distance[~itself].reshape(shape)[:, :N_NEIGHBORS].mean(axis=1)
        """(n_cells,) mean distance to the five nearest neighbours."""
        self.rows = np.column_stack([np.arange(len(query)), rows[found][~itself].reshape(shape)])
        """(n_cells, n_neighbors + 1): row of each cell and of its nearest neighbours."""

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over each cell and its ten nearest neighbours, (n_cells,)."""
        return values[self.rows].mean(axis=1)


def isolation(reference: np.ndarray, query: np.ndarray, neighborhoods: Neighborhoods) -> np.ndarray:
    """Return the log ratio of each query cell's mean distances to its nearest reference and nearest query cells.

    Noise and depth change both distances, a type that the reference lacks only the first. Both inputs are
    (n_cells, n_components) in the same space.
    """
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(reference))).fit(reference)
    return np.log(search.kneighbors(query)[0].mean(axis=1) + _TINY) - np.log(neighborhoods.distance + _TINY)


def isolation_spread(reference: np.ndarray, seed: int) -> float:
    """Estimate the standard deviation of the isolation of known cells, from two halves of the reference."""
    order = np.random.default_rng(seed).permutation(len(reference))
    known, others = np.array_split(reference[order], 2)
    neighborhoods = Neighborhoods(others, seed)
    values = neighborhoods.smooth(isolation(known, others, neighborhoods))
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.35)


def standardised(score: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Scale a score (n_cells,) so that the same weights hold for all data sets; 0 for known cells.

    At least a quarter of the cells are assumed to be of known types, so zero is the lower quartile. The unit is the
    distance from the 5 % quantile to the median, at least ``floor``.
    """
    low, quarter, median = np.quantile(score, [0.05, 0.25, 0.5])
    return np.log1p(np.maximum(score - quarter, 0) / max(median - low, floor, _TINY))


def novelty(reference: np.ndarray, query: np.ndarray, energy: np.ndarray, seed: int) -> np.ndarray:
    """Return the probability that a query cell is of a type that the reference lacks, (n_cells,).

    Reference and query are (n_cells, n_components) in a space fitted to both, ``energy`` is that of the query.
    """
    neighborhoods = Neighborhoods(query, seed)
    isolated = neighborhoods.smooth(isolation(reference, query, neighborhoods))
    scores = 1, standardised(isolated, isolation_spread(reference, seed)), standardised(neighborhoods.smooth(energy))
    return expit(sum(weight * score for weight, score in zip(WEIGHTS, scores, strict=True)))
