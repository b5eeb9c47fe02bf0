from __future__ import annotations

import numpy as np
from scipy import sparse

from scanpy_sct.annotate import features
from scanpy_sct.annotate.features import (
    difference,
    fit_components,
    normalised_genes,
    standardisation,
    variable_genes,
)


def test_normalised_genes_counts_the_chosen_genes_only():
    counts = np.array([[1, 3, 96], [0, 0, 5], [2, 2, 0]], dtype=np.float32)
    values = sparse.csr_matrix(np.log1p(counts))
    result = normalised_genes(values, np.array([0, 1]))
    np.testing.assert_allclose(np.expm1(result.toarray()), [[2500, 7500], [0, 0], [5000, 5000]], rtol=1e-4)
    np.testing.assert_allclose(np.expm1(values.toarray()), counts, rtol=1e-6)  # not changed in place
    assert result.dtype == np.float32


def test_variable_genes(monkeypatch):
    rng = np.random.default_rng(0)
    values = np.log1p(rng.poisson(1, size=(100, 30))).astype(np.float32)
    assert variable_genes(sparse.csr_matrix(values)).all()
    values[:, 7] = np.log1p(np.where(np.arange(100) < 5, 20, 0))  # the mean of the others, a larger variance
    monkeypatch.setattr(features, "N_VARIABLE_GENES", 3)
    chosen = variable_genes(sparse.csr_matrix(values))
    assert chosen.sum() == 3
    assert chosen[7]


def test_standardisation_of_a_constant_feature():
    mean, scale = standardisation(np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32))
    assert mean.tolist() == [2, 5]
    assert scale.tolist() == [1, 1]
    assert mean.dtype == scale.dtype == np.float32


def test_principal_components_have_one_unit_and_keep_what_varies():
    rng = np.random.default_rng(0)
    side = rng.normal(size=(80, 1))
    values = side @ rng.normal(size=(1, 30)) * 5 + rng.normal(size=(80, 30))
    one, components = fit_components(sparse.csr_matrix(values), 0)
    same = components.transform(sparse.csr_matrix(values[:5]))
    assert one.shape == (80, 29)
    np.testing.assert_allclose(one.std(), 1)
    np.testing.assert_allclose(one[:5], same, atol=1e-4)
    assert abs(np.corrcoef(one[:, 0], side[:, 0])[0, 1]) > 0.99
    assert one[:, 0].std() > 3 * one[:, 1].std()


def test_difference():
    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(200, 5)), rng.normal(size=(150, 5))
    other = same + np.array([4, 0, 0, 0, 0])
    assert abs(difference(one, same, 0) - 0.5) < 0.1
    assert difference(one, other, 0) > 0.95
    assert difference(one, other[:10], 0) > 0.95
    assert np.isnan(difference(one, same[:9], 0))
    assert np.isnan(difference(one[:9], same, 0))
