"""How probable it is that a cell is of a type that the reference lacks.

Two scores are combined, each averaged over the cell and its nearest neighbours in the query: the cell has near
neighbours in the query but not in the reference (`isolation`), and no label has a large logit (`Ensemble.energy`). The
first finds types that are new as a whole, the second those that lie between known types; it also separates a new type
from one that another protocol has shifted.
"""

from __future__ import annotations

import logging

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.annotate.features import principal_components, variable_genes
from scanpy_sct.plan.draw import draw_per_label

logger = logging.getLogger(__name__)

N_NEIGHBORS = 5
"""Few, so that a label with few cells is not mistaken for a new one."""
N_SMOOTHED = 10
MIN_CELLS = 50
"""With fewer cells on one side there are no neighbourhoods to compare."""
MAX_PER_LABEL = 500
MAX_QUERY = 20_000
"""Neighbours in a larger query are searched among this many of its cells."""
WEIGHTS = (-5.5, 2.5, 1.6)
"""Constant, and weights of isolation and energy.

Rounded between two logistic regressions on labelled cells (blood, cardiac cells, cell lines and cortex), in which each
type in turn was left out of the reference: in one, one cell in ten was of a new type, in the other three in a hundred.
"""
_TINY = 1e-9


def estimate_novelty(
    reference: sparse.csr_matrix,
    query: sparse.csr_matrix,
    labels: np.ndarray,
    energy: np.ndarray,
    empty: np.ndarray,
    seed: int,
) -> np.ndarray | None:
    """Estimate the probability that each cell is of a type that the reference lacks, (n_cells,); NaN for empty cells.

    Parameters
    ----------
    reference, query
        Log-normalised expression, (n_cells, n_shared_genes).
    labels
        Those of the reference, (n_cells,).
    energy
        Energy score of the cells of the query, (n_cells,).
    empty
        Cells of the query without counts, bool (n_cells,).
    seed
        Decides which cells are drawn.

    Returns
    -------
    None where one side has fewer than 50 cells.
    """
    full = np.flatnonzero(~empty)
    rows = draw_balanced(labels, len(full), seed)
    if min(len(full), len(rows)) < MIN_CELLS:
        logger.info("No novelty: it needs %d cells in adata and in the reference.", MIN_CELLS)
        return None
    both = sparse.vstack([reference[rows], query[full]], format="csr")
    both = both[:, variable_genes(both)]
    components, _ = principal_components(both, both[:1], seed)
    result = np.full(len(empty), np.nan)
    result[full] = novelty(components[: len(rows)], components[len(rows) :], energy[full], seed)
    return result


def draw_balanced(labels: np.ndarray, n_query: int, seed: int) -> np.ndarray:
    """Draw cells of the reference to compare a query with; returns their rows, increasing.

    Up to 500 cells of a label are drawn, fewer where they would outnumber the query two to one: the query must be large
    enough for components fitted to both to include directions in which it alone varies.
    """
    n_cells = int(np.clip(2 * n_query // len(np.unique(labels)), MIN_CELLS, MAX_PER_LABEL))
    return draw_per_label(labels, n_cells, seed)


class Neighborhoods:
    """Nearest neighbours of every query cell within the query.

    Parameters
    ----------
    query
        (n_cells, n_components).
    seed
        Decides which cells of a query of more than 20,000 are searched.
    """

    def __init__(self, query: np.ndarray, seed: int):
        rows = np.sort(np.random.default_rng(seed).permutation(len(query))[:MAX_QUERY])
        n_neighbors = min(N_SMOOTHED, len(rows) - 1)
        distance, found = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(query[rows]).kneighbors(query)
        # A cell that is searched finds itself; the other cells drop their farthest neighbour instead.
        itself = rows[found] == np.arange(len(query))[:, None]
        itself[~itself.any(axis=1), -1] = True
        shape = (len(query), n_neighbors)
        self.distance = distance[~itself].reshape(shape)[:, :N_NEIGHBORS].mean(axis=1)
        """(n_cells,) mean distance to the five nearest neighbours."""
        self._rows = np.column_stack([np.arange(len(query)), rows[found][~itself].reshape(shape)])

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over each cell and its ten nearest neighbours, (n_cells,)."""
        return values[self._rows].mean(axis=1)


def isolation(reference: np.ndarray, query: np.ndarray, neighborhoods: Neighborhoods) -> np.ndarray:
    """Return the log ratio of a query cell's distances to its nearest reference cells and to its nearest query cells.

    Noise and depth change both distances alike, a type that the reference lacks only the first.

    Parameters
    ----------
    reference, query
        (n_cells, n_components), in one space.
    neighborhoods
        Those of the query.

    Returns
    -------
    (n_cells of the query,), larger for newer cells.
    """
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(reference))).fit(reference)
    return np.log(search.kneighbors(query)[0].mean(axis=1) + _TINY) - np.log(neighborhoods.distance + _TINY)


def isolation_spread(reference: np.ndarray, seed: int) -> float:
    """Estimate the standard deviation of the isolation of known cells: that of half the reference from the rest."""
    order = np.random.default_rng(seed).permutation(len(reference))
    known, others = np.array_split(reference[order], 2)
    neighborhoods = Neighborhoods(others, seed)
    values = neighborhoods.smooth(isolation(known, others, neighborhoods))
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.35)


def standardised(score: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Bring a score to a scale on which the same weights hold for all data sets, (n_cells,); 0 for a usual cell.

    Zero is the lower quartile of the query: at least a quarter of its cells are assumed to be of known types. The unit
    is the distance from the 5 % quantile to the median.

    Parameters
    ----------
    score
        Larger for newer cells, (n_cells,).
    floor
        Smallest unit.
    """
    low, quarter, median = np.quantile(score, [0.05, 0.25, 0.5])
    return np.log1p(np.maximum(score - quarter, 0) / max(median - low, floor, _TINY))


def novelty(reference: np.ndarray, query: np.ndarray, energy: np.ndarray, seed: int) -> np.ndarray:
    """Return the probability that a query cell is of a type that the reference lacks, (n_cells,).

    Parameters
    ----------
    reference, query
        (n_cells, n_components), in a space fitted to both.
    energy
        Energy score of the cells of the query, (n_cells,).
    seed
        Decides which cells are drawn.
    """
    neighborhoods = Neighborhoods(query, seed)
    isolated = neighborhoods.smooth(isolation(reference, query, neighborhoods))
    constant, of_isolation, of_energy = WEIGHTS
    return expit(
        constant
        + of_isolation * standardised(isolated, isolation_spread(reference, seed))
        + of_energy * standardised(neighborhoods.smooth(energy))
    )
