"""Some cells of an AnnData, as the networks read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import keep_entries


@dataclass(frozen=True)
class CellBlock:
    """Expression of some cells, for the genes of a vocabulary and in its order."""

    rows: np.ndarray
    """Row of each cell in the object, (n_cells,)."""
    log_values: sparse.csr_matrix
    """(n_cells, n_genes) float32, values on the log scale of the input (see `ReadOptions.normalise`), positive entries
    only."""
    token_values: sparse.csr_matrix
    """The values that are binned, same entries."""
    measured: np.ndarray
    """(n_genes,) bool: whether the data have the gene."""
    samples: np.ndarray
    """(n_cells,) integers: sample of each cell."""
    coordinates: np.ndarray | None
    """(n_cells, 2) float64, in the unit of the data; None without `obsm["spatial"]`."""
    name_hashes: np.ndarray
    """(n_cells,) uint64 hash of the name of each cell."""
    hidden: sparse.csr_matrix | None = None
    """(n_cells, n_genes) bool: entries that the user hides; the values above lack them."""
    units: np.ndarray | None = None
    """(n_cells,) value of a single count on the linear scale of `log_values`; None unless they are normalised."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.rows)

    @property
    def is_empty(self) -> np.ndarray:
        """Which cells have no value of any gene of the block, bool (n_cells,)."""
        return np.diff(self.log_values.indptr) == 0

    def block(self, rows: np.ndarray) -> CellBlock:
        """Return some of the cells, by their rows within the block."""
        return replace(
            self,
            rows=self.rows[rows],
            log_values=self.log_values[rows],
            token_values=self.token_values[rows],
            samples=self.samples[rows],
            coordinates=None if self.coordinates is None else self.coordinates[rows],
            name_hashes=self.name_hashes[rows],
            hidden=None if self.hidden is None else self.hidden[rows],
            units=None if self.units is None else self.units[rows],
        )

    def at_genes(self, genes: np.ndarray) -> CellBlock:
        """Return the cells with some genes, increasing indices into the vocabulary."""
        if len(genes) == len(self.measured):
            return self
        log_values = self.log_values[:, genes]
        is_same = self.token_values is self.log_values
        return replace(
            self,
            log_values=log_values,
            token_values=log_values if is_same else self.token_values[:, genes],
            measured=self.measured[genes],
            hidden=None if self.hidden is None else self.hidden[:, genes],
        )

    def without_genes(self, columns: np.ndarray) -> CellBlock:
        """Return the cells as if some genes had not been measured."""
        measured = self.measured.copy()
        measured[columns] = False

        def without(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
            return keep_entries(matrix, measured[matrix.indices])

        log_values = without(self.log_values)
        is_same = self.token_values is self.log_values
        token_values = log_values if is_same else without(self.token_values)
        return replace(self, log_values=log_values, token_values=token_values, measured=measured)

    def hidden_rows(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which measured entries of some cells the user hides, (rows, genes) bool."""
        if self.hidden is None:
            return np.zeros((len(self.rows[rows]), len(self.measured)), dtype=bool)
        return self.hidden[rows].toarray() & self.measured
