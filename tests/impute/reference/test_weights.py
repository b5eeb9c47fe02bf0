from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from scanpy_sct.impute.reference.weights import KINDS, PRIOR, Sources, fit_weights

TRUE = np.array([0.3, 0.6, 0.7, 0.2, 0.1, -0.4])


def simulated(n_genes, n_cells=400, seed=0):
    """Sources with levels and deviations of their own, and values that are detected as `TRUE` says."""
    rng = np.random.default_rng(seed)
    tables = [(rng.normal(-1, 1, n_genes) + rng.normal(0, 1, (n_cells, n_genes))).astype(np.float32) for _ in range(3)]
    means = [np.full((n_cells, n_genes), value, dtype=np.float32) for value in (1.0, 2.0)]
    sources = Sources(*tables, *means)
    levels = sources.levels
    log_odds = TRUE[0] * levels[0] + TRUE[1] * levels[1] + TRUE[5]
    for weight, table, level in zip(TRUE[2:5], tables, levels, strict=True):
        log_odds = log_odds + weight * (table - level)
    detected = rng.random((n_cells, n_genes)) < expit(log_odds)
    return sources, np.where(detected, 1.5, 0.0), log_odds


def test_weights_are_found_again():
    sources, values, log_odds = simulated(150)
    weights = fit_weights(sources, values, np.ones(values.shape, dtype=bool), np.ones(len(values)))
    np.testing.assert_allclose(weights.detection[0], TRUE, atol=0.07)
    blended, mean = weights.of_genes(np.zeros(150, dtype=int), sources.levels).blend(sources)
    np.testing.assert_allclose(blended, expit(log_odds), atol=0.05)
    # Values lie halfway between both conditional means.
    np.testing.assert_allclose(mean, 1.5, atol=1e-4)


def test_kinds_use_their_own_sources_only():
    sources, values, _ = simulated(150)
    weights = fit_weights(sources, values, np.ones(values.shape, dtype=bool), np.ones(len(values)))
    for kind, unused in (("reference", (sources.network, sources.network_mean)), ("network", sources.log_odds[1:])):
        of_kind = weights.of_genes(np.full(150, KINDS.index(kind)), sources.levels)
        before = of_kind.blend(sources)
        for table in unused:
            table += 1
        for old, new in zip(before, of_kind.blend(sources), strict=True):
            np.testing.assert_array_equal(old, new)
    assert weights.explained[0] > weights.explained[1:].max()


def test_few_genes_stay_near_the_prior():
    distance = []
    for n_genes in (10, 150):
        sources, values, _ = simulated(n_genes)
        weights = fit_weights(sources, values, np.ones(values.shape, dtype=bool), np.ones(len(values)))
        distance.append(np.abs(weights.detection[0] - PRIOR[0]).max())
    assert distance[0] < 0.2 * distance[1]


def test_hidden_entries_do_not_count():
    sources, values, _ = simulated(120)
    visible = np.random.default_rng(2).random(values.shape) < 0.7
    changed = np.where(visible, values, 9.0)
    for name in ("detection", "mean", "count", "explained"):
        one, other = (
            getattr(fit_weights(sources, each, visible, np.ones(len(values))), name) for each in (values, changed)
        )
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("units", [1.0, 25.0])
def test_conditional_means_are_those_of_counts_in_the_unit_of_the_cell(units):
    expected = np.array([[0.01, 3.0]], dtype=np.float32)
    network = np.zeros((1, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32)
    sources = Sources.of(network, (expected, expected), np.array([units]))
    counts = np.arange(1, 60)
    poisson = np.exp(-3.0) * np.cumprod(3.0 / counts)
    np.testing.assert_allclose(
        sources.reference_mean[0],
        np.log1p(units * np.array([1.005, (counts * poisson).sum() / poisson.sum()])),
        rtol=1e-3,
    )
    np.testing.assert_allclose(expit(sources.neighbors[0]), 1 - np.exp(-expected[0]), rtol=1e-4)
