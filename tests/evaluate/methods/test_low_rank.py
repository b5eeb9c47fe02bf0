"""SVD beside numpy's own, ALRA by what its paper promises."""

from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.evaluate.methods.low_rank import alra, choose_rank, keep_what_stands_out, svd


def test_svd_fills_in_means_and_goes_back_to_counts(observed):
    counts, hidden = observed.counts.toarray().astype(float), observed.hidden
    depth = counts.sum(axis=1, keepdims=True)
    log = np.ma.array(np.log1p(counts / depth * 1e4), mask=hidden)
    left, size, right = np.linalg.svd(log.filled(log.mean(axis=0)), full_matrices=False)
    rebuilt = (left[:, :5] * size[:5]) @ right[:5]
    expected = np.expm1(np.maximum(rebuilt, 0)) * depth / 1e4
    np.testing.assert_allclose(svd(observed, n_components=5), expected[hidden], rtol=1e-3, atol=1e-5)


def test_svd_of_all_components_gives_visible_counts_back(thinned, counts):
    # One of 40 directions, the smallest, is left out.
    assert np.abs(svd(thinned, n_components=39).reshape(counts.shape) - counts).mean() < 0.05


@pytest.mark.parametrize("rank", [3, 8])
def test_alra_finds_the_rank_of_a_planted_matrix(rank):
    noise = np.linspace(10, 5, 100 - rank) + np.random.default_rng(rank).uniform(-0.01, 0.01, 100 - rank)
    assert choose_rank(np.append(np.linspace(100, 20, rank), noise)) == rank


@pytest.mark.parametrize("rank", [3, 8])
def test_alra_finds_the_rank_under_random_noise_or_a_little_more(rank):
    """Gaps are wider at the edge of the noise than in its midst, so that the rule takes some of the noise along."""
    rng = np.random.default_rng(rank)
    planted = rng.normal(size=(400, rank)) @ rng.normal(size=(rank, 300))
    sizes = np.linalg.svd(planted + rng.normal(size=planted.shape), compute_uv=False)[:100]
    assert rank <= choose_rank(sizes) <= rank + 3


def test_rank_of_nothing_but_noise_is_one():
    assert choose_rank(np.linspace(10, 1, 100)) == 1
    assert choose_rank(np.array([3.0, 1.0])) == 2


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expression of low rank with true zeros, measured with dropout; and its approximation, off by symmetric errors."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random((500, 6)) < 0.5, 0, rng.gamma(20, 0.1, (500, 6)))
    measured = np.where(rng.random(truth.shape) < 0.4, 0, truth)
    return measured, 0.6 * truth + rng.normal(0, 0.05, truth.shape), truth


def test_alra_keeps_true_zeros_and_fills_in_the_others(planted):
    measured, rebuilt, truth = planted
    completed = keep_what_stands_out(rebuilt, measured)
    # Errors about a true zero are symmetric, so that the threshold of the most negative ones stops the positive ones.
    assert (completed[truth == 0] == 0).mean() > 0.99
    assert (completed[truth > 0] > 0).all()
    assert np.corrcoef(completed[truth > 0], truth[truth > 0])[0, 1] > 0.9


def test_alra_keeps_mean_and_deviation_of_what_is_expressed(planted):
    measured, rebuilt, _ = planted
    completed = keep_what_stands_out(rebuilt, measured)
    for done, before, approximation in zip(completed.T, measured.T, rebuilt.T, strict=True):
        scaled = done[approximation > -np.quantile(approximation, 0.001)]
        assert scaled.mean() == pytest.approx(before[before > 0].mean(), rel=1e-6)
        assert scaled.std(ddof=1) == pytest.approx(before[before > 0].std(ddof=1), rel=1e-6)


def test_alra_puts_measured_values_back_and_nothing_else():
    measured = np.zeros((1000, 2))
    measured[:3, 0], measured[:, 1] = [1.0, 2.0, 3.0], 1.0
    rebuilt = np.zeros((1000, 2))
    rebuilt[:, 0] = np.linspace(-1, 0.5, 1000)
    completed = keep_what_stands_out(rebuilt, measured)
    np.testing.assert_array_equal(completed, measured)


def test_alra_on_hidden_entries_does_not_know_the_share_that_is_hidden(planted):
    """Zeros for hidden entries lower a gene's approximation by one factor, which makes no difference."""
    measured, rebuilt, _ = planted
    np.testing.assert_allclose(keep_what_stands_out(rebuilt * 0.3, measured), keep_what_stands_out(rebuilt, measured))


def test_alra_never_loses_a_count_and_keeps_the_depth(thinned, counts):
    completed = alra(thinned).reshape(counts.shape)
    assert (completed[counts > 0] > 0).all()
    assert (completed == 0).any()
    np.testing.assert_allclose(completed.sum(axis=1), counts.sum(axis=1), rtol=1e-5)
