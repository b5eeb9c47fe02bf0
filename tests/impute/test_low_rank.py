from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.impute import low_rank as module
from scanpy_sct.impute.low_rank import fit_low_rank, fit_trust, trust_evidence

N_CELLS, N_GENES = 300, 200


@pytest.fixture(scope="module")
def data():
    """Counts of three programs, a third of the entries hidden."""
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.4, 3, (3, N_GENES))
    rates = rng.dirichlet([0.3] * 3, N_CELLS) @ programs * rng.lognormal(0, 0.4, (N_CELLS, 1))
    counts = rng.poisson(rates)
    hidden = rng.random(counts.shape) < 0.3
    return rates, counts, hidden


def fit(counts, hidden, unit=1.0, seed=0):
    visible = sparse.csr_matrix(np.log1p(unit * np.where(hidden, 0, counts)).astype(np.float32))
    return fit_low_rank(visible, lambda rows: hidden[rows], seed)


def trusted(fitted, counts, hidden, unit=1.0):
    truth = sparse.csr_matrix(np.log1p(unit * counts).astype(np.float32))
    return fit_trust(*trust_evidence(fitted, truth, lambda rows: hidden[rows], 0))


def test_mean_and_totals_rest_on_what_is_visible(data):
    _, counts, hidden = data
    fitted = fit(counts, hidden)
    seen = np.where(hidden, 0, counts)
    total = seen.sum(1)
    normalised = np.log1p(seen / total[:, None] * 1e4)
    np.testing.assert_allclose(fitted.total, total, rtol=1e-5)
    np.testing.assert_allclose(fitted.mean, normalised.sum(0) / (~hidden).sum(0), rtol=1e-4)


def test_trust_keeps_the_programs_and_drops_the_noise(data):
    _, counts, hidden = data
    trust = trusted(fit(counts, hidden), counts, hidden)
    assert trust.min() >= 0
    assert trust.max() <= 1
    assert (np.diff(trust) <= 1e-6).all()
    assert trust[0] > 0.8
    assert trust[20:].max() < 0.2


def test_hidden_entries_are_predicted(data):
    rates, counts, hidden = data
    fitted = fit(counts, hidden)
    trust = trusted(fitted, counts, hidden)
    rows, columns = np.nonzero(hidden)
    detection, level = fitted.entries(rows, columns, slice(None), trust)
    truth = 1 - np.exp(-rates[hidden])
    assert np.corrcoef(detection, truth)[0, 1] > 0.85
    everything = fitted.entries(rows, columns, slice(None), np.ones_like(trust))[0]
    assert ((detection - truth) ** 2).mean() < 0.8 * ((everything - truth) ** 2).mean()
    assert (level > 0).all()


def test_hidden_values_have_no_influence(data):
    _, counts, hidden = data
    one, other = fit(counts, hidden), fit(np.where(hidden, 9, counts), hidden)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.components, other.components)


def test_log_normalised_values_give_the_same_probabilities_in_their_own_unit(data):
    _, counts, hidden = data
    per_cell = np.where(hidden, 0, counts)
    unit = (1e4 / per_cell.sum(1))[:, None]
    rows, columns = np.nonzero(hidden)
    plain, scaled = fit(counts, hidden), fit(counts, hidden, unit)
    trust = np.full(len(plain.components), 0.5, dtype=np.float32)
    ones = plain.entries(rows, columns, slice(None), trust)
    others = scaled.entries(rows, columns, slice(None), trust)
    np.testing.assert_allclose(ones[0], others[0], atol=1e-3)
    expected = np.log1p(np.expm1(ones[1]) * unit[rows, 0])
    np.testing.assert_allclose(others[1], expected, rtol=1e-2)


def test_many_cells_are_projected_on_components_of_some(data, monkeypatch):
    rates, counts, hidden = data
    monkeypatch.setattr(module, "MAX_CELLS", 150)
    monkeypatch.setattr(module, "CELLS_AT_ONCE", 70)
    fitted = fit(counts, hidden)
    assert fitted.scores.shape[0] == N_CELLS
    trust = trusted(fitted, counts, hidden)
    detection, _ = fitted.entries(*np.nonzero(hidden), slice(None), trust)
    assert np.corrcoef(detection, 1 - np.exp(-rates[hidden]))[0, 1] > 0.75


def test_empty_cells_and_genes_without_counts(data):
    _, counts, hidden = data
    counts = counts.copy()
    counts[5], counts[:, 7] = 0, 0
    fitted = fit(counts, hidden)
    detection, level = fitted.entries(*np.nonzero(hidden), slice(None), np.ones(len(fitted.components)))
    assert np.isfinite(detection).all()
    assert np.isfinite(level).all()
