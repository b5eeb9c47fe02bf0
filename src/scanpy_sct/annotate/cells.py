"""Parts of a block of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import keep_entries

if TYPE_CHECKING:
    from scanpy_sct.read.reader import CellBlock


def empty_cells(cells: CellBlock) -> np.ndarray:
    """Return which cells have no counts at all, bool (n_cells,)."""
    return np.diff(cells.log_values.indptr) == 0


def select_cells(cells: CellBlock, rows: np.ndarray | None = None, gene_index: np.ndarray | None = None) -> CellBlock:
    """Take some cells, as if only some genes had been measured.

    Parameters
    ----------
    cells
        Where to take them from; it is not changed.
    rows
        Rows of the block; None: all.
    gene_index
        Genes that stay measured; None: all.
    """
    rows = np.arange(cells.n_cells) if rows is None else rows
    measured = cells.measured
    if gene_index is not None:
        measured = np.zeros_like(measured)
        measured[gene_index] = True

    def select(values: sparse.csr_matrix) -> sparse.csr_matrix:
        part = values[rows]
        return keep_entries(part, measured[part.indices])

    return replace(
        cells,
        rows=cells.rows[rows],
        log_values=select(cells.log_values),
        token_values=select(cells.token_values),
        measured=measured,
        samples=cells.samples[rows],
        coordinates=None if cells.coordinates is None else cells.coordinates[rows],
        hidden=None if cells.hidden is None else select(cells.hidden),
    )
