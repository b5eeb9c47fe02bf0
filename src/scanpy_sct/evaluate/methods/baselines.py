"""Baselines that a model has to beat: means, Poisson rates, nearest cells and a matrix of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.evaluate.methods.rates import dataset_rates, gene_means, group_means, group_members, pooled_rates
from scanpy_sct.evaluate.observed import Prediction
from scanpy_sct.evaluate.registry import method
from scanpy_sct.sparse_tools import COUNTS_PER_CELL

if TYPE_CHECKING:
    from collections.abc import Callable

    from scanpy_sct.evaluate.observed import Observed

    Table = Callable[[slice], np.ndarray]


@method("predict_zero")
def predict_zero(observed: Observed) -> Prediction:
    """Predict that no entry is detected, which is true of most."""
    return Prediction(*np.zeros((3, observed.n_targets), dtype=np.float32))


@method("gene_mean")
def gene_mean(observed: Observed) -> Prediction:
    """Predict the same for every cell: mean count, detection rate and mean log value of the gene's visible entries."""

    def table_of(values: sparse.csr_matrix) -> Table:
        means = gene_means(observed, values)
        return lambda rows: means

    return _predict_means(observed, table_of)


@method("bag_mean")
def bag_mean(observed: Observed) -> Prediction:
    """Predict the mean of the bag's cells in which the gene is visible, as a pseudobulk: deep and shallow cells alike.

    Where it is visible in no cell of the bag, the mean of all cells in which it is.
    """

    def table_of(values: sparse.csr_matrix) -> Table:
        means = group_means(observed, values, group_members(observed.bags))
        return lambda rows: means[observed.bags[rows]]

    return _predict_means(observed, table_of)


@method("knn_vote")
def knn_vote(observed: Observed) -> Prediction:
    """Predict the mean over the cell and its 15 nearest ones where the gene is visible: deep and shallow cells alike.

    Where it is visible in none of them, the mean of all cells in which it is.
    """
    nearest = _with_the_cell_itself(observed.neighbors)
    return _predict_means(observed, lambda values: lambda rows: group_means(observed, values, nearest[rows]))


@method("poisson_dataset")
def poisson_dataset(observed: Observed) -> np.ndarray:
    """Predict the gene's fraction of all counts of the data set, times the depth of the cell.

    rate = visible counts of the gene / summed depth of the cells in which the gene is visible. Depth is a cell's
    visible total in both, so the fraction of masked entries cancels; for these depths the rate is the
    maximum-likelihood estimate.
    """
    rates = dataset_rates(observed)
    return _predict_counts(observed, lambda rows: rates)


@method("poisson_bag")
def poisson_bag(observed: Observed, prior_cells: float = 1.0) -> np.ndarray:
    """Do as `poisson_dataset`, with the shrunk rates of the cell's own bag: its pseudobulk."""
    rates = pooled_rates(observed, group_members(observed.bags), prior_cells)
    return _predict_counts(observed, lambda rows: rates[observed.bags[rows]])


@method("cell_type_mean", needs="labels")
def cell_type_mean(observed: Observed, prior_cells: float = 1.0) -> np.ndarray:
    """Do as `poisson_bag`, with the cells of the same label in place of a bag."""
    _, types = np.unique(observed.labels, return_inverse=True)
    rates = pooled_rates(observed, group_members(types), prior_cells)
    return _predict_counts(observed, lambda rows: rates[types[rows]])


@method("knn_poisson")
def knn_poisson(observed: Observed, prior_cells: float = 5.0) -> np.ndarray:
    """Do as `poisson_bag`, with the cell and its 15 nearest ones in place of a bag."""
    nearest = _with_the_cell_itself(observed.neighbors)
    return _predict_counts(observed, lambda rows: pooled_rates(observed, nearest[rows], prior_cells))


@method("spatial_mean", needs=("coordinates",))
def spatial_mean(observed: Observed, n_neighbors: int = 15, prior_cells: float = 5.0) -> np.ndarray:
    """Do as `knn_poisson`, with the nearest cells or spots on the tissue, of the same sample.

    Fewer where a sample has not so many; a cell that is alone in its sample gets the rates of the whole data set.
    """
    nearest = _with_the_cell_itself(_on_the_tissue(observed, n_neighbors))
    return _predict_counts(observed, lambda rows: pooled_rates(observed, nearest[rows], prior_cells))


@method("svd")
def svd(observed: Observed, n_components: int = 20) -> np.ndarray:
    """Rebuild the depth-normalised log matrix from its leading singular vectors, and undo the normalisation.

    Masked entries are set to the mean of the cells in which the gene is visible. Set to zero, with the result divided
    by the visible fraction, they do worse (average precision .36 instead of .52 on 1,000 cells of pbmc3k with 90 % of
    the entries masked), and single counts grow without bound. Without the way back to the cell's own depth values rank
    worse.
    """
    expression = observed.normalised
    filled = (expression + observed.masked_ones.multiply(gene_means(observed, expression))).tocsr()
    n_components = min(n_components, min(filled.shape) - 1)
    model = TruncatedSVD(n_components, algorithm="arpack", random_state=observed.seed)
    scores = model.fit_transform(filled)
    # Genes of which nothing is visible have loadings of rounding errors.
    loadings = np.where(observed.counts.getnnz(axis=0) > 0, model.components_, 0)
    return _predict_counts(observed, lambda rows: np.expm1(np.maximum(scores[rows] @ loadings, 0)) / COUNTS_PER_CELL)


def _predict_means(observed: Observed, table_of: Callable[[sparse.csr_matrix], Table]) -> Prediction:
    """Predict the same kind of mean of counts, detection and log values: that of the tables that `table_of` makes."""
    parts = observed.counts, observed.log_values.sign(), observed.log_values
    return Prediction(*(observed.at_targets(table_of(values)) for values in parts))


def _predict_counts(observed: Observed, rates: Table) -> np.ndarray:
    """Multiply rates, counts per unit of depth, by the depth of each cell."""
    return observed.at_targets(lambda rows: rates(rows) * observed.depth[rows, None])


def _with_the_cell_itself(neighbors: sparse.csr_matrix) -> sparse.csr_matrix:
    """Count a cell as its own neighbour, which changes nothing where an entry is masked, and helps elsewhere."""
    return (neighbors + sparse.eye(neighbors.shape[0])).tocsr()


def _on_the_tissue(observed: Observed, n_neighbors: int) -> sparse.csr_matrix:
    """Find the nearest cells of the same sample, never the cell itself, 1 where near, (n_cells, n_cells)."""
    n_cells = len(observed.samples)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for sample in np.unique(observed.samples):
        cells = np.flatnonzero(observed.samples == sample)
        k = min(n_neighbors, len(cells) - 1)
        if k > 0:
            near = NearestNeighbors(n_neighbors=k).fit(observed.coordinates[cells]).kneighbors(return_distance=False)
            pairs.append(np.stack([np.repeat(cells, k), cells[near.ravel()]]))
    rows, columns = np.concatenate(pairs, axis=1)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_cells, n_cells))
