from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.impute import low_rank as module
from scanpy_sct.impute.calibrate import probability
from scanpy_sct.impute.low_rank import cell_scores, fit_low_rank, reconstruct_masked
from scanpy_sct.plan.passes import BlockMasks, Passes

N_CELLS, N_GENES = 300, 200


@pytest.fixture(scope="module")
def data():
    """Counts of three programs, their rates, and two passes."""
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.4, 3, (3, N_GENES))
    rates = rng.dirichlet([0.3] * 3, N_CELLS) @ programs * rng.lognormal(0, 0.4, (N_CELLS, 1))
    masks = BlockMasks(Passes(2, 0), np.arange(N_CELLS), np.arange(N_GENES), np.ones(N_GENES, dtype=bool))
    return rates, rng.poisson(rates), masks


def log_values(counts, unit=1.0):
    return sparse.csr_matrix(np.log1p(unit * counts).astype(np.float32))


def reconstruct(fits, scores, number, rows=slice(None), genes=slice(None)):
    """Predict all entries of some cells and genes from one pass."""
    n_cells = len(scores[number].scores[rows])
    pass_of = np.full((n_cells, len(fits[number].mean[genes])), number, dtype=np.uint8)
    return reconstruct_masked(fits, scores, pass_of, rows, genes)


def predicted(fits, scores, masks, number):
    found = reconstruct(fits, scores, number)
    return [table[masks.targets(number)] for table in found]


def test_mean_and_totals_rest_on_what_is_visible(data):
    _, counts, masks = data
    fits, scores = fit_low_rank(log_values(counts), masks, 0)
    visible = np.where(masks.masked(0), 0, counts)
    total = visible.sum(1)
    normalised = np.log1p(visible / total[:, None] * 1e4)
    np.testing.assert_allclose(scores[0].total, total, rtol=1e-5)
    np.testing.assert_allclose(fits[0].mean, normalised.sum(0) / (~masks.masked(0)).sum(0), rtol=1e-4)


def test_weights_keep_the_programs_and_drop_the_noise(data):
    _, counts, masks = data
    fits, _ = fit_low_rank(log_values(counts), masks, 0)
    for fit in fits:
        assert fit.weights.min() >= 0
        assert fit.weights.max() <= 1
        assert (np.diff(fit.weights) <= 1e-6).all()
        assert fit.weights[0] > 0.6
        assert fit.weights[20:].max(initial=0) < 0.25


def test_components_without_weight_are_left_out():
    fit = module.LowRank(np.eye(4, dtype=np.float32), np.zeros(4), 1.0, np.ones(4))
    cells = module.CellScores(np.arange(8.0).reshape(2, 4), np.ones(2), np.ones(2))
    fit, cells = module._with_weights(fit, cells, np.array([1, 0.5, 0, 0]))
    assert fit.weights.tolist() == [1, 0.5]
    assert fit.components.tolist() == np.eye(4)[:2].tolist()
    assert cells.scores.tolist() == [[0, 1], [4, 5]]
    assert len(module._with_weights(fit, cells, np.zeros(2))[0].weights) == 1


def test_masked_entries_are_predicted(data):
    rates, counts, masks = data
    masks = replace(masks, passes=Passes(3, 0))
    log_odds, mean = predicted(*fit_low_rank(log_values(counts), masks, 0), masks, 0)
    truth = 1 - np.exp(-rates[masks.targets(0)])
    assert np.corrcoef(probability(log_odds), truth)[0, 1] > 0.85
    assert (mean > 0).all()


def test_masked_values_have_no_influence_on_the_scores_of_their_pass(data):
    _, counts, masks = data
    other = np.where(masks.masked(0), 9, counts)
    one, two = (fit_low_rank(log_values(each), masks, 0) for each in (counts, other))
    n = min(len(one[0][0].weights), len(two[0][0].weights))
    assert n > 2
    np.testing.assert_array_equal(one[1][0].scores[:, :n], two[1][0].scores[:, :n])
    np.testing.assert_array_equal(one[0][0].components[:n], two[0][0].components[:n])
    assert not np.array_equal(one[1][1].scores, two[1][1].scores)


def test_the_weights_of_a_pass_rest_on_the_entries_of_the_others(data):
    _, counts, masks = data
    evidence = module._weight_evidence
    seen = []

    def recorded(fit, cells, values, masks, number, seed):
        found = evidence(fit, cells, values, masks, number, seed)
        seen.append(found)
        return found

    module._weight_evidence, before = recorded, module._weight_evidence
    try:
        fits, _ = fit_low_rank(log_values(counts), masks, 0)
    finally:
        module._weight_evidence = before
    for fit, other in zip(fits, reversed(seen), strict=True):
        weights = module.component_weights(*other)
        np.testing.assert_array_equal(fit.weights, weights[: len(fit.weights)])
        assert not weights[len(fit.weights) :].any()


