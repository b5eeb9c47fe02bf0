from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read import scale as scale_module
from scanpy_sct.read.found_scale import find_scale
from scanpy_sct.read.scale import (
    TokenValues,
    contradicting_entries,
    count_units,
    counts_of,
    counts_unit,
    have_one_total,
    holds_counts,
    row_ratios,
    sample_rows,
    sampled_rows,
    smallest_counts,
    to_log,
    were_counts,
)


def token_values(matrix, scale, target):
    return TokenValues.found_in(matrix, scale, target).of(matrix)


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    means = rng.gamma(0.5, 2.0, size=300)
    values = rng.poisson(means * rng.lognormal(0, 0.5, size=(80, 1)))
    values[7] = 0  # an empty cell
    values[8] *= values[8] == 2  # a cell in which every count is 2
    values[9] = np.where(values[9] > 0, values[9] + 1, 0)  # smallest count 2
    return sparse.csr_matrix(values.astype(np.float32))


def normalised(counts, target=1e4):
    totals = np.asarray(counts.sum(axis=1)).ravel()
    factors = np.divide(target, totals, out=np.zeros_like(totals), where=totals > 0)
    found = counts.copy()
    found.data = found.data * np.repeat(factors, np.diff(found.indptr)).astype(np.float32)
    return found


def logged(matrix, base=np.e):
    matrix = matrix.copy()
    matrix.data = (np.log1p(matrix.data) / np.log(base)).astype(np.float32)
    return matrix


def equal(a, b):
    np.testing.assert_array_equal(a.indices, b.indices)
    np.testing.assert_array_equal(a.indptr, b.indptr)
    np.testing.assert_array_equal(a.data, b.data)


def test_find_scale(counts):
    assert find_scale(counts) == "counts"
    assert find_scale(normalised(counts)) == "linear"
    assert find_scale(normalised(counts, target=30)) == "linear"  # small values, but each row has the same total
    assert find_scale(normalised(counts, target=1)) == "linear"
    for base in (np.e, 2, 10):
        assert find_scale(logged(normalised(counts), base)) == "log"
        assert find_scale(logged(counts, base)) == "log"
    assert find_scale(counts * 1.37) == "linear"
    nearly = counts.copy()
    nearly.data = np.expm1(np.log1p(nearly.data)).astype(np.float32)
    assert find_scale(nearly) == "counts"
    assert find_scale(sparse.csr_matrix((5, 4), dtype=np.float32)) == "counts"


def test_find_scale_on_many_rows(counts):
    many = sparse.vstack([counts] * 30, format="csr")
    assert many.shape[0] > 2_000
    assert find_scale(many) == "counts"
    assert find_scale(logged(normalised(many))) == "log"


def test_the_rows_that_are_looked_at_are_runs_over_all_of_them():
    assert sampled_rows(2000) is None
    rows = sampled_rows(5000).reshape(40, 50)
    assert (np.diff(rows, axis=1) == 1).all()
    assert (rows[0, 0], rows[-1, -1]) == (0, 4999)
    np.testing.assert_allclose(np.diff(rows[:, 0]), 4950 / 39, atol=1)
    matrix = sparse.csr_matrix(np.arange(5000, dtype=np.float32)[:, None])
    np.testing.assert_array_equal(sample_rows(matrix).toarray().ravel(), rows.ravel())


def test_the_smallest_count_of_a_cell_is_found_up_to_three():
    values = np.array([[1, 2, 5, 30], [2, 3, 5, 0], [3, 4, 5, 7], [4, 5, 6, 7], [0, 0, 0, 0]]) * 0.37
    # Larger ratios than 20 say nothing.
    values = sparse.csr_matrix(np.vstack([values, [[1, 2.02, 3, 0], [1, 2.2, 3, 0], [1, 2, 3, 20.5]]]))
    assert smallest_counts(values, row_ratios(values)).tolist() == [1, 2, 3, 0, 0, 1, 0, 1]


def test_values_that_contradict_a_scale():
    matrix = sparse.csr_matrix(np.array([[1, 1.5, 20, 20.5]]))
    assert contradicting_entries(matrix, "log").tolist() == [False, False, False, True]
    assert contradicting_entries(matrix, "counts").tolist() == [False, True, False, True]
    assert not contradicting_entries(matrix, "linear").any()


def test_one_value_is_a_multiple_of_itself():
    assert were_counts(sparse.csr_matrix([[0.7]]))
    assert not were_counts(sparse.csr_matrix((1, 2)))


def test_one_of_twenty_values_of_a_cell_may_be_no_multiple():
    for n_values, smallest in ((20, 1), (19, 0)):
        values = sparse.csr_matrix([[1.0] * (n_values - 1) + [1.3]])
        assert smallest_counts(values, row_ratios(values)).tolist() == [smallest]


