from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.impute.recovery import Moments, warn_if_smoothed
from scanpy_sct.plan.passes import NOT_MASKED


def test_correlation_within_passes_whatever_the_blocks():
    rng = np.random.default_rng(0)
    observed = rng.poisson(0.8, (60, 5)).astype(np.float32)
    predicted = (observed + rng.normal(0, 1, observed.shape)).astype(np.float32)
    pass_of = rng.integers(0, 3, observed.shape).astype(np.uint8)
    pass_of[:, 4] = NOT_MASKED
    known = np.array([True, True, False])
    parts = []
    for rows in (slice(0, 7), slice(7, 60)):
        parts.append(Moments.of(sparse.csr_matrix(observed[rows]), predicted[rows], pass_of[rows], known))
    found = (parts[0] + parts[1]).correlation()
    total = Moments.zeros(5, 3)
    total += parts[0]
    total += parts[1]
    np.testing.assert_allclose(total.correlation(), found)
    assert np.isnan(found[4])
    for gene in range(4):
        table = pd.DataFrame({"observed": observed[:, gene], "predicted": predicted[:, gene]})
        table = table[pass_of[:, gene] < 2]
        centred = table - table.groupby(pass_of[pass_of[:, gene] < 2, gene]).transform("mean")
        np.testing.assert_allclose(found[gene], centred.corr().iloc[0, 1], rtol=1e-5)


def test_a_constant_gene_has_no_correlation():
    moments = Moments.of(
        sparse.csr_matrix(np.ones((9, 1))), np.arange(9.0)[:, None], np.zeros((9, 1), np.uint8), np.array([True])
    )
    assert np.isnan(moments.correlation()).all()


def test_a_recovery_too_good_for_measured_values_is_reported(caplog):
    measured, smoothed = np.linspace(0, 0.95, 50), np.append(np.linspace(0.92, 1, 50), np.nan)
    warn_if_smoothed(measured)
    warn_if_smoothed(smoothed[:10])
    assert not caplog.records
    warn_if_smoothed(smoothed)
    assert "smoothed or imputed before" in caplog.text
