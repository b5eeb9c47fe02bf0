from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict

from scanpy_sct.annotate import classifier
from scanpy_sct.annotate.classifier import fit_classifier, fit_standardised, fit_temperature
from scanpy_sct.annotate.labels import (
    check_names,
    checked_labels,
    choose_names,
    label_probabilities,
    log_cp10k,
    principal_components,
    score_markers,
    tell_apart,
)


def clouds(counts: dict[str, int], spread: float = 1.0, n_features: int = 5, seed: int = 0):
    """Points around one centre per label."""
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(1).normal(size=(len(counts), n_features))
    labels = np.repeat(list(counts), list(counts.values()))
    return centres[np.repeat(np.arange(len(counts)), list(counts.values()))] + spread * rng.normal(
        size=(len(labels), n_features)
    ), labels


@pytest.mark.parametrize("counts", [{"a": 60, "b": 40, "c": 5}, {"a": 30, "b": 30}], ids=["three", "two"])
def test_clouds_are_told_apart_and_rows_sum_to_one(counts):
    features, labels = clouds(counts)
    head = fit_classifier(features, labels)
    probabilities = label_probabilities(head, features)
    assert head.labels == tuple(counts)
    assert (np.asarray(head.labels)[probabilities.argmax(1)] == labels).mean() > 0.97
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_two_labels_are_not_swapped():
    features = np.concatenate([np.full((20, 1), -1.0), np.full((20, 1), 1.0)])
    head = fit_classifier(
        features + 0.1 * np.random.default_rng(0).normal(size=(40, 1)), np.repeat(["low", "high"], 20)
    )
    probabilities = label_probabilities(head, np.array([[-2.0], [2.0]]))
    assert head.labels == ("high", "low")
    assert probabilities[0, 1] > 0.9
    assert probabilities[1, 0] > 0.9


def test_probabilities_are_as_sure_as_they_are_right():
    features, labels = clouds({"a": 300, "b": 300, "c": 300}, spread=3.0)
    head = fit_classifier(features, labels)
    fresh, truth = clouds({"a": 300, "b": 300, "c": 300}, spread=3.0, seed=7)
    probabilities = label_probabilities(head, fresh)
    right = np.asarray(head.labels)[probabilities.argmax(1)] == truth
    assert right.mean() < 0.97  # or there would be nothing to calibrate
    assert abs(probabilities.max(1).mean() - right.mean()) < 0.04


def test_labels_that_mean_nothing_get_no_confidence():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(80, 60)), rng.choice(["a", "b"], 80)
    probabilities = label_probabilities(fit_classifier(features, labels), rng.normal(size=(500, 60)))
    truth = rng.choice(["a", "b"], 500)
    assert log_loss(truth, probabilities) < np.log(2) + 0.05


def test_standardised_features_make_units_irrelevant():
    features, labels = clouds({"a": 30, "b": 30, "c": 30})
    features[:, 2] = 4.0
    units = np.array([1.0, 1e4, 1.0, 1e-3, 1.0])
    one = label_probabilities(fit_standardised(features, labels), features)
    other = label_probabilities(fit_standardised(features * units + 5, labels), features * units + 5)
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_same_seed_gives_the_same_numbers():
    features, labels = clouds({"a": 30, "b": 20}, spread=3.0)
    one, other = fit_classifier(features, labels, 3), fit_classifier(features, labels, 3)
    np.testing.assert_array_equal(one.weight, other.weight)
    assert one.temperature == other.temperature


def one_strength(monkeypatch, counts) -> LogisticRegression:
    """Leave no choice of the strength, and return the regression that is fitted then."""
    monkeypatch.setattr(classifier, "STRENGTHS", (0.1,))
    weights = dict(enumerate(np.sqrt(counts.sum() / (len(counts) * counts))))
    return LogisticRegression(C=0.1, class_weight=weights, max_iter=1000)


def test_the_temperature_is_that_of_cells_left_out_in_turn(monkeypatch):
    features, labels = clouds({"a": 40, "b": 30, "c": 4}, spread=3.0)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    model = one_strength(monkeypatch, counts)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    logits = cross_val_predict(model, features, codes, cv=folds, method="decision_function")
    assert fit_classifier(features, labels, 3).temperature == fit_temperature(logits, codes)