@pytest.mark.parametrize(("n_others", "is_enough"), [(1, True), (2, False)])
def test_nearly_all_cells_must_hold_multiples(n_others, is_enough):
    values = np.tile([1.0, 2, 3, 4], (20, 1))
    values[:n_others] = [1, 1.3, 1.7, 2.4]
    assert were_counts(sparse.csr_matrix(values)) == is_enough


def test_the_unit_of_a_cell_without_ones():
    counts = sparse.csr_matrix(np.array([[2, 3, 5, 7], [1, 2, 0, 4], [0, 0, 0, 0]], dtype=np.float64))
    log = (counts * 0.5).log1p()
    np.testing.assert_allclose(count_units(log, "log"), [0.5, 0.5, 1])
    np.testing.assert_allclose(counts_of(log, np.array([0.5, 0.5, 1])).toarray(), counts.toarray())
    np.testing.assert_allclose(count_units(log[1, :1], "log"), [0.5])
    np.testing.assert_array_equal(count_units(log[2:], "log"), [1])


def test_three_cells_of_one_total_were_normalised():
    shares = sparse.csr_matrix(np.array([[0.2, 0.8], [0.3, 0.7], [0, 0], [0.6, 0.4]]))
    assert have_one_total(shares)
    assert not have_one_total(shares[:3])
    assert not have_one_total(sparse.csr_matrix(shares.toarray() * [[1], [1], [1], [1.002]]))


def test_which_values_can_be_converted_to_counts(counts):
    amounts = with_other_values(counts)
    assert holds_counts(to_log(counts, "counts"), "counts")
    assert holds_counts(to_log(normalised(counts), "linear"), "linear")
    assert holds_counts(logged(normalised(counts), 2), "log")
    assert not holds_counts(to_log(amounts, "linear"), "linear")
    assert not holds_counts(logged(amounts), "log")


def with_other_values(counts):
    """Amounts that are no multiples of a unit."""
    amounts = counts.copy()
    amounts.data = np.random.default_rng(1).gamma(2.0, 1.0, counts.nnz).astype(np.float32)
    return amounts


def test_only_exact_counts_are_binned_on_the_scale_of_the_input(counts):
    nearly = sparse.csr_matrix(counts - 1e-4 * (counts > 0)).astype(np.float32)
    assert TokenValues.found_in(counts, "counts", "log1p_counts").is_log_scale(counts)
    assert not TokenValues.found_in(counts, "counts", "log1p_counts").is_log_scale(nearly)
    assert not TokenValues.found_in(counts, "counts", "log1p_cp10k").is_log_scale(counts)
    assert not TokenValues.found_in(counts, "linear", "log1p_counts").is_log_scale(counts)


def test_to_log(counts):
    np.testing.assert_allclose(to_log(counts, "counts").toarray(), np.log1p(counts.toarray()), rtol=1e-6)
    np.testing.assert_allclose(to_log(counts, "linear").data, np.log1p(counts.data), rtol=1e-6)
    equal(to_log(counts, "log"), counts)
    assert to_log(counts, "counts").dtype == np.float32


@pytest.mark.parametrize("base", [np.e, 2, 10])
@pytest.mark.parametrize("target", [1e4, 537.0, 1e6])
def test_log1p_counts_come_back_exactly_from_normalised_values(counts, base, target):
    counts = counts[[i for i in range(80) if i != 8]]
    expected = token_values(counts, "counts", "log1p_counts")
    np.testing.assert_allclose(expected.data, np.log1p(counts.data), rtol=1e-6)
    log = logged(normalised(counts, target), base)
    equal(token_values(log, find_scale(log), "log1p_counts"), expected)
    linear = normalised(counts, target)
    equal(token_values(linear, find_scale(linear), "log1p_counts"), expected)


def test_a_cell_that_was_no_counts_stays_as_it_is(counts):
    counts = counts[[i for i in range(80) if i != 8]]
    log = logged(normalised(counts))
    cell = slice(log.indptr[20], log.indptr[21])
    log.data[cell] = np.random.default_rng(2).gamma(5.0, 1.0, size=counts[20].nnz)
    found = token_values(log, "log", "log1p_counts")
    np.testing.assert_allclose(found.data[cell], log.data[cell], rtol=1e-6)
    others = np.delete(np.arange(79), 20)
    equal(found[others], token_values(counts, "counts", "log1p_counts")[others])


def test_counts_come_back_for_some_of_the_genes(counts):
    counts = counts[[i for i in range(80) if i not in (8, 9)]]
    chosen = np.flatnonzero(counts.mean(axis=0).A1 > 0.5)
    log = logged(normalised(counts))[:, chosen]
    found = token_values(log, "log", "log1p_counts").toarray()
    expected = np.log1p(counts[:, chosen].toarray())
    assert (np.abs(found - expected) < 1e-6).mean() > 0.99


def test_logs_of_unnormalised_counts(counts):
    counts = counts[[i for i in range(80) if i != 8]]
    equal(token_values(logged(counts), "log", "log1p_counts"), token_values(counts, "counts", "log1p_counts"))


