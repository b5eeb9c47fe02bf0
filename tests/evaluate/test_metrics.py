"""Metrics of plain arrays, beside well-known implementations or the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import average_precision_score, matthews_corrcoef

from scanpy_sct.evaluate.metrics import bootstrap, correlation, profiles
from scanpy_sct.evaluate.metrics.bins import confusion_sums, expression_bins, mcc_score, rate_matched
from scanpy_sct.evaluate.metrics.bootstrap import draw_weights, estimate, group_cells, ratio, sums_by
from scanpy_sct.evaluate.metrics.detection import calibration_score, calibration_sums, precision_score, precision_sums
from scanpy_sct.evaluate.metrics.strata import GENE_STRATA, gene_strata


def in_one_group(n: int) -> tuple[np.ndarray, int]:
    """Group of each entry where all are in one, and the number of groups."""
    return np.zeros(n, dtype=int), 1


def average_precision(detected: np.ndarray, score: np.ndarray) -> float:
    return precision_score(precision_sums(detected, score, *in_one_group(len(score))))[0]


def calibration_error(detected: np.ndarray, probability: np.ndarray) -> float:
    return calibration_score(calibration_sums(detected, probability, *in_one_group(len(probability))))[0]


def gene_pearson(truth: np.ndarray, value: np.ndarray, gene: np.ndarray) -> float:
    keep, unit, genes = correlation.often_detected(truth, gene)
    sums = correlation.pearson_sums(truth[keep], value[keep], unit, len(genes), *in_one_group(len(unit)))
    return correlation.mean_pearson(sums)[0]


def bin_mcc(truth: np.ndarray, predicted: np.ndarray) -> float:
    return mcc_score(confusion_sums(truth, predicted, 5, *in_one_group(len(truth))))[0]


def test_average_precision():
    detected = np.array([True, False, True, False])
    assert average_precision(detected, np.array([4, 3, 2, 1])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(detected, np.zeros(4)) == pytest.approx(0.5)
    assert np.isnan(average_precision(np.zeros(4, dtype=bool), np.zeros(4)))


@pytest.mark.parametrize("rate", [0.002, 0.06, 0.5])
@pytest.mark.parametrize("decimals", [2, 7])
def test_average_precision_is_that_of_sklearn(rate, decimals):
    """With many ties, and with more detected entries than there are bins."""
    rng = np.random.default_rng(0)
    detected = rng.random(200_000) < rate
    score = (rng.normal(0, 1, len(detected)) + 1.5 * detected).round(decimals).astype(np.float32)
    assert average_precision(detected, score) == pytest.approx(average_precision_score(detected, score), abs=1e-3)


def test_average_precision_is_exact_for_few_entries():
    rng = np.random.default_rng(1)
    detected, score = rng.random(2000) < 0.3, rng.random(2000).astype(np.float32)
    assert average_precision(detected, score) == pytest.approx(average_precision_score(detected, score))


def test_calibration_error():
    detected = np.array([True] * 3 + [False] * 7)
    assert calibration_error(detected, np.full(10, 0.3)) == pytest.approx(0)
    assert calibration_error(detected, np.full(10, 0.8)) == pytest.approx(0.5)
    assert calibration_error(detected, 1.0 - detected) == pytest.approx(1)
    assert calibration_error(detected, 1.0 * detected) == 0


@pytest.fixture
def by_gene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measured and predicted values, and genes: the prediction of gene 1 is constant, gene 3 is never detected."""
    rng = np.random.default_rng(0)
    gene = rng.integers(4, size=2000)
    truth = (rng.poisson(1.0, 2000) * (gene < 3)).astype(np.float32)
    value = np.maximum(truth + rng.normal(0, 1, 2000), 0).astype(np.float32)
    value[gene == 1] = 0.1
    return truth, value, gene


def test_gene_pearson(by_gene):
    truth, value, gene = by_gene
    oracle = [np.corrcoef(truth[gene == g], value[gene == g])[0, 1] for g in (0, 2)]
    # Gene 1 counts as 0; gene 3 does not count.
    assert gene_pearson(*by_gene) == pytest.approx(sum(oracle) / 3, abs=1e-6)
    assert len(correlation.often_detected(truth, gene, 2000)[2]) == 0


