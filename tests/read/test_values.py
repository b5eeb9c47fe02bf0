from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.values import LogValues
from scanpy_sct.sparse_tools import log_normalise


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    values = rng.poisson(0.7, size=(40, 120)).astype(np.float32)
    values[3:5] = 0
    values[4, 0] = 1  # the only count of its cell
    return sparse.csr_matrix(values)


def test_log_scale_of_the_input(counts):
    convert = LogValues.found_in(counts, "counts", normalise=False)
    np.testing.assert_allclose(convert.of(counts).data, np.log1p(counts.data))
    assert convert.units(counts) is None


@pytest.mark.parametrize("log_normalised", [False, True])
def test_normalised_values_and_counts(counts, log_normalised):
    normalised = log_normalise(counts).astype(np.float32)
    matrix, scale = (normalised, "log") if log_normalised else (counts, "counts")
    convert = LogValues.found_in(matrix, scale, normalise=True)
    np.testing.assert_allclose(convert.of(matrix).data, normalised.data, rtol=1e-5)
    np.testing.assert_allclose(convert.counts_of(matrix).data, counts.data, rtol=1e-4)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    expected = np.where(totals > 0, 1e4 / np.maximum(totals, 1), 1)
    np.testing.assert_allclose(convert.units(matrix), expected, rtol=1e-4)


def test_columns_that_are_not_genes_are_no_part_of_the_conversion(counts):
    """Values of an antibody: logarithms if positive, unchanged if negative; totals of cells are without it."""
    matrix = sparse.csr_matrix(np.hstack([[[5, -3]] * 40, counts.toarray()]))
    not_genes = np.arange(122) < 2
    convert = LogValues.found_in(counts, "counts", normalise=True)
    for as_counts, expected in ((False, log_normalise(counts)), (True, counts)):
        found = convert.columns_of(matrix, not_genes, counts=as_counts).toarray()
        np.testing.assert_allclose(found[:, :2], [[np.log1p(5), -3]] * 40, rtol=1e-6)
        np.testing.assert_allclose(found[:, 2:], expected.toarray(), rtol=1e-4)
        alone = convert.columns_of(counts, None, counts=as_counts)
        np.testing.assert_allclose(alone.toarray(), expected.toarray(), rtol=1e-4)
