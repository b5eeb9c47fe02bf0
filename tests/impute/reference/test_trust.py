from __future__ import annotations

import numpy as np

from scanpy_sct.impute.reference.trust import MIN_GENES, correlations, estimate_trust, trust_features


def test_correlations_of_used_entries():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50, 3))
    second[:, 2] = 4.0
    used = rng.random((50, 3)) < 0.6
    found = correlations(first, second, used)
    for gene in range(2):
        rows = used[:, gene]
        np.testing.assert_allclose(found[gene], np.corrcoef(first[rows, gene], second[rows, gene])[0, 1])
    assert np.isnan(found[2])


def test_trust_follows_what_explains_the_correlation():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 4))
    correlation = np.clip(0.4 + 0.2 * features[:, 1], 0, 1)
    trust = estimate_trust(features[:200], correlation[:200], features[200:])
    assert np.abs(trust - correlation[200:]).mean() < 0.03
    assert trust.min() >= 0
    assert trust.max() <= 1


def test_trust_is_unknown_with_few_genes():
    features = np.ones((MIN_GENES - 1, 3))
    assert np.isnan(estimate_trust(features, np.linspace(0, 1, len(features)), np.ones((4, 3)))).all()


def test_features_are_finite_for_constant_predictions():
    features = trust_features(np.zeros((10, 2)), np.array([-8.0, 0.0]), np.array([np.nan, 0.5]))
    assert np.isfinite(features).all()
