from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate.cells import empty_cells, select_cells
from scanpy_sct.read.reader import CellBlock


@pytest.fixture
def cells():
    values = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 4, 0]], dtype=np.float32)
    return CellBlock(
        rows=np.array([10, 11, 12]),
        log_values=sparse.csr_matrix(values),
        token_values=sparse.csr_matrix(10 * values),
        measured=np.array([True, True, True, False]),
        samples=np.array([0, 1, 1]),
        coordinates=np.arange(6.0).reshape(3, 2),
        hidden=sparse.csr_matrix(values > 3),
    )


def test_empty_cells(cells):
    assert empty_cells(cells).tolist() == [False, True, False]


def test_selected_genes_and_cells(cells):
    part = select_cells(cells, np.array([2, 0]), np.array([0, 2]))
    np.testing.assert_array_equal(part.log_values.toarray(), [[0, 0, 4, 0], [1, 0, 2, 0]])
    np.testing.assert_array_equal(part.token_values.toarray(), [[0, 0, 40, 0], [10, 0, 20, 0]])
    assert part.log_values.nnz == 3
    np.testing.assert_array_equal(part.hidden.toarray(), [[0, 0, 1, 0], [0, 0, 0, 0]])
    assert part.measured.tolist() == [True, False, True, False]
    assert part.rows.tolist() == [12, 10]
    assert part.samples.tolist() == [1, 0]
    assert part.coordinates.tolist() == [[4, 5], [0, 1]]
    assert cells.log_values.nnz == 4  # the argument stays as it was


def test_all_cells_and_genes(cells):
    same = select_cells(cells)
    assert (same.log_values != cells.log_values).nnz == 0
    assert same.measured.tolist() == cells.measured.tolist()
    assert same.rows.tolist() == cells.rows.tolist()