def test_a_cell_of_equal_counts_is_a_cell_of_ones(counts):
    # nothing in normalised values tells 1, 1, 1 from 2, 2, 2
    found = token_values(logged(normalised(counts)), "log", "log1p_counts")[8]
    np.testing.assert_allclose(found.data, np.log(2), rtol=1e-6)


def test_continuous_values_stay_as_they_are():
    rng = np.random.default_rng(1)
    values = sparse.random(60, 200, density=0.3, format="csr", dtype=np.float32, rng=rng)
    values.data = rng.gamma(2.0, 1.0, size=values.nnz).astype(np.float32)
    equal(token_values(values, "log", "log1p_counts"), values)
    equal(token_values(values, "log", "log1p_cp10k"), values)
    equal(token_values(values, "linear", "log1p_counts"), to_log(values, "linear"))


@pytest.mark.parametrize("base", [np.e, 2])
@pytest.mark.parametrize("target", [1e4, 537.0])
def test_log1p_cp10k_is_the_same_from_counts_and_logs(counts, base, target):
    counts = counts[[i for i in range(80) if i != 8]]
    expected = token_values(counts, "counts", "log1p_cp10k")
    np.testing.assert_allclose(expected.toarray(), logged(normalised(counts)).toarray(), rtol=1e-5)
    equal(token_values(logged(normalised(counts, target), base), "log", "log1p_cp10k"), expected)
    equal(token_values(normalised(counts, target), "linear", "log1p_cp10k"), expected)


def test_log1p_cp10k_leaves_logs_of_some_genes_alone(counts):
    log = logged(normalised(counts))[:, ::3]
    equal(token_values(log, "log", "log1p_cp10k"), log)


@pytest.mark.parametrize("target", ["log1p_counts", "log1p_cp10k"])
@pytest.mark.parametrize("scale", ["counts", "linear", "log"])
def test_empty_matrices_and_dtype(counts, target, scale):
    empty = sparse.csr_matrix((3, 5), dtype=np.float32)
    assert token_values(empty, scale, target).nnz == 0
    found = token_values(logged(counts) if scale == "log" else counts, scale, target)
    assert found.dtype == np.float32
    assert found.nnz == counts.nnz
    assert (found.data > 0).all()


@pytest.mark.parametrize("target", ["log1p_counts", "log1p_cp10k"])
def test_blocks_of_rows_change_nothing(counts, target, monkeypatch):
    matrices = {"counts": counts, "linear": normalised(counts), "log": logged(normalised(counts))}
    expected = {scale: token_values(matrix, scale, target) for scale, matrix in matrices.items()}
    monkeypatch.setattr(scale_module, "N_BLOCK_ROWS", 7)
    for scale, matrix in matrices.items():
        equal(token_values(matrix, scale, target), expected[scale])


def test_counts_with_rounding_errors(counts):
    nearly = counts.copy()
    nearly.data = nearly.data - np.float32(1e-4)
    for target in ("log1p_counts", "log1p_cp10k"):
        equal(token_values(nearly, "counts", target), token_values(counts, "counts", target))


def test_a_count_that_would_be_rounded_to_zero_stays():
    nearly = sparse.csr_matrix(np.array([[1, 0.0004, 3]], dtype=np.float32))
    np.testing.assert_allclose(token_values(nearly, "counts", "log1p_counts").data, np.log1p(nearly.data), rtol=1e-6)


def test_input_is_left_alone(counts):
    for matrix, scale in ((counts, "counts"), (normalised(counts), "linear"), (logged(normalised(counts)), "log")):
        before = matrix.copy()
        for target in ("log1p_counts", "log1p_cp10k"):
            token_values(matrix, scale, target)
        equal(matrix, before)


def test_unknown_target(counts):
    with pytest.raises(ValueError, match=r"target must be.*'cpm'"):
        token_values(counts, "counts", "cpm")


def test_unit_of_one_count():
    dense = np.random.default_rng(0).poisson(0.8, (50, 200)).astype(np.float32)
    dense[3] = 0
    counts = sparse.csr_matrix(dense)
    factor = np.random.default_rng(1).uniform(2, 9, 50)
    log = sparse.csr_matrix(counts.multiply(factor[:, None])).log1p().astype(np.float32)
    factor[3] = 1
    np.testing.assert_allclose(counts_unit(log), factor, rtol=1e-4)
    np.testing.assert_allclose(counts_unit(counts.log1p()), 1, rtol=1e-5)
    noisy = log.copy()
    noisy.data *= np.random.default_rng(2).uniform(0.5, 1, noisy.nnz)
    assert counts_unit(noisy) is None


def test_counts_without_ones_are_counts_all_the_same():
    counts = sparse.csr_matrix(np.array([[5, 0, 0], [2, 4, 6], [0, 7, 7]], dtype=np.float32))
    np.testing.assert_array_equal(count_units(to_log(counts, "counts"), "counts"), 1)
