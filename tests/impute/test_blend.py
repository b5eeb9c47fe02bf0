from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from scanpy_sct.impute.blend import (
    GENE_PRECISION,
    START,
    blend,
    gene_weights,
    level_share,
    share_of_first,
    shared_weights,
)

N_GENES, N_PASSES = 4, 3


@pytest.fixture
def entries():
    """First source right for genes 0 and 1, second for genes 2 and 3."""
    rng = np.random.default_rng(0)
    n = 24_000
    log_odds = rng.normal(0, 1.5, (n, 2))
    gene, turn = rng.integers(N_GENES, size=n), rng.integers(N_PASSES, size=n)
    right = np.where(gene < 2, log_odds[:, 0], log_odds[:, 1])
    expressed = rng.random(n) < expit(right)
    return log_odds, expressed, turn * N_GENES + gene


def test_shared_weights_are_those_of_logistic_regression(entries):
    from sklearn.linear_model import LogisticRegression

    log_odds, expressed, _ = entries
    oracle = LogisticRegression(C=1e6).fit(log_odds, expressed)
    found = shared_weights(log_odds, expressed)
    np.testing.assert_allclose(found, [*oracle.coef_[0], *oracle.intercept_], atol=0.01)


def test_without_entries_both_sources_count_alike():
    np.testing.assert_allclose(shared_weights(np.zeros((0, 2)), np.zeros(0, dtype=bool)), START)


def test_a_source_that_is_wrong_gets_no_weight(entries):
    log_odds, expressed, _ = entries
    assert shared_weights(np.stack([log_odds[:, 0], -log_odds[:, 1]], axis=1), expressed)[1] == 0


def test_genes_move_towards_the_source_that_is_right_for_them(entries):
    log_odds, expressed, group = entries
    shared = shared_weights(log_odds, expressed)
    weights = gene_weights(log_odds, expressed, group, N_PASSES, N_GENES, shared)
    share = share_of_first(weights).reshape(N_PASSES, N_GENES)
    assert (share[:, :2] > 0.8).all()
    assert (share[:, 2:] < 0.2).all()


def test_a_gene_with_little_evidence_keeps_the_shared_weights(entries):
    log_odds, expressed, group = (part[:10] for part in entries)
    shared = np.array([0.4, 0.6, 0.1])
    weights = gene_weights(log_odds, expressed, group, N_PASSES, N_GENES, shared)
    assert np.abs(weights - shared).max() < 10 * 3 / GENE_PRECISION


def test_no_entry_takes_part_in_the_weights_of_its_own_pass(entries):
    log_odds, expressed, group = entries
    shared = np.array([0.5, 0.5, 0.0])
    one = gene_weights(log_odds, expressed, group, N_PASSES, N_GENES, shared).reshape(N_PASSES, N_GENES, 3)
    first_pass = group < N_GENES
    other = gene_weights(log_odds, expressed ^ first_pass, group, N_PASSES, N_GENES, shared)
    other = other.reshape(N_PASSES, N_GENES, 3)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    assert np.abs(one[1:] - other[1:]).max() > 0.1


def test_one_step_of_newton(entries):
    """The step of one gene, written out."""
    log_odds, expressed, group = entries
    shared = np.array([0.3, 0.2, -0.1])
    weights = gene_weights(log_odds, expressed, group, N_PASSES, N_GENES, shared).reshape(N_PASSES, N_GENES, 3)
    used = (group % N_GENES == 2) & (group // N_GENES != 1)
    design = np.column_stack([log_odds[used], np.ones(used.sum())])
    p = expit(design @ shared)
    information = (design * (p * (1 - p))[:, None]).T @ design + GENE_PRECISION * np.eye(3)
    oracle = shared + np.linalg.solve(information, design.T @ (expressed[used] - p))
    np.testing.assert_allclose(weights[1, 2], np.maximum(oracle, [0, 0, -np.inf]), rtol=1e-6)


def test_blend_and_share():
    log_odds = np.array([[1.0, -1.0], [2.0, 0.5]], dtype=np.float32)
    weights = np.array([[0.5, 0.25, 0.1], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(blend(log_odds, np.array([0, 1]), weights), expit([0.35, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(share_of_first(np.array([[0.5, 0.25, 0], [1, 0, 0], [0, 0, 3]])), [2 / 3, 1, 0.5])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_a_level_is_that_of_the_best_mixture(share):
    rng = np.random.default_rng(1)
    levels = rng.normal(1, 0.5, (5000, 2)).astype(np.float32)
    values = share * levels[:, 0] + (1 - share) * levels[:, 1] + rng.normal(0, 0.1, 5000)
    assert level_share(levels, values) == pytest.approx(share, abs=0.01)


def test_levels_count_alike_where_nothing_tells_them_apart():
    assert level_share(np.zeros((0, 2)), np.zeros(0)) == 0.5
    assert level_share(np.ones((9, 2)), np.full(9, 2.0)) == 0.5
    assert level_share(np.array([[1.0, 0.0]]), np.array([1.0])) == pytest.approx(0.6)


def test_a_level_is_never_followed_beyond_itself():
    levels = np.array([[1.0, 0.0]] * 50)
    assert level_share(levels, np.full(50, 3.0)) == 1
    assert level_share(levels, np.full(50, -3.0)) == 0