def test_scores_of_the_cells_of_the_fit_are_found_again(data):
    _, counts, masks = data
    fits, scores = fit_low_rank(log_values(counts), masks, 0)
    rows = np.array([5, 100, 299])
    part = replace(masks, cells=masks.cells[rows])
    found = cell_scores(fits[1], log_values(counts)[rows], part, 1)
    np.testing.assert_allclose(found.scores, scores[1].scores[rows], atol=1e-4)
    np.testing.assert_allclose(found.total, scores[1].total[rows])
    np.testing.assert_allclose(found.unit, scores[1].unit[rows])


def test_log_normalised_values_give_the_same_probabilities_in_their_own_unit(data):
    _, counts, masks = data
    visible = np.where(masks.masked(0), 0, counts)
    unit = (1e4 / visible.sum(1))[:, None]
    fits, scores = fit_low_rank(log_values(counts), masks, 0)
    scaled = cell_scores(fits[0], log_values(counts, unit), masks, 0)
    ones, others = reconstruct(fits, scores, 0), reconstruct(fits, [scaled, scores[1]], 0)
    np.testing.assert_allclose(probability(ones[0]), probability(others[0]), atol=1e-3)
    np.testing.assert_allclose(others[1], np.log1p(np.expm1(ones[1]) * unit), rtol=1e-2)


def test_some_cells_and_genes_are_a_part_of_all(data):
    _, counts, masks = data
    fits, scores = fit_low_rank(log_values(counts), masks, 0)
    whole = reconstruct(fits, scores, 0)
    part = reconstruct(fits, scores, 0, slice(10, 30), np.array([3, 150]))
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_allclose(one, other[10:30][:, [3, 150]], rtol=1e-4, atol=1e-5)


def test_empty_cells_and_genes_without_counts(data):
    _, counts, masks = data
    counts = counts.copy()
    counts[5], counts[:, 7] = 0, 0
    for table in predicted(*fit_low_rank(log_values(counts), masks, 0), masks, 1):
        assert np.isfinite(table).all()


def test_every_entry_is_predicted_from_the_pass_that_masks_it(data):
    _, counts, masks = data
    fits, scores = fit_low_rank(log_values(counts), masks, 0)
    rows, genes = slice(20, 60), np.array([0, 7, 120])
    found = reconstruct_masked(fits, scores, masks.pass_of(rows, genes), rows, genes)
    for number in range(2):
        expected = reconstruct(fits, scores, number, rows, genes)
        is_masked = masks.pass_of(rows, genes) == number
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[is_masked], other[is_masked], rtol=1e-5, atol=1e-6)


def test_directions_found_in_the_most_variable_genes_are_those_of_all_genes(data, monkeypatch):
    _, counts, masks = data
    fits = {}
    for fraction, least in ((1.0, 1000), (0.8, 10)):
        monkeypatch.setattr(module, "VARIANCE_FRACTION", fraction)
        monkeypatch.setattr(module, "MIN_VARIABLE_GENES", least)
        fits[fraction] = fit_low_rank(log_values(counts), masks, 0)[0][0].components
    exact = np.abs(np.sum(fits[1.0][:2] * fits[0.8][:2], axis=1))
    assert (exact > 0.98).all()
    # Orthonormal, so that scores are projections.
    np.testing.assert_allclose(fits[0.8] @ fits[0.8].T, np.eye(len(fits[0.8])), atol=1e-3)


def test_most_variable_genes():
    variance = np.array([1.0, 5, 0, 3, 1])
    module_min, module.MIN_VARIABLE_GENES = module.MIN_VARIABLE_GENES, 1
    fraction, module.VARIANCE_FRACTION = module.VARIANCE_FRACTION, 0.75
    try:
        assert module._most_variable(variance).tolist() == [1, 3]
    finally:
        module.MIN_VARIABLE_GENES, module.VARIANCE_FRACTION = module_min, fraction


def test_large_expected_counts_do_not_overflow():
    log_odds, mean = module._as_counts(np.full((1, 2), 12.0, np.float32), np.float32(1), np.float32(1))
    assert np.isfinite(log_odds).all()
    np.testing.assert_allclose(mean, 12, rtol=1e-4)
