"""Metrics of annotations: functions of one table of probabilities, with weights of cells for a bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from scanpy_sct.evaluate.metrics.bootstrap import Estimate, draw_weights, percentile_interval

N_BINS = 15


def compare(table: pd.DataFrame, truth: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Compare probabilities, cells x labels, with the true labels.

    Returns one row for each cell: `truth`; `label`, the most probable one; `score`, its probability; `group`, what a
    bootstrap draws; `is_known`, whether the true label is among those of the table; and `is_correct`.
    """
    values, labels = table.to_numpy(dtype=np.float64), table.columns.to_numpy(dtype=str)
    label, is_known = labels[values.argmax(1)], np.isin(truth, labels)
    columns = {"truth": truth, "label": label, "score": values.max(1), "group": groups, "is_known": is_known}
    return pd.DataFrame({**columns, "is_correct": truth == label})


Metric = Callable[[pd.DataFrame, np.ndarray], float]
"""Maps predictions, from :func:`compare`, and the weight of each cell to a value."""


def accuracy(predictions: pd.DataFrame, weight: np.ndarray) -> float:
    """Fraction of the cells with the right label."""
    return float(np.average(predictions["is_correct"], weights=weight))


def macro_f1(predictions: pd.DataFrame, weight: np.ndarray) -> float:
    """F1 of each true label, mean over labels; predicting labels that no cell has costs recall alone."""
    truth, labels = pd.factorize(predictions["truth"])
    predicted = labels.get_indexer(predictions["label"])  # -1 for labels that no cell has
    n_true = np.bincount(truth, weights=weight)
    n_predicted = np.bincount(predicted + 1, weights=weight, minlength=len(labels) + 1)[1:]
    n_correct = np.bincount(truth, weights=weight * predictions["is_correct"])
    # A resampling may leave a label without cells; it has no F1 then.
    present = n_true > 0
    return float((2 * n_correct / np.maximum(n_true + n_predicted, 1e-12))[present].mean())


def calibration_error(predictions: pd.DataFrame, weight: np.ndarray) -> float:
    """Mean distance between probability and accuracy, over 15 bins of equal width (Naeini et al. 2015)."""
    score, is_correct = predictions["score"].to_numpy(), predictions["is_correct"].to_numpy()
    interval = np.minimum((score * N_BINS).astype(np.int64), N_BINS - 1)
    excess = np.bincount(interval, weights=weight * (score - is_correct))
    return float(np.abs(excess).sum() / weight.sum())


def accuracy_at(percent: int, predictions: pd.DataFrame, weight: np.ndarray) -> float:
    """Accuracy among the `percent` % of the cells with the most certain labels."""
    order = np.argsort(-predictions["score"].to_numpy(), kind="stable")
    below = np.cumsum(weight[order]) - weight[order]
    kept = np.where(below < percent / 100 * weight.sum() - 1e-9, weight[order], 0)
    return float(np.average(predictions["is_correct"].to_numpy()[order], weights=kept))


def unknown_auroc(predictions: pd.DataFrame, weight: np.ndarray) -> float:
    """Area under the ROC curve with which one minus the score finds types the method lacks; NaN without both kinds."""
    used = predictions[weight > 0]
    if used["is_known"].nunique() < 2:
        return float("nan")
    return float(roc_auc_score(~used["is_known"], -used["score"], sample_weight=weight[weight > 0]))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
    **{f"accuracy_at_{percent}": partial(accuracy_at, percent) for percent in (90, 75, 50)},
}
"""Metrics of cells whose label the method knows."""


def estimate(metric: Metric, predictions: pd.DataFrame, n_bootstrap: int, seed: int) -> Estimate:
    """Compute a metric with its 95 % percentile interval over resampled groups of cells."""
    groups, codes = np.unique(predictions["group"], return_inverse=True)
    weights = draw_weights(len(groups), n_bootstrap, np.random.default_rng(seed))
    drawn = np.array([metric(predictions, weight[codes]) for weight in weights])
    return Estimate(metric(predictions, np.ones(len(codes))), *percentile_interval(drawn))
