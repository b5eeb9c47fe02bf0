"""Predict genes from a reference: means over similar cells, and a regression on principal components."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import row_totals, with_data

N_COMPONENTS = 30
N_NEIGHBORS = 50
PRIOR_CELLS = 2.0
"""Number of average cells with the mean of all that are added to the neighbours of a cell."""
PENALTY = 300.0
"""Ridge penalty of the regression, in units of a cell's squared score; of 1 to 1,000 the best on most of eight pairs of
data and reference."""
MIN_VISIBLE = 0.05
"""Totals are corrected for hidden entries as if at least this part were visible."""
LOWEST_RATE = 0.1
"""Predictions of the regression are not below this fraction of the gene's mean."""


@dataclass(frozen=True)
class ReferenceModel:
    """What a reference tells about some genes of a cell, given the genes that both objects measured (shared genes)."""

    counts: sparse.csr_matrix
    """(reference cells, predicted genes) float32."""
    totals: np.ndarray
    """(reference cells,) counts of the shared genes."""
    usual_total: float
    """Total to which the shared genes of a cell are normalised before logarithms are taken."""
    parts: np.ndarray
    """(shared genes,) part of each in the counts of the reference."""
    centre: np.ndarray
    """(shared genes,) mean of the normalised values of the reference."""
    components: np.ndarray
    """(components, shared genes) of them."""
    scores: np.ndarray
    """(reference cells, components)."""
    coefficients: np.ndarray
    """(components + 1, predicted genes): expected counts per count of the shared genes, linear in the scores."""

    @cached_property
    def rate(self) -> np.ndarray:
        """Counts of each predicted gene per count of the shared genes, (genes,) float64."""
        return np.asarray(self.counts.sum(axis=0, dtype=np.float64)).ravel() / self.totals.sum()

    def place(self, counts: sparse.csr_matrix, hidden: sparse.csr_matrix | None = None) -> CellsInReference:
        """Find the neighbours of cells in the reference.

        Parameters
        ----------
        counts
            (cells, shared genes).
        hidden
            (cells, shared genes) bool: entries that are not known. The total of a cell is corrected for them, by their
            part of the counts of the reference.
        """
        totals = row_totals(counts)
        if hidden is not None:
            totals = totals / np.maximum(1 - hidden @ self.parts, MIN_VISIBLE)
        scores = (_normalised(counts, self.usual_total, totals) - self.centre) @ self.components.T
        return CellsInReference(self, scores, totals, self._nearest(scores, N_NEIGHBORS))

    def own(self, rows: np.ndarray) -> CellsInReference:
        """Find the neighbours of cells of the reference itself, none of which is its own neighbour."""
        scores = self.scores[rows]
        return CellsInReference(self, scores, self.totals[rows], self._nearest(scores, N_NEIGHBORS + 1)[:, 1:])

    def _nearest(self, scores: np.ndarray, number: int) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors  # large, and needed with a reference only

        search = NearestNeighbors(n_neighbors=min(number, len(self.scores)), algorithm="brute").fit(self.scores)
        return search.kneighbors(scores, return_distance=False)


@dataclass(frozen=True)
class CellsInReference:
    """Cells of the data, by their scores and neighbours in the reference."""

    model: ReferenceModel
    scores: np.ndarray
    """(cells, components)."""
    totals: np.ndarray
    """(cells,) counts of the shared genes."""
    neighbors: np.ndarray
    """(cells, neighbours) of the reference."""

    def from_neighbors(self, rows: slice, genes: np.ndarray | None = None) -> np.ndarray:
        """Return expected counts of some genes by the mean over neighbours, (cells, genes) float32."""
        model, neighbors = self.model, self.neighbors[rows]
        prior = PRIOR_CELLS * model.totals.mean()
        shape = (len(neighbors), len(model.totals))
        indptr = np.arange(0, neighbors.size + 1, neighbors.shape[1])
        near = sparse.csr_matrix((np.ones(neighbors.size, dtype=np.float32), neighbors.ravel(), indptr), shape=shape)
        counts = model.counts if genes is None else model.counts[:, genes]
        found = (near @ counts).toarray() + prior * (model.rate if genes is None else model.rate[genes])
        return (found * (self.totals[rows] / (near @ model.totals + prior))[:, None]).astype(np.float32)

    def from_regression(self, rows: slice, genes: np.ndarray | None = None) -> np.ndarray:
        """Return expected counts of some genes by the regression, (cells, genes) float32."""
        some = slice(None) if genes is None else genes
        of_genes = self.model.coefficients[:, some]
        rate = self.scores[rows] @ of_genes[1:] + of_genes[0]
        return (np.maximum(rate, LOWEST_RATE * self.model.rate[some]) * self.totals[rows, None]).astype(np.float32)

    def similarity(self) -> np.ndarray:
        """Return the cosine between the scores of each cell and the mean of its neighbours', (cells,) float32.

        NaN for cells without counts of shared genes.
        """
        of_neighbors = self.model.scores[self.neighbors].mean(axis=1)
        norms = np.linalg.norm(self.scores, axis=1) * np.linalg.norm(of_neighbors, axis=1)
        cosine = (self.scores * of_neighbors).sum(axis=1) / np.maximum(norms, 1e-12)
        return np.where(self.totals > 0, cosine, np.nan).astype(np.float32)


def fit_reference_model(
    shared: sparse.csr_matrix, predicted: sparse.csr_matrix, usual_total: float, seed: int
) -> ReferenceModel:
    """Fit components and regression.

    Parameters
    ----------
    shared, predicted
        (reference cells, genes) counts of the shared genes, and of those to predict.
    usual_total
        Total to which shared genes are normalised, such as the median of the data.
    seed
        Seed of the components.
    """
    from sklearn.decomposition import PCA  # large, and needed with a reference only

    totals = row_totals(shared)
    kept = totals > 0
    shared, predicted, totals = shared[kept], predicted[kept].astype(np.float32), totals[kept]
    normalised = _normalised(shared, usual_total, totals)
    n_components = min(N_COMPONENTS, min(normalised.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed)
    scores = pca.fit_transform(normalised)
    coefficients = _regress(scores, predicted, totals)
    parts = np.asarray(shared.sum(axis=0, dtype=np.float64)).ravel() / totals.sum()
    return ReferenceModel(predicted, totals, usual_total, parts, pca.mean_, pca.components_, scores, coefficients)


def _regress(scores: np.ndarray, counts: sparse.csr_matrix, totals: np.ndarray) -> np.ndarray:
    """Regress counts per total on scores, (components + 1, genes).

    Least squares with the variance of a Poisson count: proportional to the total of the cell.
    """
    usual = totals.mean()
    design = np.column_stack([np.ones(len(scores)), scores])
    information = (design * (totals / usual)[:, None]).T @ design
    information[np.arange(1, len(information)), np.arange(1, len(information))] += PENALTY
    return np.linalg.solve(information, (counts.T @ design).T / usual)


def _normalised(counts: sparse.csr_matrix, total: float, totals: np.ndarray) -> np.ndarray:
    """Return `log1p` of counts normalised from the ``totals`` of the cells to one ``total``, dense (cells, genes)."""
    factor = total / np.maximum(totals, 1e-12)
    return with_data(counts, np.log1p(counts.data * np.repeat(factor, np.diff(counts.indptr)))).toarray()
