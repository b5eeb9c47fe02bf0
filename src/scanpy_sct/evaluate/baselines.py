"""Simple and strong ways to predict hidden entries, to stand beside the network.

Every function takes an `Observed`, which holds visible entries only, and returns a `Guess` about every hidden entry.
A new method is one such function and one line in `BASELINES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Callable

# Dense tables are made for this many cells at a time: 512 cells x 20,000 genes are 80 MB.
_CELLS_AT_ONCE = 512
# Total to which the depth of a cell is normalised before taking logarithms, as is usual with scanpy.
_TARGET = 1e4


@dataclass(frozen=True, eq=False)
class Observed:
    """What a method may see: the visible entries, and where the hidden ones are."""

    counts: sparse.csr_matrix
    """(n_cells, n_genes) linear scale, hidden entries removed."""
    log: sparse.csr_matrix
    """(n_cells, n_genes) log scale of the input, same entries as `counts`."""
    hidden: np.ndarray
    """bool (n_cells, n_genes): the entries to predict. Every gene is a measured one."""
    samples: np.ndarray
    """int (n_cells,): the sample of each cell."""
    bags: np.ndarray
    """int (n_cells,): the bag of each cell, 0, 1, ..."""

    @cached_property
    def depth(self) -> np.ndarray:
        """Visible total of each cell, float64 (n_cells,)."""
        return np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel()

    @cached_property
    def hidden_ones(self) -> sparse.csr_matrix:
        """1 where an entry is hidden, float64 (n_cells, n_genes)."""
        return sparse.csr_matrix(self.hidden, dtype=np.float64)

    @cached_property
    def hidden_depth(self) -> sparse.csr_matrix:
        """Depth of the cell where an entry is hidden, nothing elsewhere, float64 (n_cells, n_genes)."""
        return self.hidden_ones.multiply(self.depth[:, None]).tocsr()

    @cached_property
    def normalised(self) -> sparse.csr_matrix:
        """Log of 1 + counts scaled to `_TARGET` a cell, (n_cells, n_genes)."""
        scaled = self.counts.multiply((_TARGET / np.maximum(self.depth, 1e-12))[:, None])
        return scaled.tocsr().log1p()

    @cached_property
    def neighbors(self) -> sparse.csr_matrix:
        """The 15 nearest cells of each cell in 50 principal components, 1 where near, (n_cells, n_cells).

        Found from `normalised`, in which hidden entries count as zeros, over all samples; never the cell itself.
        """
        n_components = min(50, min(self.counts.shape) - 1)
        components = PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(self.normalised)
        n_neighbors = min(15, len(components) - 1)
        return NearestNeighbors(n_neighbors=n_neighbors).fit(components).kneighbors_graph()


class Guess(NamedTuple):
    """Predictions for the hidden entries, in row-major order (that of `numpy.nonzero(hidden)`)."""

    detection: np.ndarray
    """float32 (n_hidden,): probability that the entry is expressed."""
    value: np.ndarray
    """float32 (n_hidden,): expected value on the log scale of the input."""


def gene_constant(observed: Observed) -> Guess:
    """Guess the same for every cell: detection rate and mean log value of the gene's visible entries."""
    n_visible = np.maximum((~observed.hidden).sum(axis=0), 1)
    rate = observed.log.getnnz(axis=0) / n_visible
    mean = np.asarray(observed.log.sum(axis=0)).ravel() / n_visible
    return Guess(
        at_hidden(observed.hidden, lambda rows: rate[None]), at_hidden(observed.hidden, lambda rows: mean[None])
    )


def poisson_dataset(observed: Observed) -> Guess:
    """Expect Poisson counts: the gene's share of the whole data set, times the depth of the cell.

    rate = visible counts of the gene / summed depth of the cells in which the gene is visible, and
    P(expressed) = 1 - exp(-rate x depth). Depth is a cell's visible total in both places, so the share of entries
    that are hidden cancels; for these depths the rate is the maximum-likelihood estimate.
    """
    rates = _dataset_rates(observed)
    return _poisson(observed, lambda rows: rates)


def poisson_bag(observed: Observed, prior_cells: float = 1.0) -> Guess:
    """Do as `poisson_dataset`, with the rates of the cell's own bag: its pseudobulk.

    The rates are shrunk as `_pooled_rates` tells. A hidden entry adds neither counts nor depth to the rate of its
    gene, so a cell never takes part in the guess about itself.
    """
    n_cells = len(observed.bags)
    members = sparse.csr_matrix((np.ones(n_cells), (observed.bags, np.arange(n_cells))))
    rates = _pooled_rates(observed, members, prior_cells)
    return _poisson(observed, lambda rows: rates[observed.bags[rows]])


