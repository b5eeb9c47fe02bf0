"""Metrics of annotations: functions of one table of probabilities, with weights of cells for a bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from scanpy_sct.evaluate.metrics.bootstrap import Estimate, draw_weights, percentile_interval

N_BINS = 15
KEPT = (90, 75, 50)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a method predicts for cells whose labels are known."""

    truth: np.ndarray
    """str (n_cells,)."""
    label: np.ndarray
    """str (n_cells,): the most probable label."""
    score: np.ndarray
    """float (n_cells,): its probability."""
    groups: np.ndarray
    """int (n_cells,): what a bootstrap draws."""
    is_known: np.ndarray
    """bool (n_cells,): the true label is among those that the method knows."""

    @classmethod
    def of(cls, table: pd.DataFrame, truth: np.ndarray, groups: np.ndarray) -> Predictions:
        """Read a table of probabilities, cells x labels."""
        values = table.to_numpy(dtype=np.float64)
        columns = table.columns.to_numpy(dtype=str)
        return cls(truth, columns[values.argmax(1)], values.max(1), groups, np.isin(truth, columns))

    @classmethod
    def joined(cls, parts: list[Predictions]) -> Predictions:
        """Concatenate the cells of several splits."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def subset(self, keep: np.ndarray) -> Predictions:
        """Return the cells for which ``keep``, bool (n_cells,), is true."""
        return Predictions(*(getattr(self, field.name)[keep] for field in fields(self)))

    @cached_property
    def is_correct(self) -> np.ndarray:
        """Whether the predicted label is the true one, bool (n_cells,)."""
        return self.truth == self.label


Metric = Callable[[Predictions, np.ndarray], float]
"""From predictions and the weight of each cell to a value."""


def accuracy(predictions: Predictions, weight: np.ndarray) -> float:
    """Fraction of the cells with the right label."""
    return float(np.average(predictions.is_correct, weights=weight))


def macro_f1(predictions: Predictions, weight: np.ndarray) -> float:
    """F1 of each true label, mean over labels; predicting labels that no cell has costs recall alone."""
    labels, truth = np.unique(predictions.truth, return_inverse=True)
    index = np.minimum(np.searchsorted(labels, predictions.label), len(labels) - 1)
    predicted = np.where(labels[index] == predictions.label, index, len(labels))
    n_true = np.bincount(truth, weights=weight, minlength=len(labels))
    n_predicted = np.bincount(predicted, weights=weight, minlength=len(labels) + 1)[: len(labels)]
    n_correct = np.bincount(truth, weights=weight * predictions.is_correct, minlength=len(labels))
    # A resampling may leave a label without cells; it has no F1 then.
    present = n_true > 0
    return float((2 * n_correct / np.maximum(n_true + n_predicted, 1e-12))[present].mean())


def calibration_error(predictions: Predictions, weight: np.ndarray) -> float:
    """Mean distance between probability and accuracy, over 15 bins of equal width (Naeini et al. 2015)."""
    interval = np.minimum((predictions.score * N_BINS).astype(np.int64), N_BINS - 1)
    excess = np.bincount(interval, weights=weight * (predictions.score - predictions.is_correct), minlength=N_BINS)
    return float(np.abs(excess).sum() / weight.sum())


def accuracy_at(percent: int) -> Metric:
    """Make a metric: the accuracy among the ``percent`` % of the cells with the most certain labels."""

    def metric(predictions: Predictions, weight: np.ndarray) -> float:
        order = np.argsort(-predictions.score, kind="stable")
        below = np.cumsum(weight[order]) - weight[order]
        kept = np.where(below < percent / 100 * weight.sum() - 1e-9, weight[order], 0)
        return float(np.average(predictions.is_correct[order], weights=kept))

    return metric


def unknown_auroc(predictions: Predictions, weight: np.ndarray) -> float:
    """Area under the ROC curve with which one minus the score finds types the method lacks; NaN without both kinds."""
    used = weight > 0
    if len(np.unique(predictions.is_known[used])) < 2:
        return float("nan")
    return float(roc_auc_score(~predictions.is_known[used], -predictions.score[used], sample_weight=weight[used]))


METRICS = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
    **{f"accuracy_at_{percent}": accuracy_at(percent) for percent in KEPT},
}
"""Metrics of cells whose label the method knows."""


def estimate(
    metric: Metric,
    predictions: Predictions,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> Estimate:
    """Compute a metric with its 95 % percentile interval over resampled groups of cells."""
    groups, codes = np.unique(predictions.groups, return_inverse=True)
    value = metric(predictions, np.ones(len(codes)))
    drawn = [metric(predictions, weight[codes]) for weight in draw_weights(len(groups), n_bootstrap, rng)]
    return Estimate(value, *percentile_interval(np.array(drawn)))
