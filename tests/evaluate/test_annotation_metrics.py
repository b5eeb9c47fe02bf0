from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from scanpy_sct.evaluate.annotation_metrics import (
    accuracy,
    accuracy_at,
    calibration_error,
    compare,
    estimate,
    macro_f1,
    unknown_auroc,
)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(softmax(2 * rng.normal(size=(300, 3)), axis=1), columns=list("abc"))
    truth = np.where(rng.random(300) < 0.6, table.idxmax(axis=1), rng.choice(list("abcd"), 300))
    return compare(table, truth.astype(str), np.arange(300) % 30)


def test_metrics_agree_with_scikit_learn(predictions):
    known, ones = predictions[predictions["is_known"]], np.ones(predictions["is_known"].sum())
    assert accuracy(known, ones) == accuracy_score(known["truth"], known["label"])
    assert macro_f1(known, ones) == pytest.approx(f1_score(known["truth"], known["label"], average="macro"))
    all_ones = np.ones(len(predictions["truth"]))
    assert unknown_auroc(predictions, all_ones) == pytest.approx(
        roc_auc_score(predictions["truth"] == "d", -predictions["score"])
    )
    assert np.isnan(unknown_auroc(known, ones))


def test_weights_count_cells_as_often_as_they_are_drawn(predictions):
    predictions = predictions[predictions["is_known"]]
    times = np.random.default_rng(1).integers(3, size=len(predictions["truth"]))
    drawn = predictions.loc[predictions.index.repeat(times)]
    for metric in (accuracy, macro_f1, calibration_error, partial(accuracy_at, 75)):
        assert metric(predictions, times.astype(float)) == pytest.approx(metric(drawn, np.ones(times.sum())), abs=0.01)


def test_calibration_error_by_hand():
    n = 400
    table = pd.DataFrame({"a": np.full(n, 0.8), "b": 0.2})
    predictions = compare(table, np.repeat(["a", "b"], n // 2), np.arange(n))
    assert calibration_error(predictions, np.ones(n)) == pytest.approx(0.3)


def test_certain_cells_come_first():
    score = np.linspace(0.1, 1, 100)
    truth = np.where(score > 0.5, "a", "b")
    predictions = compare(pd.DataFrame({"a": score, "b": 0}), truth, np.arange(100))
    assert accuracy_at(50, predictions, np.ones(100)) == 1
    assert accuracy_at(90, predictions, np.ones(100)) < 0.7


def test_intervals_are_wider_over_few_groups(predictions):
    known = predictions[predictions["is_known"]]
    wide = known.assign(group=(known["truth"] == "a").astype(int))
    narrow, wide = (estimate(accuracy, each, 200, seed=0) for each in (known, wide))
    assert narrow.lower < narrow.value < narrow.upper
    assert wide.upper - wide.lower > narrow.upper - narrow.lower
