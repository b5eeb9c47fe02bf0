from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from scanpy_sct.evaluate.metrics import (
    average_precision,
    bin_mcc,
    expected_calibration_error,
    expression_bins,
    gene_pearson,
    rate_matched,
)


def test_average_precision():
    expressed = np.array([True, False, True, False])
    assert average_precision(expressed, np.array([4, 3, 2, 1])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(expressed, np.zeros(4)) == pytest.approx(0.5)
    assert np.isnan(average_precision(np.zeros(4, dtype=bool), np.zeros(4)))


def test_calibration_error():
    expressed = np.array([True] * 3 + [False] * 7)
    assert expected_calibration_error(expressed, np.full(10, 0.3)) == pytest.approx(0)
    assert expected_calibration_error(expressed, np.full(10, 0.8)) == pytest.approx(0.5)
    assert expected_calibration_error(expressed, 1.0 - expressed) == pytest.approx(1)
    assert expected_calibration_error(expressed, 1.0 * expressed) == 0


def test_gene_pearson():
    rng = np.random.default_rng(0)
    gene = rng.integers(4, size=2000)
    truth = (rng.poisson(1.0, 2000) * (gene < 3)).astype(np.float32)
    value = (truth + rng.normal(0, 1, 2000)).astype(np.float32)
    value[gene == 1] = 0.1
    oracle = [np.corrcoef(truth[gene == g], value[gene == g])[0, 1] for g in (0, 2)]
    # Gene 1 is constant and counts as 0; gene 3 is never expressed and does not count.
    assert gene_pearson(truth, value, gene) == pytest.approx(sum(oracle) / 3, abs=1e-6)
    assert np.isnan(gene_pearson(truth, value, gene, min_expressed=2000))


def test_a_constant_guess_has_no_correlation_however_it_is_rounded():
    rng = np.random.default_rng(0)
    gene = np.repeat([0, 1], 5000)
    truth = rng.poisson(1.0, 10000).astype(np.float32)
    assert gene_pearson(truth, np.where(gene == 0, 0.1, 3.3).astype(np.float32), gene) == 0


def test_rate_matched():
    score = np.random.default_rng(0).random(1000)
    called = rate_matched(score, 0.06)
    assert called.sum() == pytest.approx(60, abs=1)
    assert score[called].min() > score[~called].max()


@pytest.mark.parametrize(("rate", "n_called"), [(0.2, 3), (0.45, 3), (0.9, 10)])
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