@pytest.mark.parametrize("counts", [{"a": 40, "b": 40, "c": 40}, {"a": 60, "b": 60}], ids=["three", "two"])
def test_the_temperature_is_that_of_groups_left_out_in_turn(monkeypatch, counts):
    features, labels = clouds(counts, spread=3.0)
    groups = np.tile(["x", "y", "z", "z"], 30)
    features[groups == "y"] += 2
    _, codes, n_cells = np.unique(labels, return_inverse=True, return_counts=True)
    model = one_strength(monkeypatch, n_cells)
    logits = cross_val_predict(model, features, codes, groups=groups, cv=LeaveOneGroupOut(), method="decision_function")
    logits = logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
    head = fit_classifier(features, labels, groups=groups)
    assert head.temperature == pytest.approx(fit_temperature(logits, codes))
    assert head.temperature != pytest.approx(fit_classifier(features, labels).temperature)
    # Groups decide how sure, not on what: the fit itself is that of all cells.
    np.testing.assert_allclose(head.weight, fit_classifier(features, labels).weight)
    units = (features - features.mean(0)) / features.std(0)
    expected = fit_classifier(units, labels, groups=groups).temperature
    assert fit_standardised(features, labels, groups=groups).temperature == pytest.approx(expected, rel=1e-3)


def test_a_label_of_one_group_is_learnt_and_not_tested(monkeypatch):
    features, labels = clouds({"a": 40, "b": 40, "c": 20}, spread=2.0)
    groups = np.concatenate([np.tile([0, 1], 40), np.zeros(20, dtype=int)])
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    head = fit_classifier(features, labels, groups=groups)
    assert head.labels == ("a", "b", "c")
    assert (label_probabilities(head, features[80:]).argmax(1) == 2).mean() > 0.7
    np.testing.assert_array_equal(classifier.tested_cells(labels, groups, 0), labels != "c")
    model = one_strength(monkeypatch, counts)
    # By hand: group 1 is tested among three labels, and a and b of group 0 between themselves.
    of_one = model.fit(features[groups == 0], codes[groups == 0]).decision_function(features[groups == 1])
    between = model.fit(features[groups == 1], codes[groups == 1]).decision_function(
        features[(groups == 0) & (codes < 2)]
    )
    logits = np.concatenate([of_one, np.stack([0 * between, between, np.full(40, -np.inf)], axis=1)])
    truth = np.concatenate([codes[groups == 1], codes[(groups == 0) & (codes < 2)]])
    expected = fit_temperature(logits, truth)
    assert fit_classifier(features, labels, groups=groups).temperature == pytest.approx(expected)


def test_probabilities_are_as_sure_as_they_are_right_in_new_groups():
    counts, n_features = {"a": 400, "b": 400, "c": 400}, 20
    # Every group is moved by a vector of its own: 20 groups to learn from, and 100 others.
    groups, rng = np.arange(1200) % 20, np.random.default_rng(2)
    features, labels = clouds(counts, 2.0, n_features)
    features += 6 * rng.normal(size=(20, n_features))[groups]
    fresh, truth = clouds(counts, 2.0, n_features, seed=1)
    fresh += 6 * rng.normal(size=(100, n_features))[np.arange(1200) % 100]

    def overconfidence(head):
        probabilities = label_probabilities(head, fresh)
        right = np.asarray(head.labels)[probabilities.argmax(1)] == truth
        return probabilities.max(1).mean() - right.mean()

    assert overconfidence(fit_classifier(features, labels)) > 0.12
    assert abs(overconfidence(fit_classifier(features, labels, groups=groups))) < 0.08


def test_groups_make_at_most_five_folds_and_never_divide(recwarn):
    labels = np.repeat(["a", "b", "c"], [40, 40, 3])
    codes = np.unique(labels, return_inverse=True)[1]
    groups = np.arange(83) % 9
    folds = classifier.left_out_folds(codes, 0, groups)
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(83))
    assert all(not set(groups[train]) & set(groups[test]) for train, test in folds)
    assert len(classifier.left_out_folds(codes, 0, groups % 3)) == 3
    # Where a fold leaves one label to learn from, nothing can be tested by it.
    assert not classifier.tested_cells(labels, codes, 0).any()
    assert len(classifier.left_out_folds(codes[:80], 0, codes[:80])) == 0
    assert not recwarn.list


def test_another_number_of_features_is_refused():
    head = fit_classifier(*clouds({"a": 10, "b": 10}))
    with pytest.raises(ValueError, match="reads 5 features of a cell; found 4"):
        label_probabilities(head, np.zeros((3, 4)))