def test_a_constant_guess_has_no_correlation_however_it_is_rounded():
    rng = np.random.default_rng(0)
    gene = np.repeat([0, 1], 5000)
    truth = rng.poisson(1.0, 10000).astype(np.float32)
    assert gene_pearson(truth, np.where(gene == 0, 0.1, 3.3).astype(np.float32), gene) == 0


@pytest.mark.parametrize("shift", [0, -1])
def test_ranks_are_those_of_scipy(by_gene, shift):
    """With ties, with values below zero, in no order of units."""
    _, value, gene = by_gene
    value = value + np.float32(shift)
    found = correlation.ranks(value, gene, 4)
    for g in range(4):
        np.testing.assert_array_equal(found[gene == g], stats.rankdata(value[gene == g]))
    assert correlation.ranks(value[:0], gene[:0], 4).shape == (0,)
    np.testing.assert_array_equal(
        correlation.ranks(np.zeros(4, dtype=np.float32), np.array([0, 0, 0, 2]), 3), [2, 2, 2, 1]
    )


def test_rank_correlation_of_rounding_noise_is_none(by_gene):
    truth, value, gene = by_gene
    keep, unit, genes = correlation.often_detected(truth, gene)
    np.testing.assert_array_equal(genes, [0, 1, 2])
    noise = np.random.default_rng(1).random(len(value)) * 1e-10
    pair = truth[keep], np.where(gene == 1, noise, value).astype(np.float32)[keep]
    places = unit, 3, np.zeros_like(unit), 1
    sums = correlation.pearson_sums(*pair, *places)
    ranked = correlation.pearson_sums(*correlation.ranks_of_both(*pair, unit, 3, sums), *places)
    oracle = [stats.spearmanr(truth[gene == g], value[gene == g])[0] if g != 1 else 0 for g in range(3)]
    np.testing.assert_allclose(correlation.pearson(ranked)[0], oracle, atol=1e-7)


def naive_profiles(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """SSIM, RMSE of standardised values and JS divergence as the benchmark's paper describes them."""
    a, b = x / x.max(), y / y.max()
    (m, n), (s, t) = (a.mean(), b.mean()), (a.std(), b.std())
    covariance = ((a - m) * (b - n)).mean()
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * m * n + c1) / (m**2 + n**2 + c1) * (2 * s * t + c2) / (s**2 + t**2 + c2)
    ssim *= (covariance + c2 / 2) / (s * t + c2 / 2)
    rmse = np.sqrt(np.mean((stats.zscore(x) - stats.zscore(y)) ** 2))
    return ssim, rmse, jensenshannon(x / x.sum(), y / y.sum()) ** 2


def test_profiles_are_compared_as_in_the_benchmark(by_gene):
    truth, value, gene = by_gene
    keep = np.isin(gene, [0, 2])
    truth, value, gene = truth[keep], value[keep], gene[keep] // 2
    places = gene, 2, np.zeros_like(gene), 1
    sums = correlation.pearson_sums(truth, value, *places)
    centre = np.array([[v[gene == g].mean() for g in range(2)] for v in (truth, value)])
    largest = np.array([[v[gene == g].max() for g in range(2)] for v in (truth, value)])
    found = [
        profiles.ssim(sums, centre, largest)[0],
        profiles.rmse_z(sums)[0],
        profiles.js_divergence(profiles.js_sums(truth, value, *places))[0],
    ]
    for g in range(2):
        oracle = naive_profiles(truth[gene == g].astype(float), value[gene == g].astype(float))
        np.testing.assert_allclose([part[g] for part in found], oracle, rtol=1e-4)


def test_the_same_profile_is_perfect_and_nothing_is_as_good_as_the_same_everywhere(by_gene):
    truth, _, gene = by_gene
    places = np.zeros(500, dtype=int), 1, np.zeros(500, dtype=int), 1
    profile = truth[gene == 0][:500] if (gene == 0).sum() >= 500 else np.resize(truth[gene == 0], 500)
    sums = correlation.pearson_sums(profile, profile, *places)
    one = np.full((2, 1), profile.mean()), np.full((2, 1), profile.max())
    assert profiles.ssim(sums, *one)[0, 0] == pytest.approx(1)
    assert profiles.rmse_z(sums)[0, 0] == pytest.approx(0, abs=1e-6)
    assert profiles.js_divergence(profiles.js_sums(profile, profile, *places))[0, 0] == 0
    zero, constant = np.zeros_like(profile), np.ones_like(profile)
    assert profiles.rmse_z(correlation.pearson_sums(profile, zero, *places))[0, 0] == 1
    np.testing.assert_allclose(profiles.js_sums(profile, zero, *places), profiles.js_sums(profile, constant, *places))


