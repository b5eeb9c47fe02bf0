"""How likely a cell is of a type that the reference lacks.

Two signs are read together, each as the mean over the cell and its nearest neighbours in the query: the cell has kin in
the query but none in the reference (`isolation`), and no label has much evidence (`Committee.strangeness`). The first
finds types that are new as a whole, the second those that lie between known ones, and it tells a new type from one that
another protocol has moved.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

N_NEIGHBORS = 5
"""Few, so that a label of few cells is not taken for new."""
N_SMOOTHED = 10
MIN_CELLS = 50
"""With fewer cells on one side there are no neighbourhoods to compare."""
MAX_OF_A_LABEL = 500
MAX_OF_QUERY = 20_000
"""More cells are represented by so many."""
WEIGHTS = (-5.5, 2.5, 1.6)
"""Constant and weights of the two signs.

Rounded by hand between two logistic regressions on labelled cells (blood, cardiac cells, cell lines and cortex), in
which one type after the other was left out of the reference: one as if one cell in ten were of a new type, one as if
three in a hundred were.
"""


def draw_balanced(labels: np.ndarray, n_query: int, seed: int) -> np.ndarray:
    """Rows of the reference to lay beside a query, increasing.

    Up to 500 cells of a label are drawn, fewer where they would outnumber the query two to one: the query must weigh
    enough for components fitted to both to show directions in which it alone varies.
    """
    share = int(np.clip(2 * n_query // len(np.unique(labels)), MIN_CELLS, MAX_OF_A_LABEL))
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    return np.sort(order[rank < share])


class Neighborhoods:
    """Nearest neighbours of every query cell among the query itself.

    Parameters
    ----------
    query
        (cells, components).
    seed
        Decides which cells represent a query of more than 20,000.
    """

    def __init__(self, query: np.ndarray, seed: int):
        rows = np.sort(np.random.default_rng(seed).permutation(len(query))[:MAX_OF_QUERY])
        n_neighbors = min(N_SMOOTHED, len(rows) - 1)
        distance, found = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(query[rows]).kneighbors(query)
        # A cell among those that represent the query finds itself; all others drop the farthest instead.
        itself = rows[found] == np.arange(len(query))[:, None]
        itself[~itself.any(axis=1), -1] = True
        shape = (len(query), n_neighbors)
        self.distance = distance[~itself].reshape(shape)[:, :N_NEIGHBORS].mean(axis=1)
        """(cells,) mean distance to the five nearest neighbours."""
        self._rows = np.column_stack([np.arange(len(query)), rows[found][~itself].reshape(shape)])

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Mean over each cell and its ten nearest neighbours, (cells,)."""
        return values[self._rows].mean(axis=1)


def isolation(reference: np.ndarray, query: np.ndarray, neighborhoods: Neighborhoods) -> np.ndarray:
    """Log ratio of the distances of a query cell to its nearest reference cells and to its nearest query cells.

    Noise and depth move both distances alike, a type without kin in the reference only the first.

    Parameters
    ----------
    reference, query
        (cells, components), in one space.
    neighborhoods
        Those of the query.
    """
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(reference))).fit(reference)
    tiny = 1e-9
    return np.log(search.kneighbors(query)[0].mean(axis=1) + tiny) - np.log(neighborhoods.distance + tiny)


def isolation_spread(reference: np.ndarray, seed: int) -> float:
    """Measure how the isolation of known cells spreads: standard deviation, of half the reference from the rest."""
    order = np.random.default_rng(seed).permutation(len(reference))
    known, others = np.array_split(reference[order], 2)
    neighborhoods = Neighborhoods(others, seed)
    values = neighborhoods.smooth(isolation(known, others, neighborhoods))
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.35)


def standardised(sign: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Bring a sign to a scale on which constants hold for all data sets, (cells,); 0 for a usual cell.

    Zero stands at the lower quarter of the query, whose cells are taken to be of known types however many are new; the
    unit is the range between the 5 % of the cells with the smallest values and the median.

    Parameters
    ----------
    sign
        Larger for newer cells, (cells,).
    floor
        Smallest unit.
    """
    low, quarter, median = np.quantile(sign, [0.05, 0.25, 0.5])
    return np.log1p(np.maximum(sign - quarter, 0) / max(median - low, floor, 1e-9))


def novelty(reference: np.ndarray, query: np.ndarray, strangeness: np.ndarray, seed: int) -> np.ndarray:
    """Probability that a query cell is of a type that the reference lacks, (cells,).

    Parameters
    ----------
    reference, query
        (cells, components), in a space fitted to both.
    strangeness
        Lack of evidence for any label, (cells of the query,).
    seed
        Decides which cells represent others.
    """
    neighborhoods = Neighborhoods(query, seed)
    isolated = neighborhoods.smooth(isolation(reference, query, neighborhoods))
    constant, of_isolation, of_strangeness = WEIGHTS
    return expit(
        constant
        + of_isolation * standardised(isolated, isolation_spread(reference, seed))
        + of_strangeness * standardised(neighborhoods.smooth(strangeness))
    )
