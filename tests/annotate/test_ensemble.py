from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.annotate.ensemble import choose_folds, fit_committee, fit_member


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


def error(committee, views, labels):
    """Mean confidence minus accuracy."""
    shares = committee.probabilities(views)
    return shares.max(1).mean() - (np.array(committee.labels)[shares.argmax(1)] == labels).mean()


def test_names_are_right_and_as_sure_as_that():
    views, labels = clouds(600, 3.0, 1)
    committee = fit_committee(views, labels, np.zeros(600, int), 0)
    fresh, truth = clouds(2000, 3.0, 2)
    shares = committee.probabilities(fresh)
    assert committee.labels == ("a", "b", "c")
    np.testing.assert_allclose(shares.sum(1), 1)
    accuracy = (np.array(committee.labels)[shares.argmax(1)] == truth).mean()
    assert 0.8 < accuracy < 0.98
    assert abs(error(committee, fresh, truth)) < 0.03


def test_two_labels_are_not_swapped():
    view = np.array([[4.0], [6.0]]).repeat(20, axis=0)  # far from zero, so that the bias counts
    committee = fit_committee([view, view], np.repeat(["low", "high"], 20), np.zeros(40, int), 0)
    assert committee.labels == ("high", "low")
    assert (committee.probabilities([view, view]).argmax(1) == np.repeat([1, 0], 20)).all()
    assert committee.strangeness([0 * view + 5] * 2).mean() > committee.strangeness([view] * 2).mean()


def test_left_out_samples_teach_caution_that_left_out_cells_do_not():
    """Samples that differ: what is learnt from some is worth less in another."""
    rng = np.random.default_rng(0)
    parts = [clouds(150, 2.0, seed) for seed in range(6)]
    shifts = 3 * rng.normal(size=(6, 1, 6))
    views = [np.concatenate([part[0][v] + shift for part, shift in zip(parts, shifts, strict=True)]) for v in range(2)]
    labels, samples = np.concatenate([part[1] for part in parts]), np.repeat(np.arange(6), 150)
    known = samples < 5
    seen = [view[known] for view in views]
    by_sample = fit_committee(seen, labels[known], samples[known], 0)
    by_cell = fit_committee(seen, labels[known], np.zeros(known.sum(), int), 0)
    assert (by_sample.held_out, by_cell.held_out) == ("samples", "cells")
    assert by_sample.temperature > by_cell.temperature


def test_strangeness_is_large_between_labels():
    views, labels = clouds(600, 1.0, 1)
    committee = fit_committee(views, labels, np.zeros(600, int), 0)
    middle = [np.repeat([view.mean(0)], 5, axis=0) for view in views]
    assert committee.strangeness(middle).min() > np.median(committee.strangeness(views))


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


def test_a_label_that_a_fold_has_not_seen_is_not_tested():
    views, labels = clouds(300, 3.0, 3)
    for view in views:
        view[:30, 0] += 15
    samples = np.arange(300) % 3
    labels = labels.astype(object)
    labels[:30], samples[:30] = "only here", 0
    labels = labels.astype(str)
    committee = fit_committee(views, labels, samples, 0)
    assert committee.held_out == "samples"
    assert "only here" in committee.labels
    # Testing it would mean probabilities of zero for what is true, and a temperature that hides them.
    others = labels != "only here"
    without = fit_committee([view[others] for view in views], labels[others], samples[others], 0)
    assert committee.temperature == pytest.approx(without.temperature, rel=0.3)


def test_members_hear_rare_labels():
    rng = np.random.default_rng(0)
    view = np.concatenate([rng.normal(size=(400, 1)), 1.5 + rng.normal(size=(20, 1))])
    member = fit_member(view, np.repeat([0, 1], [400, 20]), 3)
    assert member.bias[2] == -np.inf
    evidence = member.evidence(np.array([[3.0]]))
    assert evidence[0, 1] > evidence[0, 0]


def test_the_same_seed_gives_the_same_numbers():
    views, labels = clouds(100, 3.0, 1)
    one, other = (fit_committee(views, labels, np.zeros(100, int), 5) for _ in range(2))
    assert one.temperature == other.temperature
    np.testing.assert_array_equal(one.members[1].weight, other.members[1].weight)


@pytest.mark.parametrize("n_views", [1, 3])
def test_as_many_views_as_members(n_views):
    views, labels = clouds(60, 1.0, 1)
    committee = fit_committee(views, labels, np.zeros(60, int), 0)
    with pytest.raises(ValueError, match="argument"):
        committee.probabilities([views[0]] * n_views)
