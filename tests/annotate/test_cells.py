from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate.cells import empty_cells, with_measured
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
        name_hashes=np.arange(3, dtype=np.uint64),
        hidden=sparse.csr_matrix(values > 3),
    )


def test_empty_cells(cells):
    assert empty_cells(cells).tolist() == [False, True, False]


def test_only_some_genes_stay_measured(cells):
    part = with_measured(cells, np.array([0, 2]))
    np.testing.assert_array_equal(part.log_values.toarray(), [[1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 4, 0]])
    np.testing.assert_array_equal(part.token_values.toarray(), 10 * part.log_values.toarray())
    assert part.log_values.nnz == 3
    np.testing.assert_array_equal(part.hidden.toarray().nonzero(), [[2], [2]])
    assert part.measured.tolist() == [True, False, True, False]
    assert part.rows.tolist() == [10, 11, 12]
    assert cells.log_values.nnz == 4  # the argument stays as it was
    assert cells.measured.tolist() == [True, True, True, False]
