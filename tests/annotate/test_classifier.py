from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict

from scanpy_sct.annotate import classifier
from scanpy_sct.annotate.classifier import (
    can_be_tested,
    cell_folds,
    fit_embedding_head,
    fit_linear,
    fit_temperature,
    group_folds,
    held_out_logits,
    make_folds,
)
from scanpy_sct.annotate.label_head import embedding_logits


def clouds(counts: dict[str, int], spread: float = 1.0, n_features: int = 5, seed: int = 0):
    """Points around one centre per label."""
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(1).normal(size=(len(counts), n_features))
    labels = np.repeat(list(counts), list(counts.values()))
    return centres[np.repeat(np.arange(len(counts)), list(counts.values()))] + spread * rng.normal(
        size=(len(labels), n_features)
    ), labels


def fit_head(features, labels, seed=0, groups=None):
    return fit_embedding_head(features, labels, make_folds(np.unique(labels, return_inverse=True)[1], groups, seed))


def probabilities_of(head, features):
    return softmax(embedding_logits(head.classifier, features) / head.temperature, axis=1)


@pytest.mark.parametrize("counts", [{"a": 60, "b": 40, "c": 5}, {"a": 30, "b": 30}], ids=["three", "two"])
def test_clouds_are_separated_and_rows_sum_to_one(counts):
    features, labels = clouds(counts)
    head = fit_head(features, labels)
    probabilities = probabilities_of(head, features)
    assert head.labels == tuple(counts)
    assert (np.asarray(head.labels)[probabilities.argmax(1)] == labels).mean() > 0.97
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_two_labels_are_not_swapped():
    features = np.concatenate([np.full((20, 1), 4.0), np.full((20, 1), 6.0)])  # far from zero, so that the bias counts
    features += 0.1 * np.random.default_rng(0).normal(size=(40, 1))
    head = fit_head(features, np.repeat(["low", "high"], 20))
    probabilities = probabilities_of(head, np.array([[3.0], [7.0]]))
    assert head.labels == ("high", "low")
    assert probabilities[0, 1] > 0.9
    assert probabilities[1, 0] > 0.9


def test_probabilities_are_calibrated():
    features, labels = clouds({"a": 300, "b": 300, "c": 300}, spread=3.0)
    head = fit_head(features, labels)
    fresh, truth = clouds({"a": 300, "b": 300, "c": 300}, spread=3.0, seed=7)
    probabilities = probabilities_of(head, fresh)
    correct = np.asarray(head.labels)[probabilities.argmax(1)] == truth
    assert correct.mean() < 0.97  # or there would be nothing to calibrate
    assert abs(probabilities.max(1).mean() - correct.mean()) < 0.04


def test_labels_without_meaning_get_no_confidence():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(80, 60)), rng.choice(["a", "b"], 80)
    probabilities = probabilities_of(fit_head(features, labels), rng.normal(size=(500, 60)))
    truth = rng.choice(["a", "b"], 500)
    assert log_loss(truth, probabilities) < np.log(2) + 0.05


def test_units_of_features_do_not_matter():
    features, labels = clouds({"a": 30, "b": 30, "c": 30})
    features[:, 2] = 4.0
    units = np.array([1.0, 1e4, 1.0, 1e-3, 1.0])
    one = probabilities_of(fit_head(features, labels), features)
    other = probabilities_of(fit_head(features * units + 5, labels), features * units + 5)
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_same_seed_gives_the_same_numbers():
    features, labels = clouds({"a": 30, "b": 20}, spread=3.0)
    one, other = fit_head(features, labels, 3), fit_head(features, labels, 3)
    np.testing.assert_array_equal(one.classifier.weight, other.classifier.weight)
    assert one.temperature == other.temperature


def single_strength(monkeypatch, counts) -> LogisticRegression:
    """Leave one strength to choose from, and return the regression that is fitted then."""
    monkeypatch.setattr(classifier, "STRENGTHS", (0.1,))
    weights = dict(enumerate(np.sqrt(counts.sum() / (len(counts) * counts))))
    return LogisticRegression(C=0.1, class_weight=weights, max_iter=1000)


def standardised(features):
    return (features - features.mean(0)) / features.std(0)


def test_the_temperature_is_that_of_cells_held_out(monkeypatch):
    features, labels = clouds({"a": 40, "b": 30, "c": 4}, spread=3.0)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    model = single_strength(monkeypatch, counts)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    logits = cross_val_predict(model, standardised(features), codes, cv=folds, method="decision_function")
    expected = fit_temperature(logits, codes)
    assert fit_head(features, labels, 3).temperature == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("counts", [{"a": 40, "b": 40, "c": 40}, {"a": 60, "b": 60}], ids=["three", "two"])
def test_the_temperature_is_that_of_groups_held_out(monkeypatch, counts):
    features, labels = clouds(counts, spread=3.0)
    groups = np.tile(["x", "y", "z", "z"], 30)
    features[groups == "y"] += 2
    _, codes, n_cells = np.unique(labels, return_inverse=True, return_counts=True)
    model = single_strength(monkeypatch, n_cells)
    options = {"groups": groups, "cv": LeaveOneGroupOut(), "method": "decision_function"}
    logits = cross_val_predict(model, standardised(features), codes, **options)
    logits = logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
    head = fit_head(features, labels, groups=groups)
    assert head.temperature == pytest.approx(fit_temperature(logits, codes), rel=1e-3)
    assert head.temperature != pytest.approx(fit_head(features, labels).temperature, rel=1e-2)
    # Groups only decide the temperature: the fit itself is that of all cells.
    np.testing.assert_allclose(head.classifier.weight, fit_head(features, labels).classifier.weight)


