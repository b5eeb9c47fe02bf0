"""Bins of expression: agreement of measured and predicted ones."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.metrics.bootstrap import sums_by


def rate_matched(score: np.ndarray, rate: float) -> np.ndarray:
    """Call the fraction `rate` of the entries detected, those with the highest scores; bool (n_entries,).

    A threshold of one half would call far too few: most detected entries of sparse data have a low probability.
    Entries that tie at the threshold are all called or none of them, whichever is nearer.
    """
    threshold = np.quantile(score, 1 - rate, method="higher")
    at_least, above = score >= threshold, score > threshold
    return min(at_least, above, key=lambda called: abs(called.mean() - rate))


def expression_bins(value: np.ndarray, cell: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin (1, 2, ...) of values of detected entries; values beyond the edges fall into the outer bins.

    `value` and `cell` are given for each entry, (n_entries,); `edges`, (n_cells, n_bins + 1), come from
    :func:`scanpy_sct.plan.bins.bin_edges`: NaN for edges that a cell lacks.
    """
    bins = np.zeros(len(value), dtype=np.int64)
    for edge in edges.T:
        bins += value >= edge[cell]
    return np.clip(bins, 1, edges.shape[1] - 1)


def confusion_sums(
    truth: np.ndarray, predicted: np.ndarray, n_bins: int, group: np.ndarray, n_groups: int
) -> np.ndarray:
    """Count how often each measured bin meets each predicted one, float64 (n_groups, n_bins, n_bins)."""
    key = (group * n_bins + truth) * n_bins + predicted
    return sums_by(key, [None], (n_groups, n_bins, n_bins))[:, 0]


def mcc_score(confusion: np.ndarray) -> np.ndarray:
    """Compute the Matthews correlation coefficient of several classes (Gorodkin 2004), (n, n_bins, n_bins) -> (n,).

    0 for a constant prediction.
    """
    truth, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    total, right = truth.sum(axis=1), np.trace(confusion, axis1=1, axis2=2)
    covariance = right * total - (truth * predicted).sum(axis=1)
    spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
