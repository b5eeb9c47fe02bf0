from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.impute.recovery import RIGHT_ON_AVERAGE, TRUSTED, Moments, warn_if_smoothed
from scanpy_sct.plan.passes import NOT_MASKED

ROOT = Path(__file__).resolve().parents[2]


def test_limits_of_trust_are_those_that_the_benchmark_found():
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "recovery.csv")
    just_above = table[table["recovery"].str.startswith(f"{TRUSTED} to ")]
    assert len(just_above) == 4
    assert just_above["tenth"].min() >= 0.205
    below = table["recovery"].isin(["below 0.05", f"0.05 to {RIGHT_ON_AVERAGE}"]) & (table["n_genes"] >= 10)
    assert below.any()
    assert table.loc[below, "median"].max() < 0.145


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("docs/which_genes.md", f'adata.var["sct_recovery"] >= {TRUSTED}]'),
        ("docs/which_genes.md", f"**Those whose recovery is above {TRUSTED}."),
        ("docs/which_genes.md", f"- **Above {TRUSTED}** "),
        ("docs/which_genes.md", f"- **{RIGHT_ON_AVERAGE} to {TRUSTED}**"),
        ("docs/which_genes.md", f"- **Below {RIGHT_ON_AVERAGE}** "),
        ("docs/panels.md", f"- A trust of {TRUSTED} or more"),
        ("docs/faq.md", f"Above {TRUSTED}, the imputed gene"),
        ("docs/faq.md", f"from {RIGHT_ON_AVERAGE} to {TRUSTED}\n"),
        ("docs/faq.md", f"below {RIGHT_ON_AVERAGE} do not interpret it"),
        ("docs/quickstart.md", f"Above {TRUSTED}, an imputed gene"),
        ("src/scanpy_sct/pl/_recovery.py", f"(recovery of {TRUSTED} or more)"),
        ("src/scanpy_sct/pl/_recovery.py", f"({RIGHT_ON_AVERAGE} to {TRUSTED}:"),
    ],
)
def test_pages_name_these_limits(file, words):
    assert words in (ROOT / file).read_text(encoding="utf-8")


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
    assert "smoothed or imputed already" in caplog.text
