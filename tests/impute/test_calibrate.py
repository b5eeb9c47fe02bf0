from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from scanpy_sct.impute.calibrate import VisibleCounts, calibrate, detection_shift, estimated_for_all, mean_factor
from scanpy_sct.impute.groups import Groups, PassOrder


def counts(n_detected, n_visible, sums):
    return VisibleCounts(*(np.array(each, dtype=float)[:, None] for each in (n_detected, n_visible, sums)))


def one_pass(*sizes):
    return Groups(np.array(sizes)[:, None])


def test_detection_meets_the_visible_rate():
    rng = np.random.default_rng(0)
    detection = rng.uniform(0.01, 0.9, 3000)
    groups = one_pass(1000, 1500, 500)
    visible = counts([1e5, 3e5, 9.9e5], [1e6] * 3, [1e6] * 3)
    found = expit(logit(detection) + groups.spread(detection_shift(logit(detection), groups, visible)))
    np.testing.assert_allclose(groups.sum(found) / groups.sizes, [[0.1], [0.3], [0.99]], atol=1e-4)


def test_without_visible_cells_nothing_changes():
    shift = detection_shift(logit(np.array([0.1, 0.5, 0.8])), one_pass(3), counts([0], [0], [0]))
    np.testing.assert_allclose(shift, 0, atol=1e-5)


def test_a_gene_that_is_never_detected_is_not_predicted_away_completely():
    shift = detection_shift(np.zeros(10), one_pass(10), counts([0], [8], [0]))
    np.testing.assert_allclose(expit(shift), 0.1, atol=1e-4)  # 2 * 0.5 / (8 + 2)


def test_conditional_mean_meets_the_visible_mean():
    mean, detection = np.array([1.0, 2, 3, 5]), np.array([0.5, 0.5, 1, 1])
    factor = mean_factor(mean, detection, one_pass(2, 2), counts([1e6] * 2, [1e6] * 2, [3e6, 4e6]))
    np.testing.assert_allclose(factor, [[2], [1]], rtol=1e-4)


def test_visible_is_what_other_passes_mask():
    rng = np.random.default_rng(0)
    values = rng.poisson(0.7, (30, 4)).astype(np.float32)
    pass_of = rng.integers(0, 3, (30, 4)).astype(np.uint8)
    order = PassOrder(pass_of, 3)
    found = VisibleCounts.of(order.of(values), order.groups, np.array([True, True, False]))
    for gene, number in np.ndindex(4, 3):
        # Entries of the last pass are those that the user hides: they are visible in none.
        visible = values[(pass_of[:, gene] != number) & (pass_of[:, gene] != 2), gene]
        expected = [(visible > 0).sum(), len(visible), visible.sum()]
        np.testing.assert_allclose(
            [found.n_detected[gene, number], found.n_visible[gene, number], found.sums[gene, number]], expected
        )


def test_both_are_estimated_together():
    rng = np.random.default_rng(1)
    log_odds, mean, groups = rng.normal(size=400), rng.uniform(1, 2, 400), one_pass(250, 150)
    visible = counts([60, 20], [200, 200], [90, 50])
    found = calibrate(log_odds, mean, groups, visible)
    detection = expit(log_odds + groups.spread(found.shift))
    np.testing.assert_allclose(found.shift, detection_shift(log_odds, groups, visible))
    np.testing.assert_allclose(found.factor, mean_factor(mean, detection, groups, visible), rtol=1e-5)


def test_groups_without_entries_and_hidden_ones_take_estimates_of_others():
    table = np.array([[1.0, 2, 3, 9], [1, 7, 3, 9], [7, 7, 7, 9], [1, 2, 7, 9]])
    groups = Groups(np.array([[1, 2, 3, 5], [1, 0, 3, 0], [0, 0, 0, 5], [3, 1, 0, 1]]))
    found = estimated_for_all(table, groups, hidden_pass=3)  # pass 2 is the probe
    # The third gene is hidden everywhere.
    np.testing.assert_allclose(found, [[1, 2, 3, 3], [1, 2.5, 3, 3], [7, 7, 7, 9], [1, 2, 1.25, 1.25]])
    np.testing.assert_allclose(estimated_for_all(table, groups, None)[1], [1, 2.5, 3, 2.5])
