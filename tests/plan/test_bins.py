from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.plan.bins import assign_bins, bin_edges, bin_values

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "binning.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def dense_tokens(values: sparse.csr_matrix, edges: np.ndarray) -> np.ndarray:
    tokens = sparse.csr_matrix((assign_bins(values, edges), values.indices, values.indptr), shape=values.shape)
    return tokens.toarray()


def mapped(golden) -> sparse.csr_matrix:
    """Positive values of the reference's inputs at the positions of the network; a later column replaces an earlier."""
    values = np.zeros((len(golden["X"]), int(golden["padded_len"])), dtype=np.float32)
    for column, position in enumerate(golden["gene_map"]):
        if position >= 0:
            values[:, position] = np.maximum(golden["X"][:, column], 0)
    return sparse.csr_matrix(values)


def test_uniform_bins_equal_the_reference(golden):
    values = mapped(golden)
    edges = bin_edges(values)
    kept = golden["kept_rows"]
    np.testing.assert_array_equal(edges[kept], golden["edges"])
    n_genes = int(golden["cell_len"])
    np.testing.assert_array_equal(dense_tokens(values, edges)[kept, :n_genes], golden["tokens"][:, :n_genes])


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_training_bins_equal_the_reference(golden, binning):
    values = sparse.csr_matrix(golden["train_log1p"])
    edges = bin_edges(values, binning=binning)
    np.testing.assert_allclose(edges, golden[f"train_edges_{binning}"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(dense_tokens(values, edges), golden[f"train_tokens_{binning}"])


def test_empty_cell_has_no_edges_and_the_common_values():
    values = sparse.csr_matrix(np.array([[0, 0, 0], [1, 2, 4]], dtype=np.float32))
    edges = bin_edges(values)
    assert np.isnan(edges[0]).all()
    worth = bin_values(values, assign_bins(values, edges))
    np.testing.assert_allclose(worth[0], [1, 2, 0, 4])


def test_bin_values_are_means_of_the_cell_and_else_centres():
    values = sparse.csr_matrix(np.array([[1, 1.2, 1.4, 5]], dtype=np.float32))
    worth = bin_values(values, assign_bins(values, bin_edges(values)))
    np.testing.assert_allclose(worth, [[1.2, 2.5, 3.5, 5]], rtol=1e-6)


def test_matrix_without_any_entry():
    values = sparse.csr_matrix((3, 5), dtype=np.float32)
    assert np.isnan(bin_edges(values)).all()
    assert bin_values(values, np.zeros(0, np.uint8)).shape == (3, 4)
