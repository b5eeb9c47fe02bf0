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


def with_measured(cells: CellBlock, gene_index: np.ndarray) -> CellBlock:
    """Return the cells as if only the genes in ``gene_index`` had been measured."""
    measured = np.zeros_like(cells.measured)
    measured[gene_index] = True

    def kept(values: sparse.csr_matrix) -> sparse.csr_matrix:
        return keep_entries(values, measured[values.indices])

    return replace(
        cells,
        log_values=kept(cells.log_values),
        token_values=kept(cells.token_values),
        measured=measured,
        hidden=None if cells.hidden is None else kept(cells.hidden),
    )
