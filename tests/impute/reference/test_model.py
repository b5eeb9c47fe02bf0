from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.impute.reference.model import N_NEIGHBORS, PENALTY, PRIOR_CELLS, fit_reference_model


@pytest.fixture(scope="module")
def counts():
    """Two kinds of cells, 40 shared genes and 6 others, of which the first two are high in one kind each."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 240)
    shared = np.where(np.arange(40) % 2 == kind[:, None], 3.0, 0.4)
    others = np.full((240, 6), 0.5)
    others[np.arange(240), kind] = 4.0
    return kind, *(sparse.csr_matrix(rng.poisson(rate), dtype=np.float32) for rate in (shared, others))


@pytest.fixture(scope="module")
def model(counts):
    _, shared, others = counts
    return fit_reference_model(shared[:200], others[:200], 50.0, 0)


def test_neighbors_are_the_nearest_in_the_space_of_the_components(model, counts):
    placed = model.place(counts[1][200:])
    distance = np.linalg.norm(placed.scores[:, None] - model.scores[None], axis=2)
    nearest = np.sort(np.argsort(distance, axis=1)[:, :N_NEIGHBORS], axis=1)
    np.testing.assert_array_equal(np.sort(placed.neighbors, axis=1), nearest)


def test_means_of_neighbors_are_rates_at_the_depth_of_the_cell(model, counts):
    placed = model.place(counts[1][200:])
    expected = np.empty((40, 6))
    prior = PRIOR_CELLS * model.totals.mean()
    for cell, near in enumerate(placed.neighbors):
        counted = counts[2][:200][near].toarray().sum(axis=0) + prior * model.rate
        expected[cell] = counted / (model.totals[near].sum() + prior) * placed.totals[cell]
    np.testing.assert_allclose(placed.from_neighbors(slice(None)), expected, rtol=1e-5)
    np.testing.assert_allclose(placed.from_neighbors(slice(3, 7), np.array([5, 0])), expected[3:7, [5, 0]], rtol=1e-5)


def test_the_regression_solves_its_normal_equations(model, counts):
    design = np.column_stack([np.ones(200), model.scores])
    weight = model.totals / model.totals.mean()
    rates = counts[2][:200].toarray() / model.totals[:, None]
    residual = (design * (weight * model.totals.mean())[:, None]).T @ (rates - design @ model.coefficients)
    penalty = np.full(len(design.T), PENALTY)
    penalty[0] = 0
    np.testing.assert_allclose(
        residual, model.totals.mean() * penalty[:, None] * model.coefficients, atol=1e-6 * abs(residual).max()
    )


def test_both_predict_the_gene_of_the_kind(model, counts):
    kind = counts[0][200:]
    placed = model.place(counts[1][200:])
    for predicted in (placed.from_neighbors(slice(None)), placed.from_regression(slice(None))):
        own, other = predicted[np.arange(40), kind], predicted[np.arange(40), 1 - kind]
        assert (own > 2 * other).mean() > 0.9


def test_cells_of_the_reference_are_not_their_own_neighbors(model):
    rows = np.arange(0, 200, 7)
    assert not (model.own(rows).neighbors == rows[:, None]).any()


def test_similarity_is_low_for_cells_of_no_kind(model, counts):
    scrambled = sparse.csr_matrix(np.random.default_rng(1).poisson(1.7, size=(40, 40)), dtype=np.float32)
    known, unknown = (model.place(cells).similarity() for cells in (counts[1][200:], scrambled))
    assert np.median(known) > np.median(unknown) + 0.2
    assert np.isnan(model.place(sparse.csr_matrix((2, 40), dtype=np.float32)).similarity()).all()
