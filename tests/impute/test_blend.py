from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from scanpy_sct.impute.blend import (
    GENE_PRECISION,
    START,
    gene_weights,
    mean_weight,
    network_fraction,
    shared_weights,
)
from scanpy_sct.impute.groups import Groups

N_GENES, N_PASSES = 4, 3
OTHERS = ~np.eye(N_PASSES, dtype=bool)
"""Every pass learns from all others."""


def of_all_passes(weights):
    return np.tile(weights, (N_PASSES, 1))


@pytest.fixture
def entries():
    """Log-odds of both sources, what was measured, and groups; the first source is right for genes 0 and 1."""
    rng = np.random.default_rng(0)
    groups = Groups(rng.integers(1500, 2500, (N_GENES, N_PASSES)))
    log_odds = tuple(rng.normal(0, 1.5, (2, groups.sizes.sum())))
    gene = groups.spread(np.arange(N_GENES)[:, None].repeat(N_PASSES, axis=1))
    detected = rng.random(len(gene)) < expit(np.where(gene < 2, *log_odds))
    return log_odds, detected, groups


def test_shared_weights_are_those_of_logistic_regression(entries):
    from sklearn.linear_model import LogisticRegression

    log_odds, detected, _ = entries
    oracle = LogisticRegression(C=1e6).fit(np.stack(log_odds, axis=1), detected)
    found = shared_weights(log_odds, detected)
    np.testing.assert_allclose(found, [*oracle.coef_[0], *oracle.intercept_], atol=0.01)


def test_without_entries_both_sources_count_alike():
    empty = np.zeros(0)
    np.testing.assert_allclose(shared_weights((empty, empty), empty.astype(bool)), START)


def test_a_source_that_is_wrong_gets_no_weight(entries):
    (network, data), detected, _ = entries
    assert shared_weights((network, -data), detected)[1] == 0


def test_genes_move_towards_the_source_that_is_right_for_them(entries):
    log_odds, detected, groups = entries
    weights = gene_weights(log_odds, detected, groups, OTHERS, of_all_passes(shared_weights(log_odds, detected)))
    fraction = network_fraction(weights)
    assert (fraction[:2] > 0.8).all()
    assert (fraction[2:] < 0.2).all()


def test_a_gene_with_few_entries_keeps_the_shared_weights():
    groups, shared = Groups(np.ones((N_GENES, N_PASSES), dtype=int)), np.array([0.4, 0.6, 0.1])
    log_odds = tuple(np.random.default_rng(0).normal(size=(2, 12)))
    weights = gene_weights(log_odds, np.ones(12, dtype=bool), groups, OTHERS, of_all_passes(shared))
    assert 0 < np.abs(weights - shared).max() < 10 * 3 / GENE_PRECISION


def test_no_entry_takes_part_in_the_weights_of_its_own_pass(entries):
    log_odds, detected, groups = entries
    first_pass = groups.spread(np.tile(np.arange(N_PASSES) == 0, (N_GENES, 1)))
    one, other = (
        gene_weights(log_odds, each, groups, OTHERS, of_all_passes(START)) for each in (detected, detected ^ first_pass)
    )
    np.testing.assert_allclose(one[:, 0], other[:, 0], rtol=1e-9)
    assert np.abs(one[:, 1:] - other[:, 1:]).max() > 0.1


def test_each_pass_learns_from_the_passes_that_are_named(entries):
    log_odds, detected, groups = entries
    from_second = np.zeros((N_PASSES, N_PASSES), dtype=bool)
    from_second[[0, 2], 1] = True
    others = groups.spread(np.tile(np.arange(N_PASSES) != 1, (N_GENES, 1)))
    shared = np.array([START, START, [0.2, 0.9, 0.1]])
    one, other = (gene_weights(log_odds, each, groups, from_second, shared) for each in (detected, detected ^ others))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[:, 1], np.tile(START, (N_GENES, 1)))
    assert np.abs(one[:, 0] - one[:, 2]).max() > 0.01


def test_one_step_of_newton(entries):
    """The step of one gene, written out."""
    log_odds, detected, groups = entries
    shared = np.array([0.3, 0.2, -0.1])
    weights = gene_weights(log_odds, detected, groups, OTHERS, of_all_passes(shared))
    used = np.zeros(groups.sizes.shape, dtype=bool)
    used[2, [0, 2]] = True
    used = groups.spread(used)
    design = np.column_stack([*(each[used] for each in log_odds), np.ones(used.sum())])
    p = expit(design @ shared)
    information = (design * (p * (1 - p))[:, None]).T @ design + GENE_PRECISION * np.eye(3)
    oracle = shared + np.linalg.solve(information, design.T @ (detected[used] - p))
    np.testing.assert_allclose(weights[2, 1], np.maximum(oracle, [0, 0, -np.inf]), rtol=1e-6)


def test_fraction_of_the_network():
    np.testing.assert_allclose(network_fraction(np.array([[0.5, 0.25, 0], [1, 0, 0], [0, 0, 3]])), [2 / 3, 1, 0.5])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_weight_of_a_conditional_mean_is_that_of_the_best_mixture(weight):
    rng = np.random.default_rng(1)
    network, data = rng.normal(1, 0.5, (2, 5000)).astype(np.float32)
    values = weight * network + (1 - weight) * data + rng.normal(0, 0.1, 5000)
    assert mean_weight((network, data), values) == pytest.approx(weight, abs=0.01)


def test_conditional_means_count_alike_where_nothing_distinguishes_them():
    assert mean_weight((np.zeros(0), np.zeros(0)), np.zeros(0)) == 0.5
    assert mean_weight((np.ones(9), np.ones(9)), np.full(9, 2.0)) == 0.5
    assert mean_weight((np.ones(1), np.zeros(1)), np.ones(1)) == pytest.approx(0.6)


def test_a_weight_lies_between_zero_and_one():
    means = np.ones(50), np.zeros(50)
    assert mean_weight(means, np.full(50, 3.0)) == 1
    assert mean_weight(means, np.full(50, -3.0)) == 0