def test_the_strength_is_chosen_on_held_out_cells(monkeypatch):
    features, labels = clouds({"a": 100, "b": 100}, spread=8.0, n_features=60)
    chosen = fit_head(features, labels)
    heads = []
    for strength in (0.01, 1.0):
        monkeypatch.setattr(classifier, "STRENGTHS", (strength,))
        heads.append(fit_head(features, labels))
    # Much noise asks for much regularisation.
    np.testing.assert_array_equal(chosen.classifier.weight, heads[0].classifier.weight)
    assert np.abs(heads[1].classifier.weight).mean() > 1.5 * np.abs(heads[0].classifier.weight).mean()


def test_a_label_of_one_group_is_fitted_and_not_tested():
    features, labels = clouds({"a": 40, "b": 40, "c": 20}, spread=2.0)
    groups = np.concatenate([np.tile([0, 1], 40), np.zeros(20, dtype=int)])
    codes = np.unique(labels, return_inverse=True)[1]
    head = fit_head(features, labels, groups=groups)
    assert head.labels == ("a", "b", "c")
    assert (probabilities_of(head, features[80:]).argmax(1) == 2).mean() > 0.7
    np.testing.assert_array_equal(can_be_tested(codes, group_folds(codes, groups)), labels != "c")
    # Its cells are tested nowhere, so it does not matter how far away they are.
    assert 0.05 < head.temperature < 20


def test_probabilities_are_calibrated_for_new_groups():
    counts, n_features = {"a": 400, "b": 400, "c": 400}, 20
    # Every group is moved by a vector of its own: 20 groups to learn from, and 100 others.
    groups, rng = np.arange(1200) % 20, np.random.default_rng(2)
    features, labels = clouds(counts, 2.0, n_features)
    features += 6 * rng.normal(size=(20, n_features))[groups]
    fresh, truth = clouds(counts, 2.0, n_features, seed=1)
    fresh += 6 * rng.normal(size=(100, n_features))[np.arange(1200) % 100]

    def overconfidence(head):
        probabilities = probabilities_of(head, fresh)
        correct = np.asarray(head.labels)[probabilities.argmax(1)] == truth
        return probabilities.max(1).mean() - correct.mean()

    assert overconfidence(fit_head(features, labels)) > 0.12
    assert abs(overconfidence(fit_head(features, labels, groups=groups))) < 0.08


def test_groups_make_at_most_five_folds_and_are_never_divided(recwarn):
    codes = np.repeat([0, 1, 2], [40, 40, 3])
    groups = np.arange(83) % 9
    folds = group_folds(codes, groups)
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(83))
    assert all(not set(groups[train]) & set(groups[test]) for train, test in folds)
    assert len(group_folds(codes, groups % 3)) == 3
    # Folds that leave one label to learn from cannot test anything.
    assert not can_be_tested(codes, group_folds(codes, codes)).any()
    assert group_folds(codes[:80], codes[:80]) == []
    assert not recwarn.list


@pytest.mark.parametrize(("n_rare", "n_folds"), [(2, 2), (3, 3), (20, 5)])
def test_cells_make_as_many_folds_as_the_rarest_label_allows(n_rare, n_folds):
    codes = np.repeat([0, 1], [40, n_rare])
    folds = cell_folds(codes, 0)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(codes)))
    assert all(1 in codes[test] for _, test in folds)


def test_held_out_logits_come_from_fits_without_the_fold():
    folds = [(np.array([1, 2]), np.array([0])), (np.array([0]), np.array([1, 2]))]
    logits = held_out_logits(lambda train, test: np.stack([test, np.full(len(test), train.sum())], axis=1), folds, 4)
    np.testing.assert_array_equal(logits, [[0, 3], [1, 0], [2, 0], [np.nan, np.nan]])


def test_labels_without_cells_have_probability_zero():
    features, labels = clouds({"a": 20, "b": 20, "c": 20})
    codes = np.unique(labels, return_inverse=True)[1]
    classifier_of_two = fit_linear(features[codes > 0], codes[codes > 0], 4, 0.1, np.ones(40))
    logits = classifier_of_two.logits(features)
    assert np.isneginf(logits[:, [0, 3]]).all()
    np.testing.assert_allclose(logits[:, 1], -logits[:, 2])  # centred, as with more labels
    assert (logits[codes > 0].argmax(1) == codes[codes > 0]).mean() > 0.95


def test_weights_of_cells_count():
    view = np.concatenate([np.random.default_rng(0).normal(size=(400, 1)), np.full((20, 1), 1.5)])
    codes = np.repeat([0, 1], [400, 20])
    light, heavy = (fit_linear(view, codes, 2, 0.1, np.where(codes == 1, weight, 1)) for weight in (1, 20))
    assert heavy.logits(np.array([[1.5]]))[0, 1] > light.logits(np.array([[1.5]]))[0, 1]