def knn_vote(observed: Observed) -> Guess:
    """Take the share that express the gene, and the mean log value, among the nearest cells that show it."""
    nearest, expressed = observed.neighbors, observed.log.sign()
    n_neighbors = nearest.getnnz(axis=1)[:, None]

    def mean(values: sparse.csr_matrix, rows: slice) -> np.ndarray:
        n_visible = n_neighbors[rows] - (nearest[rows] @ observed.hidden_ones).toarray()
        return (nearest[rows] @ values).toarray() / np.maximum(n_visible, 1)

    return Guess(
        detection=at_hidden(observed.hidden, lambda rows: mean(expressed, rows)),
        value=at_hidden(observed.hidden, lambda rows: mean(observed.log, rows)),
    )


def knn_poisson(observed: Observed, prior_cells: float = 5.0) -> Guess:
    """Do as `poisson_bag`, with the rates of the nearest cells in place of a bag."""
    return _poisson(observed, lambda rows: _pooled_rates(observed, observed.neighbors[rows], prior_cells))


def svd(observed: Observed, n_components: int = 20) -> Guess:
    """Rebuild the depth-normalised log matrix from its leading singular vectors, and undo the normalisation.

    Hidden entries go in as zeros; the rebuilt values are divided by the share of visible entries to make up for it.
    P(expressed) is that of a Poisson count. Without the way back to the cell's own depth the same values rank worse:
    average precision is lower by 0.005 to 0.02 on four data sets.
    """
    n_components = min(n_components, min(observed.counts.shape) - 1)
    model = TruncatedSVD(n_components, algorithm="arpack", random_state=0)
    scores = model.fit_transform(observed.normalised) / (1 - observed.hidden.mean())
    return _poisson(observed, lambda rows: np.expm1(np.maximum(scores[rows] @ model.components_, 0)) / _TARGET)


BASELINES = MappingProxyType(
    {
        "gene_constant": gene_constant,
        "poisson_dataset": poisson_dataset,
        "poisson_bag": poisson_bag,
        "knn_vote": knn_vote,
        "knn_poisson": knn_poisson,
        "svd": svd,
    }
)


def at_hidden(hidden: np.ndarray, dense: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Collect the hidden entries of a table that is too large to be held whole.

    Parameters
    ----------
    hidden
        bool array (n_cells, n_genes).
    dense
        Returns the table for the cells of a slice, (n_rows, n_genes) or (1, n_genes) when they are all alike.

    Returns
    -------
    float32 array (n_hidden,), in row-major order.
    """
    parts = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(hidden), _CELLS_AT_ONCE):
        rows = slice(start, start + _CELLS_AT_ONCE)
        parts.append(np.broadcast_to(dense(rows), hidden[rows].shape)[hidden[rows]].astype(np.float32))
    return np.concatenate(parts)


def _dataset_rates(observed: Observed) -> np.ndarray:
    """Divide the counts of each gene by the summed depth of the cells that show it, (1, n_genes)."""
    counts = np.asarray(observed.counts.sum(axis=0, dtype=np.float64)).ravel()
    exposure = observed.depth.sum() - np.asarray(observed.hidden_depth.sum(axis=0)).ravel()
    return np.divide(counts, exposure, out=np.zeros_like(counts), where=exposure > 0)[None]


def _pooled_rates(observed: Observed, members: sparse.csr_matrix, prior_cells: float) -> np.ndarray:
    """Compute the rates of `_dataset_rates` within groups of cells, a little shrunk, (n_groups, n_genes).

    Each group is treated as if it held `prior_cells` more cells of mean depth that follow the rates of the whole
    data set. Without them a gene that no cell of a group expresses would be called impossible in all of them.

    Parameters
    ----------
    members
        (n_groups, n_cells), 1 where a cell belongs to a group.
    """
    prior = prior_cells * observed.depth.mean()
    counts = (members @ observed.counts).toarray() + prior * _dataset_rates(observed)
    exposure = (members @ observed.depth)[:, None] - (members @ observed.hidden_depth).toarray() + prior
    return np.divide(counts, exposure, out=np.zeros_like(exposure), where=exposure > 0)


def _poisson(observed: Observed, rates: Callable[[slice], np.ndarray]) -> Guess:
    """Turn rates per unit of depth into the probability of a count above zero and the expected log value."""
    expected = at_hidden(observed.hidden, lambda rows: rates(rows) * observed.depth[rows, None])
    detection = -np.expm1(-expected)
    given_expressed = np.divide(expected, detection, out=np.ones_like(expected), where=detection > 0)
    # How many units of the input's linear scale one count of this cell is worth: 1 where the input were counts.
    linear = np.asarray(observed.log.expm1().sum(axis=1, dtype=np.float64)).ravel()
    unit = np.divide(linear, observed.depth, out=np.ones_like(linear), where=observed.depth > 0)
    unit = np.repeat(unit, observed.hidden.sum(axis=1)).astype(np.float32)
    return Guess(detection, detection * np.log1p(unit * given_expressed))
