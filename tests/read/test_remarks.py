from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.remarks import remarks

RNG = np.random.default_rng(0)
TYPES = RNG.gamma(0.5, 1.0, (4, 120))
COUNTS = RNG.poisson(TYPES[RNG.integers(4, size=150)] * RNG.lognormal(0, 0.4, (150, 1))).astype(float)
LOGS = np.log1p(COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e4)


def found(values, scale="log"):
    return remarks(sparse.csr_matrix(values.astype(np.float32)), scale, "adata.X")


def smoothed(values):
    left, weights, right = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    return np.clip((left[:, :4] * weights[:4]) @ right[:4] + values.mean(axis=0), 1e-4, None)


@pytest.mark.parametrize(
    "values", [LOGS / LOGS.max(axis=0), LOGS / LOGS.std(axis=0), smoothed(LOGS)], ids=["largest", "spread", "smooth"]
)
def test_nothing_is_said_about_few_genes(values):
    often = np.argsort(-(values > 0).sum(axis=0), kind="stable")
    assert len(found(values[:, often[:20]])) == 1
    assert found(values[:, often[:19]]) == []


def test_ones_may_be_counts_where_twos_would_be_rare():
    """A gene that a tenth of the cells detect has twos in 0.5 % of them: 20.2 are expected, or 19.7."""
    ones = np.zeros((100, 39))
    ones[:10] = 1
    assert "binarising" in found(ones, "counts")[0]
    assert found(ones[:, :38], "counts") == []
    assert "binarising" in found(np.ones((30, 2)), "counts")[0]


@pytest.mark.parametrize(
    ("n_cells", "n_detecting", "is_enough"), [(100, 5, True), (100, 4, False), (20, 3, True), (20, 2, False)]
)
def test_genes_that_few_cells_detect_say_nothing(n_cells, n_detecting, is_enough):
    values = np.zeros((n_cells, 30))
    values[:n_detecting] = np.random.default_rng(0).uniform(0.5, 1, (n_detecting, 30))
    assert bool(found(values / values.max(axis=0))) == is_enough


def test_genes_of_another_spread_are_not_scaled():
    scaled = LOGS / LOGS.std(axis=0)
    for factor in (np.linspace(1, 2, 120), np.linspace(0.4, 1, 120)):
        assert found(scaled * factor) == []
    deep = np.log1p(RNG.poisson(50, (150, 40)))
    assert "standard deviation of one" in found(deep / deep.std(axis=0))[0]


@pytest.mark.parametrize(("zeros", "is_remarked"), [(0.01, True), (0.03, False)])
def test_smoothed_values_have_hardly_any_zeros(zeros, is_remarked):
    values = smoothed(LOGS)
    values[np.random.default_rng(0).random(values.shape) < zeros] = 0
    assert bool(found(values)) == is_remarked
    values[5] = 0  # an empty cell
    values[:, ::20] = 0  # genes that no cell has
    assert bool(found(values)) == is_remarked


@pytest.mark.parametrize(("n_zeros", "is_remarked"), [(60, True), (61, False)])
def test_two_percent_of_zeros_are_hardly_any(n_zeros, is_remarked):
    values = np.random.default_rng(0).gamma(20, 1, (50, 60))
    order = np.random.default_rng(1).permutation(3000)
    values.ravel()[order[:n_zeros]] = 0
    values.ravel()[order[-100:]] = 0.1
    assert bool(found(values, "linear")) == is_remarked


def test_smoothed_values_are_small_beside_the_others_of_their_cell():
    assert "smoothing" in found(100 * smoothed(COUNTS), "linear")[0]
    values = np.random.default_rng(0).gamma(20, 1, (150, 60))
    for fraction, n_remarks in ((0.005, 0), (0.02, 1)):
        small = np.random.default_rng(1).random(values.shape) < fraction
        assert len(found(np.where(small, 0.1, values), "linear")) == n_remarks


@pytest.mark.parametrize(("small", "is_remarked"), [(0.99, True), (1.0, False)])
def test_a_fiftieth_of_the_median_is_not_small(small, is_remarked):
    values = np.full((150, 60), 50.0)
    values[np.random.default_rng(0).random(values.shape) < 0.05] = small
    assert bool(found(values, "linear")) == is_remarked


def test_nothing_is_said_about_measured_values():
    deep = RNG.poisson(30 * RNG.gamma(2, 1, 100) * RNG.lognormal(0, 0.4, (150, 1))).astype(float)
    for values in (COUNTS, deep, COUNTS[:, :30], RNG.poisson(0.02, (150, 100)).astype(float)):
        assert found(values, "counts") == []
        assert found(values * RNG.beta(30, 2, values.shape), "linear") == []
        totals = np.maximum(values.sum(axis=1, keepdims=True), 1)
        for target in (100, 1e4, 1e6):
            assert found(np.log1p(values / totals * target)) == []
    assert found(np.zeros((5, 4)), "counts") == []


@pytest.mark.parametrize(
    ("values", "scale", "text"),
    [
        ((COUNTS > 0) * 1.0, "counts", r"All positive values of adata.X are 1, as after binarising"),
        ((COUNTS > 0) * np.log(2), "log", r"All positive values of adata.X are 0.6931, as after binarising"),
        (LOGS / LOGS.max(axis=0), "log", r"Most genes of adata.X have the same largest value, 1, as after scaling"),
        (LOGS / LOGS.std(axis=0), "log", r"All genes of adata.X have a standard deviation of one"),
        (smoothed(LOGS), "log", r"adata.X has hardly any zeros \(0.0%\).*as after smoothing or imputation"),
        (smoothed(COUNTS), "linear", r"adata.X has hardly any zeros"),
        (np.log1p(LOGS), "log", r"adata.X seems to hold logarithms of logarithms.*numpy.expm1"),
        (np.log1p(np.log1p(COUNTS)), "log", r"adata.X seems to hold logarithms of logarithms"),
    ],
)
def test_values_that_were_changed_are_remarked_upon(values, scale, text):
    with pytest.raises(AssertionError, match=text):
        assert found(values, scale) == [], found(values, scale)[0]
    assert len(found(values, scale)) == 1