def test_choose_names():
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [1.0, 0.0]])
    names = choose_names(probabilities, ["x", "y"], 0.6, np.array([False, False, True]))
    assert names.labels.tolist() == ["x", "unknown", "unknown"]
    np.testing.assert_allclose(names.score, [0.9, 0.55, 0.5])
    assert probabilities[2, 0] == 1  # the argument stays as it was
    lenient = choose_names(probabilities, ["x", "y"], 0.2, np.array([False, False, True]))
    assert lenient.labels.tolist() == ["x", "y", "unknown"]
    assert choose_names(probabilities, ["x", "y"], 0).labels.tolist() == ["x", "y", "x"]


def test_rare_labels_and_empty_cells_are_left_out(caplog):
    labels = ["a"] * 4 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2
    has_counts = np.ones(len(labels), dtype=bool)
    has_counts[10] = False  # leaves two of c
    with caplog.at_level(logging.WARNING):
        text, usable = checked_labels(labels, "labels", has_counts)
    assert text.tolist() == labels
    assert np.flatnonzero(usable).tolist() == list(range(8))
    assert "c, d" in caplog.text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 4 + ["b"] * 4 + [None, np.nan], "2 of 10 cells have no label"),
        (["a"] * 5 + ["Unknown"] * 5, "'Unknown' is kept"),
        (["a"] * 8 + ["b"] * 2, "at least two labels"),
    ],
)
def test_labels_that_cannot_be_used(labels, message):
    with pytest.raises(ValueError, match=message):
        checked_labels(labels, "labels", np.ones(10, dtype=bool))


def test_numbers_become_text():
    labels, usable = checked_labels([0, 0, 0, 1, 1, 1], "labels", np.ones(6, dtype=bool))
    assert labels.tolist() == ["0", "0", "0", "1", "1", "1"]
    assert usable.all()


def test_check_names_lets_others_pass():
    check_names(["unknown cells", "B"], "markers")


def test_log_cp10k_counts_the_chosen_genes_only():
    counts = np.array([[1, 3, 96], [0, 0, 5], [2, 2, 0]], dtype=np.float32)
    result = log_cp10k(sparse.csr_matrix(np.log1p(counts)), np.array([0, 1])).toarray()
    np.testing.assert_allclose(np.expm1(result), [[2500, 7500], [0, 0], [5000, 5000]], rtol=1e-4)


def test_principal_components_have_one_unit_and_keep_what_varies():
    rng = np.random.default_rng(0)
    side = rng.normal(size=(80, 1))
    values = side @ rng.normal(size=(1, 30)) * 5 + rng.normal(size=(80, 30))
    one, same = principal_components(sparse.csr_matrix(values), sparse.csr_matrix(values[:5]), 0)
    assert one.shape == (80, 29)
    np.testing.assert_allclose(one.std(), 1)
    np.testing.assert_allclose(one[:5], same, atol=1e-4)
    assert abs(np.corrcoef(one[:, 0], side[:, 0])[0, 1]) > 0.99
    assert one[:, 0].std() > 3 * one[:, 1].std()


def test_markers_point_to_their_type():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    values = rng.normal(size=(60, 6)) + np.repeat([[10.0, 1, 0, 5, 2, 3]], 60, axis=0)
    values[np.arange(60), 2 * truth] += 5
    values[np.arange(60), 2 * truth + 1] += 5
    values *= [1, 100, 1, 1, 1, 1]  # units must not matter
    shares, none = score_markers(values, {"x": [0, 1], "y": [2, 3], "z": [4, 5]})
    assert (shares.argmax(1) == truth).all()
    assert none.max() < 0.5
    np.testing.assert_allclose(shares.sum(1), 1)


def test_a_cell_that_expresses_more_of_everything_prefers_no_type():
    values = np.random.default_rng(0).normal(size=(50, 6))
    markers = {"x": [0, 1], "y": [2, 3], "z": [4, 5]}
    more = values.copy()
    more[0] = values.mean(0) + 3 * values.std(0)
    assert np.ptp(score_markers(more, markers)[0][0]) < 0.2


def test_a_cell_without_markers_is_none_of_the_types():
    rng = np.random.default_rng(0)
    values = 0.1 * rng.random((60, 4))
    values[:15, :2] += 3
    values[15:30, 2:] += 3
    shares, none = score_markers(values, {"x": [0, 1], "y": [2, 3]})
    assert (none[:30] < 0.1).all()
    assert (none[30:] > 0.5).all()
    np.testing.assert_allclose(shares[30:], 0.5, atol=0.1)


def test_tell_apart():
    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(200, 5)), rng.normal(size=(150, 5))
    other = same + np.array([4, 0, 0, 0, 0])
    assert abs(tell_apart(one, same, 0) - 0.5) < 0.1
    assert tell_apart(one, other, 0) > 0.95
    assert tell_apart(one, same[:2], 0) == 1
