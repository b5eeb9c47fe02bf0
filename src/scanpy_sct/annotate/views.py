"""What the members of an ensemble read of cells: principal components of some genes each, and the cell embedding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.features import Components, fit_components, normalised_genes, variable_genes
from scanpy_sct.annotate.labels import empty_cells
from scanpy_sct.annotate.tissue import centred, sample_means

if TYPE_CHECKING:
    from scanpy_sct.read.reader import CellReader


@dataclass(frozen=True)
class Views:
    """Views of some cells."""

    components: list[np.ndarray]
    """(n_cells, n_components) each."""
    samples: np.ndarray
    """(n_cells,) integers from 0."""
    empty: np.ndarray
    """(n_cells,) bool: cells without counts."""
    embedding: np.ndarray | None = None
    """(n_cells, n_features), which all members read, too; None: none does."""

    def rows(self, part: slice = slice(None)) -> list[np.ndarray]:
        """Return what each member reads of some cells, (n_cells, n_features)."""
        if self.embedding is None:
            return [view[part] for view in self.components]
        return [np.hstack([view[part], self.embedding[part]]) for view in self.components]

    def relative_to_samples(self, means: list[np.ndarray] | None = None) -> Views:
        """Return views with components relative to the means of samples, by default those of these cells."""
        if means is None:
            means = [sample_means(view, self.samples, self.empty) for view in self.components]
        found = [centred(view, mean[self.samples]) for view, mean in zip(self.components, means, strict=True)]
        return replace(self, components=found)


@dataclass(frozen=True)
class Projection:
    """Genes and principal components of each view."""

    parts: list[tuple[np.ndarray, Components]]

    def scores(self, values: sparse.csr_matrix) -> list[np.ndarray]:
        """Project log-normalised values (n_cells, n_shared_genes), (n_cells, n_components) for each view."""
        return [fit.transform(values[:, genes]) for genes, fit in self.parts]

    def project(self, cells: CellReader, genes: np.ndarray) -> Views:
        """Return the views of all cells, which are read block by block; ``genes`` are the shared ones."""
        sizes = [fit.pca.n_components_ for _, fit in self.parts]
        table = np.empty((cells.n_cells, sum(sizes)), dtype=np.float32)
        empty = np.empty(cells.n_cells, dtype=bool)
        for block in cells.blocks():
            table[block.rows] = np.hstack(self.scores(normalised_genes(block.token_values, genes)))
            empty[block.rows] = empty_cells(block)
        return Views(np.split(table, np.cumsum(sizes)[:-1], axis=1), cells.samples, empty)


def fit_projection(values: sparse.csr_matrix, seed: int) -> tuple[list[np.ndarray], Projection]:
    """Fit components to two random halves of all genes, and then to two of the most variable ones.

    ``values`` are log-normalised. Returns the scores of these cells in each view, (n_cells, n_components).
    """
    rng = np.random.default_rng(seed)
    everything, variable = np.arange(values.shape[1]), np.flatnonzero(variable_genes(values))
    halves = [half for genes in (everything, variable) for half in np.array_split(rng.permutation(genes), 2)]
    fits = [fit_components(values[:, half], seed) for half in halves]
    parts = [(half, fit) for half, (_, fit) in zip(halves, fits, strict=True)]
    return [scores for scores, _ in fits], Projection(parts)
