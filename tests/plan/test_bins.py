from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.plan.bins import assign_bins, bin_edges, bin_values, count_bin_values

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


def test_training_bins_equal_the_reference(golden):
    values = sparse.csr_matrix(golden["train_log1p"])
    edges = bin_edges(values)
    np.testing.assert_allclose(edges, golden["train_edges_uniform"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(dense_tokens(values, edges), golden["train_tokens_uniform"])


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


def test_bins_of_counts_double():
    counts = np.array([[1, 2, 3, 4, 5, 8, 9, 16, 17, 500]], dtype=np.float32)
    values = sparse.csr_matrix(counts).log1p()
    bins = assign_bins(values, bin_edges(values, 7, "counts"))
    assert bins.tolist() == [1, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_bins_of_counts_do_not_depend_on_what_else_a_cell_shows():
    few, many = (sparse.csr_matrix(np.array([row], dtype=np.float32)).log1p() for row in ([2, 3], [1, 2, 3, 90]))
    few_bins, many_bins = (assign_bins(cell, bin_edges(cell, 6, "counts")) for cell in (few, many))
    assert few_bins.tolist() == many_bins.tolist()[1:3]


def test_bins_of_counts_take_other_values_in_units_of_the_median():
    tpm = np.exp(np.random.default_rng(0).normal(2, 3, (3, 400))).astype(np.float32)
    values = sparse.csr_matrix(tpm).log1p()
    bins = assign_bins(values, bin_edges(values, 9, "counts")).reshape(tpm.shape)
    times_median = tpm / np.median(tpm, axis=1, keepdims=True)
    expected = 1 + np.digitize(times_median, [1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5])
    np.testing.assert_array_equal(bins, expected)


@pytest.mark.parametrize(("target", "depth"), [(1.0, 10_000), (1e6, 1_500)])
def test_values_that_are_no_counts_have_the_same_bins_on_any_scale(target, depth):
    rng = np.random.default_rng(0)
    corrected = rng.poisson(0.7, (4, 2000)) * rng.uniform(0.85, 1, (4, 2000))
    corrected *= depth / corrected.sum(1, keepdims=True)

    def bins(total: float) -> np.ndarray:
        scaled = corrected / corrected.sum(1, keepdims=True) * total
        values = sparse.csr_matrix(scaled.astype(np.float32)).log1p()
        return assign_bins(values, bin_edges(values, 8, "counts"))

    np.testing.assert_array_equal(bins(target), bins(1e4))


def test_large_counts_are_whole_numbers_after_logarithms_too():
    counts = np.array([[1, 7, 1000, 123_457, 2_000_001]], dtype=np.float32)
    values = sparse.csr_matrix(counts).log1p()
    assert assign_bins(values, bin_edges(values, 8, "counts")).tolist() == [1, 4, 7, 7, 7]


@pytest.mark.parametrize(("n_fractions", "bin_of_two"), [(4, 2), (5, 1)])
def test_how_many_fractions_make_a_cell_one_without_counts(n_fractions, bin_of_two):
    values = np.full(80, 2, dtype=np.float32)
    values[:n_fractions] = 2.3
    values = sparse.csr_matrix(values[None]).log1p()
    assert assign_bins(values, bin_edges(values, 6, "counts"))[-1] == bin_of_two


def test_cells_with_a_few_fractions_still_hold_counts():
    counts = np.tile([1, 2, 3, 5], 10).astype(np.float32)
    counts[1] = 1.4
    values = sparse.csr_matrix(counts[None]).log1p()
    assert assign_bins(values, bin_edges(values, 6, "counts")).tolist() == [1, 1, 3, 4] + [1, 2, 3, 4] * 9


@pytest.mark.parametrize("base", [np.e, 2, 10])
def test_empty_bins_of_counts_are_worth_their_middle_in_logarithms_to_any_base(base):
    counts = sparse.csr_matrix(np.array([[1, 4, 3], [2, 7, 1]], dtype=np.float32))
    scaled = sparse.csr_matrix(counts.toarray() * [[5], [3]])
    logs = sparse.csr_matrix((np.log1p(scaled.data) / np.log(base), scaled.indices, scaled.indptr), scaled.shape)
    middle = np.array([1, 2, np.sqrt(3 * 4), np.sqrt(5 * 8), np.sqrt(9 * 16)])
    expected = np.log1p(np.array([[5], [3]]) * middle) / np.log(base)
    np.testing.assert_allclose(count_bin_values(counts.log1p(), logs, 6), expected, rtol=1e-4)


def test_empty_bins_in_units_of_the_median_are_worth_their_middle():
    values = sparse.csr_matrix(np.array([[0.3, 1.7, 2.6, 5.9, 3.3]])).log1p()
    worth = count_bin_values(values, values, 5)
    np.testing.assert_allclose(worth, np.log1p(2.6 * np.array([[1, 2, np.sqrt(12), np.sqrt(40)]])), rtol=1e-5)


def test_empty_bins_of_counts_are_worth_their_middle_on_the_wanted_scale():
    counts = sparse.csr_matrix(np.array([[1, 4], [0, 0], [2, 2]], dtype=np.float32))
    worth = count_bin_values(counts.log1p(), (3 * counts).log1p(), 5)
    middle = np.array([1, 2, np.sqrt(3 * 4), np.sqrt(5 * 8)])
    np.testing.assert_allclose(worth, np.log1p([3 * middle, middle, 3 * middle]), rtol=1e-5)
    bins = assign_bins(counts.log1p(), bin_edges(counts.log1p(), 5, "counts"))
    filled = bin_values((3 * counts).log1p(), bins, 5, typical=worth)
    np.testing.assert_allclose(filled[0], np.log1p([3, 6, 12, 3 * np.sqrt(40)]), rtol=1e-5)
    # The empty cell takes what bins are worth elsewhere.
    np.testing.assert_allclose(filled[1], np.log1p([3, 6, 12, 3 * np.sqrt(40)]), rtol=1e-5)


@pytest.mark.parametrize("binning", ["uniform", "counts"])
def test_matrix_without_any_entry(binning):
    values = sparse.csr_matrix((3, 5), dtype=np.float32)
    assert np.isnan(bin_edges(values, binning=binning)).all()
    assert bin_values(values, np.zeros(0, np.uint8)).shape == (3, 4)
