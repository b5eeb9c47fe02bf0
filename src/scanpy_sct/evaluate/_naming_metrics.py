"""How well cells were named: metrics of one table of probabilities, with weights of cells for a bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from scanpy_sct.evaluate.metrics.bootstrap import Estimate, draw_weights, percentile_interval

N_BINS = 15
KEPT = (90, 75, 50)


@dataclass(frozen=True, eq=False)
class Named:
    """What a method says about cells whose names are known."""

    truth: np.ndarray
    """str (n_cells,)."""
    name: np.ndarray
    """str (n_cells,): the most probable name."""
    score: np.ndarray
    """float (n_cells,): its probability."""
    groups: np.ndarray
    """int (n_cells,): what is drawn again in a bootstrap."""
    knowable: np.ndarray
    """bool (n_cells,): the method knows the name of the cell."""

    @classmethod
    def of(cls, table: pd.DataFrame, truth: np.ndarray, groups: np.ndarray) -> Named:
        """Read a table of probabilities, cells x labels."""
        values = table.to_numpy(dtype=np.float64)
        columns = table.columns.to_numpy(dtype=str)
        return cls(truth, columns[values.argmax(1)], values.max(1), groups, np.isin(truth, columns))

    @classmethod
    def joined(cls, parts: list[Named]) -> Named:
        """Put the cells of several splits together."""
        names = ("truth", "name", "score", "groups", "knowable")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def known(self) -> Named:
        """Cells whose name the method could have given."""
        names = ("truth", "name", "score", "groups", "knowable")
        return Named(*(getattr(self, name)[self.knowable] for name in names))

    @cached_property
    def right(self) -> np.ndarray:
        """Whether the name is the true one, bool (n_cells,)."""
        return self.truth == self.name


def accuracy(named: Named, weight: np.ndarray) -> float:
    """Share of the cells that are named rightly."""
    return float(np.average(named.right, weights=weight))


def macro_f1(named: Named, weight: np.ndarray) -> float:
    """F1 of each true label, mean over labels; naming cells by labels that none has costs recall alone."""
    labels, truth = np.unique(named.truth, return_inverse=True)
    place = np.minimum(np.searchsorted(labels, named.name), len(labels) - 1)
    called = np.where(labels[place] == named.name, place, len(labels))
    n_true = np.bincount(truth, weights=weight, minlength=len(labels))
    n_called = np.bincount(called, weights=weight, minlength=len(labels) + 1)[: len(labels)]
    n_right = np.bincount(truth, weights=weight * named.right, minlength=len(labels))
    # A resampling may leave a label without cells; it has no F1 then.
    present = n_true > 0
    return float((2 * n_right / np.maximum(n_true + n_called, 1e-12))[present].mean())


def calibration_error(named: Named, weight: np.ndarray) -> float:
    """Mean distance between probability and share of right names, over 15 bins of equal width (Naeini et al. 2015)."""
    interval = np.minimum((named.score * N_BINS).astype(np.int64), N_BINS - 1)
    excess = np.bincount(interval, weights=weight * (named.score - named.right), minlength=N_BINS)
    return float(np.abs(excess).sum() / weight.sum())


def accuracy_at(percent: int) -> Callable[[Named, np.ndarray], float]:
    """Make the metric 'accuracy among the so many per cent of the cells whose names are most certain'."""

    def metric(named: Named, weight: np.ndarray) -> float:
        order = np.argsort(-named.score, kind="stable")
        below = np.cumsum(weight[order]) - weight[order]
        kept = np.where(below < percent / 100 * weight.sum() - 1e-9, weight[order], 0)
        return float(np.average(named.right[order], weights=kept))

    return metric


def unknown_auroc(named: Named, weight: np.ndarray) -> float:
    """Area under the ROC curve of 'the method does not know this type', by one minus the score; nan without both."""
    used = weight > 0
    if len(np.unique(named.knowable[used])) < 2:
        return float("nan")
    return float(roc_auc_score(~named.knowable[used], -named.score[used], sample_weight=weight[used]))


METRICS = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
    **{f"accuracy_at_{percent}": accuracy_at(percent) for percent in KEPT},
}
"""Metrics of cells whose name the method could have given."""


def estimate(
    metric: Callable[[Named, np.ndarray], float], named: Named, n_bootstrap: int, rng: np.random.Generator
) -> Estimate:
    """Compute a metric with its 95 % percentile interval, groups of cells being drawn again."""
    groups, codes = np.unique(named.groups, return_inverse=True)
    value = metric(named, np.ones(len(codes)))
    drawn = [metric(named, weight[codes]) for weight in draw_weights(len(groups), n_bootstrap, rng)]
    return Estimate(value, *percentile_interval(np.array(drawn)))
