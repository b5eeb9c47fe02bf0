from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.block import CellBlock


@pytest.fixture
def block():
    """Three cells, the second of which is empty, and four genes, the last of which is not measured."""
    values = sparse.csr_matrix(np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 0]], dtype=np.float32))
    return CellBlock(
        rows=np.array([5, 7, 9]),
        log_values=values,
        token_values=values,
        measured=np.array([True, True, True, False]),
        samples=np.array([0, 1, 1]),
        coordinates=np.arange(6.0).reshape(3, 2),
        name_hashes=np.arange(3, dtype=np.uint64),
        hidden=sparse.csr_matrix(np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)),
        units=np.array([1.0, 2, 3]),
    )


def test_empty_cells(block):
    assert block.n_cells == 3
    assert block.is_empty.tolist() == [False, True, False]


def test_some_cells(block):
    part = block.block(np.array([2, 0]))
    assert part.rows.tolist() == [9, 5]
    assert part.samples.tolist() == [1, 0]
    assert part.units.tolist() == [3, 1]
    np.testing.assert_array_equal(part.coordinates, [[4, 5], [0, 1]])
    np.testing.assert_array_equal(part.log_values.toarray(), [[0, 3, 0, 0], [1, 0, 2, 0]])
    np.testing.assert_array_equal(part.hidden_rows(), [[True, False, False, False], [False, True, False, False]])


def test_some_genes(block):
    part = block.at_genes(np.array([1, 2]))
    np.testing.assert_array_equal(part.log_values.toarray(), [[0, 2], [0, 0], [3, 0]])
    assert part.token_values is part.log_values
    assert part.measured.tolist() == [True, True]
    assert block.at_genes(np.arange(4)) is block


def test_hidden_entries_of_measured_genes(block):
    np.testing.assert_array_equal(block.hidden_rows(slice(0, 2)), [[False, True, False, False], [False] * 4])
    nothing = replace(block, hidden=None, coordinates=None, units=None)
    np.testing.assert_array_equal(nothing.hidden_rows(np.array([0, 2])), np.zeros((2, 4), dtype=bool))
    assert nothing.block(np.array([0])).hidden is None
    assert nothing.at_genes(np.array([0])).hidden is None


def test_as_if_genes_had_not_been_measured(block):
    part = block.without_genes(np.array([0, 3]))
    assert part.measured.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(part.log_values.toarray(), [[0, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 0]])
    assert part.token_values is part.log_values
    assert block.measured.tolist() == [True, True, True, False]
