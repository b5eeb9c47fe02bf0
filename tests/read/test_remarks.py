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
