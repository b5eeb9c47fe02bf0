from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate import ensemble as module
from scanpy_sct.annotate.ensemble import choose_folds


def clouds(n: int, spread: float, seed: int, shift: float = 0.0):
    """Two views of points around three centres; ``shift`` moves each view along its own direction."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(3, size=n)
    views = []
    for number in range(2):
        known = np.random.default_rng(number)
        centres, direction = 3 * known.normal(size=(3, 6)), known.normal(size=6)
        views.append(centres[codes] + spread * rng.normal(size=(n, 6)) + shift * direction)
    return views, np.array(["a", "b", "c"])[codes]


def fit_ensemble(views, labels, samples, seed, nearest=None, of_few_genes=None):
    return module.fit_ensemble(views, labels, choose_folds(labels, samples, seed)[0], nearest, of_few_genes)


def overconfidence(ensemble, views, labels):
    """Mean confidence minus accuracy."""
    probabilities = ensemble.probabilities(views)
    return probabilities.max(1).mean() - (np.array(ensemble.labels)[probabilities.argmax(1)] == labels).mean()


def test_labels_are_right_and_probabilities_calibrated():
    views, labels = clouds(600, 3.0, 1)
    ensemble = fit_ensemble(views, labels, np.zeros(600, int), 0)
    fresh, truth = clouds(2000, 3.0, 2)
    probabilities = ensemble.probabilities(fresh)
    assert ensemble.labels == ("a", "b", "c")
    np.testing.assert_allclose(probabilities.sum(1), 1)
    accuracy = (np.array(ensemble.labels)[probabilities.argmax(1)] == truth).mean()
    assert 0.8 < accuracy < 0.98
    assert abs(overconfidence(ensemble, fresh, truth)) < 0.03


def test_two_labels_are_not_swapped():
    view = np.array([[4.0], [6.0]]).repeat(20, axis=0)  # far from zero, so that the bias counts
    ensemble = fit_ensemble([view, view], np.repeat(["low", "high"], 20), np.zeros(40, int), 0)
    assert ensemble.labels == ("high", "low")
    assert (ensemble.probabilities([view, view]).argmax(1) == np.repeat([1, 0], 20)).all()
    assert ensemble.energy([0 * view + 5] * 2).mean() > ensemble.energy([view] * 2).mean()


def test_held_out_samples_give_a_higher_temperature_than_held_out_cells():
    """Samples that differ: a classifier fitted to some of them is less accurate on another."""
    rng = np.random.default_rng(0)
    parts = [clouds(150, 2.0, seed) for seed in range(6)]
    shifts = 3 * rng.normal(size=(6, 1, 6))
    views = [np.concatenate([part[0][v] + shift for part, shift in zip(parts, shifts, strict=True)]) for v in range(2)]
    labels, samples = np.concatenate([part[1] for part in parts]), np.repeat(np.arange(6), 150)
    known = samples < 5
    seen = [view[known] for view in views]
    by_sample = fit_ensemble(seen, labels[known], samples[known], 0)
    by_cell = fit_ensemble(seen, labels[known], np.zeros(known.sum(), int), 0)
    assert by_sample.temperature > by_cell.temperature


def test_energy_is_large_between_labels():
    views, labels = clouds(600, 1.0, 1)
    ensemble = fit_ensemble(views, labels, np.zeros(600, int), 0)
    middle = [np.repeat([view.mean(0)], 5, axis=0) for view in views]
    assert ensemble.energy(middle).min() > np.median(ensemble.energy(views))


def test_folds_of_samples_only_where_they_can_be_tested():
    codes = np.repeat([0, 1, 2], 20)
    folds, held_out = choose_folds(codes, codes, 0)  # every label in a sample of its own
    assert held_out == "cells"
    assert len(folds) == 5
    samples = np.tile(np.arange(10), 6)
    folds, held_out = choose_folds(codes, samples, 0)
    assert held_out == "samples"
    assert len(folds) == 5
    for train, test in folds:
        assert not set(samples[train]) & set(samples[test])
    assert np.sort(np.concatenate([test for _, test in folds])).tolist() == list(range(60))


def test_a_label_that_a_fold_lacks_is_not_tested():
    views, labels = clouds(300, 3.0, 3)
    for view in views:
        view[:30, 0] += 15
    samples = np.arange(300) % 3
    labels = labels.astype(object)
    labels[:30], samples[:30] = "only here", 0
    labels = labels.astype(str)
    ensemble = fit_ensemble(views, labels, samples, 0)
    assert choose_folds(labels, samples, 0)[1] == "samples"
    assert "only here" in ensemble.labels
    # If it were tested, the truth would have probability zero, and the temperature would be far too high.
    others = labels != "only here"
    without = fit_ensemble([view[others] for view in views], labels[others], samples[others], 0)
    assert ensemble.temperature == pytest.approx(without.temperature, rel=0.3)


def test_rare_labels_count_more_than_by_their_number_of_cells(monkeypatch):
    rng = np.random.default_rng(0)
    view = np.concatenate([rng.normal(size=(400, 1)), 1.5 + rng.normal(size=(20, 1))])
    labels = np.repeat(["common", "rare"], [400, 20])
    probe = [np.array([[2.0]])]
    by_label = fit_ensemble([view], labels, np.zeros(420, int), 0).probabilities(probe)[0, 1]
    monkeypatch.setattr("scanpy_sct.annotate.classifier.RARITY", 0)
    by_cell = fit_ensemble([view], labels, np.zeros(420, int), 0).probabilities(probe)[0, 1]
    assert by_label > 0.5 > by_cell


def test_the_same_seed_gives_the_same_numbers():
    views, labels = clouds(100, 3.0, 1)
    one, other = (fit_ensemble(views, labels, np.zeros(100, int), 5) for _ in range(2))
    assert one.temperature == other.temperature
    np.testing.assert_array_equal(one.members[1].weight, other.members[1].weight)


@pytest.mark.parametrize("n_views", [1, 3])
def test_as_many_views_as_members(n_views):
    views, labels = clouds(60, 1.0, 1)
    ensemble = fit_ensemble(views, labels, np.zeros(60, int), 0)
    with pytest.raises(ValueError, match="argument"):
        ensemble.probabilities([views[0]] * n_views)


def test_the_temperature_is_that_of_probabilities_with_the_nearest_cells():
    """Neighbours of the same label make probabilities certain and right, so they are not tempered."""
    views, labels = clouds(600, 6.0, 1)
    samples = np.arange(600) % 3
    same = (labels[:, None] == labels) & (samples[:, None] == samples)
    nearest = sparse.csr_matrix(same / same.sum(1, keepdims=True))
    alone = fit_ensemble(views, labels, samples, 0)
    together = fit_ensemble(views, labels, samples, 0, nearest)
    assert together.loss < alone.loss / 2
    np.testing.assert_array_equal(alone.members[0].weight, together.members[0].weight)
    log_mean = together.log_mean(views)
    probabilities = together.calibrated(log_mean, nearest)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    expected = np.exp(log_mean) * (nearest @ np.exp(log_mean))
    expected **= 1 / together.temperature
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_the_loss_is_that_of_held_out_cells():
    views, labels = clouds(600, 6.0, 1)
    ensemble = fit_ensemble(views, labels, np.zeros(600, int), 0)
    fresh, truth = clouds(4000, 6.0, 2)
    right = ensemble.probabilities(fresh)[np.arange(4000), np.searchsorted(ensemble.labels, truth)]
    assert ensemble.loss == pytest.approx(-np.log(right).mean(), rel=0.1)


def test_few_genes_count_as_much_as_all_members_together():
    views, labels = clouds(600, 6.0, 1)
    codes, samples = np.unique(labels, return_inverse=True)[1], np.zeros(600, int)
    alone = fit_ensemble(views, labels, samples, 0)
    logits = np.random.default_rng(0).normal(size=(600, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = (np.exp(alone.log_mean(views)) + probabilities) / 2
    np.testing.assert_allclose(np.exp(alone.log_mean(views, logits)), expected, atol=1e-6)
    # Held-out logits that are right make the loss small, and those that are wrong a high temperature.
    right, wrong = (8.0 * np.eye(3)[(codes + step) % 3] for step in (0, 1))
    helped, misled = (fit_ensemble(views, labels, samples, 0, of_few_genes=given) for given in (right, wrong))
    assert helped.loss < alone.loss / 2
    assert misled.loss > alone.loss
    assert misled.temperature > alone.temperature > helped.temperature