def test_rate_matched():
    score = np.random.default_rng(0).random(1000)
    called = rate_matched(score, 0.06)
    assert called.sum() == pytest.approx(60, abs=1)
    assert score[called].min() > score[~called].max()


@pytest.mark.parametrize(("rate", "n_called"), [(0, 0), (0.2, 3), (0.45, 3), (0.9, 10)])
def test_rate_matched_keeps_ties_together(rate, n_called):
    score = np.array([0.9] * 3 + [0.1] * 7)
    assert rate_matched(score, rate).sum() == n_called


def test_expression_bins():
    edges = np.array([[1.0, 2.0, 3.0, 4.0, 5.01], [0.9, 1.1, np.nan, np.nan, np.nan], [np.nan] * 5])
    value = np.array([0.2, 1.0, 2.5, 4.0, 99.0, 1.0, 3.0, 2.0])
    cell = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(expression_bins(value, cell, edges), [1, 1, 2, 4, 4, 1, 2, 1])


def test_bin_mcc():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=500)
    predicted = np.where(rng.random(500) < 0.5, truth, rng.integers(4, size=500))
    assert bin_mcc(truth, predicted) == pytest.approx(matthews_corrcoef(truth, predicted))
    assert bin_mcc(truth, np.zeros(500, dtype=int)) == 0
    assert bin_mcc(truth, truth) == pytest.approx(1)


def test_strata_of_genes():
    rates = np.array([0, 0.0099, 0.01, 0.0999, 0.1, 0.5, 0.51, 1])
    np.testing.assert_array_equal(gene_strata(rates), [0, 0, 1, 1, 2, 2, 3, 3])
    assert len(GENE_STRATA) == 4


def test_samples_are_drawn_again_where_there_are_enough():
    rng = np.random.default_rng(0)
    samples = np.repeat([0, 3, 4, 7, 9], 30)
    groups = group_cells(samples, rng)
    assert sorted(groups[::30]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(groups, np.repeat(groups[::30], 30))
    groups = group_cells(np.repeat([0, 1, 2, 3], 50), rng)
    np.testing.assert_array_equal(np.bincount(groups), [4] * 50)
    assert np.bincount(group_cells(np.arange(1000), rng)).tolist() == [5] * 200


def test_resampling_sums_is_resampling_entries():
    """Average precision of drawn groups, once from sums and once from the entries themselves."""
    rng = np.random.default_rng(0)
    detected = rng.random(1000) < 0.3
    score = (rng.random(1000) + 0.3 * detected).astype(np.float32)
    group = rng.integers(6, size=1000)
    sums = precision_sums(detected, score, group, 6)
    for weights in draw_weights(6, 5, rng):
        assert weights.sum() == 6
        direct = average_precision_score(detected, score, sample_weight=weights[group])
        assert precision_score(np.tensordot(weights, sums, 1)[None])[0] == pytest.approx(direct)


def test_the_interval_is_that_of_a_mean(monkeypatch):
    """About 1.96 standard errors on either side, in whatever parts it is computed."""
    rng = np.random.default_rng(0)
    values, group = rng.normal(3, 1, 5000), np.arange(5000) % 50
    sums = sums_by(group, [values, None], (50,))
    weights = draw_weights(50, 2000, rng)
    found = estimate(sums, ratio, weights)
    assert found.value == pytest.approx(values.mean())
    error = np.std(values) / np.sqrt(5000)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * error, rel=0.25)
    assert found.lower < found.value < found.upper
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7)
    np.testing.assert_allclose(estimate(sums, ratio, weights), found)


def test_no_resampling_no_interval():
    found = estimate(np.ones((4, 2)), ratio, np.empty((0, 4)))
    assert found.value == 1
    assert np.isnan(found.lower)
    assert np.isnan(found.upper)
