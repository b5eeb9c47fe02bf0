from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.evaluate import observed as module
from scanpy_sct.evaluate.masking import mask_entries
from scanpy_sct.evaluate.observed import Observed, Prediction, check_prediction, complete
from scanpy_sct.sparse_tools import without_masked

N_CELLS, N_GENES = 70, 40


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.5, 1, (3, N_GENES))
    return rng.poisson(programs[rng.integers(3, size=N_CELLS)] * rng.lognormal(0, 0.5, (N_CELLS, 1)))


def observe(counts: np.ndarray, masked: np.ndarray, targets: np.ndarray | None = None, unit: float = 1.0) -> Observed:
    seen = without_masked(sparse.csr_matrix(counts, dtype=np.float32), masked)
    zeros = np.zeros(len(counts), dtype=int)
    return Observed(seen, (seen * unit).log1p(), masked, masked if targets is None else targets, zeros, zeros)


@pytest.fixture(scope="module")
def observed(counts) -> Observed:
    return observe(counts, mask_entries(N_CELLS, N_GENES, 0.3, rng=1))


def test_depth_and_where_entries_are_hidden(observed, counts):
    dense = np.where(observed.masked, 0, counts)
    np.testing.assert_array_equal(observed.depth, dense.sum(axis=1))
    np.testing.assert_array_equal(observed.masked_ones.toarray(), observed.masked)
    np.testing.assert_array_equal(observed.masked_depth.toarray(), observed.masked * dense.sum(axis=1, keepdims=True))
    scaled = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    np.testing.assert_allclose(observed.normalised.toarray(), scaled, rtol=1e-5)


def test_neighbors_are_the_nearest_by_normalised_expression(observed):
    dense = observed.normalised.toarray()
    # 39 of 40 components keep all distances but for the smallest direction.
    distance = ((dense[:, None] - dense[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :15]
    found = np.take_along_axis(observed.neighbors.toarray(), nearest, axis=1)
    assert found.mean() > 0.98
    assert not observed.neighbors.diagonal().any()


@pytest.mark.parametrize("cells_at_once", [9, 512])
def test_at_targets_takes_wanted_entries_row_by_row(counts, monkeypatch, cells_at_once):
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", cells_at_once)
    targets = mask_entries(N_CELLS, N_GENES, 0.4, rng=2)
    observed = observe(counts, np.zeros_like(targets), targets)
    table = np.arange(N_CELLS * N_GENES).reshape(N_CELLS, N_GENES)
    taken = observed.at_targets(lambda rows: table[rows])
    np.testing.assert_array_equal(taken, table[targets])
    assert taken.dtype == np.float32
    assert observed.n_targets == len(taken)
    np.testing.assert_array_equal(observed.at_targets(lambda rows: table[:1]), np.nonzero(targets)[1])
    np.testing.assert_array_equal(observed.by_cell(np.arange(N_CELLS)), np.nonzero(targets)[0])


def test_a_bare_array_is_a_poisson_count(observed):
    count = np.random.default_rng(0).gamma(1, 1, observed.n_targets)
    guess = complete(observed, count)
    np.testing.assert_allclose(guess.detection, 1 - np.exp(-count), rtol=1e-5)
    np.testing.assert_array_equal(guess.count, complete(observed, Prediction(count)).count)
    assert {part.dtype for part in guess} == {np.dtype(np.float32)}


def test_a_count_of_zero_is_never_expressed(observed):
    guess = complete(observed, np.zeros(observed.n_targets))
    assert not np.any(guess)


def test_what_a_method_says_stays(observed):
    count, detection, value = np.random.default_rng(0).random((3, observed.n_targets))
    guess = complete(observed, Prediction(count, detection, value))
    for given, kept in zip((count, detection, value), guess, strict=True):
        np.testing.assert_allclose(kept, given, rtol=1e-6)


@pytest.mark.parametrize("unit", [1.0, 8.0])
def test_values_come_on_the_log_scale_of_the_input(unit):
    """Mean of log1p(unit x count) over many draws of a Poisson count."""
    rates = np.append([0.05, 1.0, 5.0, 20.0], np.full(96, 3.0))
    counts = np.random.default_rng(0).poisson(rates, (2000, 100))
    masked = mask_entries(*counts.shape, 0.2)
    observed = observe(counts, masked, unit=unit)
    np.testing.assert_allclose(observed.unit, unit, rtol=1e-4)
    genes = np.nonzero(masked)[1]
    value = complete(observed, rates[genes]).value
    means = np.bincount(genes, value) / np.bincount(genes)
    np.testing.assert_allclose(means, np.log1p(unit * counts).mean(axis=0), rtol=0.1)


def test_negative_expectations_are_none(observed):
    count = np.where(np.arange(observed.n_targets) % 2, 1.0, -0.5)
    np.testing.assert_array_equal(check_prediction(observed, count).count, np.maximum(count, 0))


def test_probabilities_may_miss_the_range_by_rounding_only(observed):
    nearly = np.full(observed.n_targets, 1 + 1e-6)
    assert complete(observed, Prediction(nearly, nearly)).detection.max() == 1
    with pytest.raises(ValueError, match=r"`detection`.*1\.2"):
        complete(observed, Prediction(nearly, nearly * 1.2))


@pytest.mark.parametrize("part", ["count", "detection", "value"])
def test_missing_predictions_are_refused(observed, part):
    good = np.full(observed.n_targets, 0.5)
    bad = good.copy()
    bad[[3, 5]] = np.nan, np.inf
    with pytest.raises(ValueError, match=f"`{part}` must be finite.*2 of {observed.n_targets}"):
        complete(observed, Prediction(**{"count": good, part: bad}))


@pytest.mark.parametrize(("answer", "error"), [(np.zeros(3), ValueError), ([0.5], TypeError), (None, TypeError)])
def test_answers_of_a_wrong_kind_are_refused(observed, answer, error):
    with pytest.raises(error, match=r"shape \(3,\)|array or a Prediction"):
        check_prediction(observed, answer)
