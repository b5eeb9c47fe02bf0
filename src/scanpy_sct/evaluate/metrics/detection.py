"""Whether an entry is detected: ranking and calibration of its probability, from histograms."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.metrics.bootstrap import sums_by

# Average precision is computed from so many bins of the score, which hold equally many detected entries: it is exact
# where there are fewer of these, and too low by less than 0.001 where there are more.
_N_SCORE_BINS = 2000


def precision_sums(detected: np.ndarray, score: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Count detected and all entries in bins of the score, from the highest to the lowest; (n_groups, 2, n_bins).

    `detected`, any `score` that is higher where detection is more likely, and `group` are given for each entry.
    """
    found = score[detected]
    # Edges are scores of detected entries; "lower" takes them as they are, so that ties stay together.
    levels = np.linspace(0, 1, _N_SCORE_BINS + 1)
    edges = np.unique(np.quantile(found, levels, method="lower")) if len(found) else np.empty(0, dtype=score.dtype)
    n_bins = len(edges) + 1
    bins = n_bins - 1 - np.searchsorted(edges, score, side="right")
    return sums_by(group * n_bins + bins, [detected, None], (n_groups, n_bins))


def precision_score(sums: np.ndarray) -> np.ndarray:
    """Compute average precision from sums as in :func:`precision_sums`, (n, 2, n_bins) -> (n,).

    The fraction of detected entries for a random score; NaN where no entry is detected.
    """
    detected, called = np.cumsum(sums, axis=2).transpose(1, 0, 2)
    precision = np.divide(detected, called, out=np.zeros_like(detected), where=called > 0)
    n_detected = detected[:, -1]
    area = (sums[:, 0] * precision).sum(axis=1)
    return np.divide(area, n_detected, out=np.full_like(area, np.nan), where=n_detected > 0)


def calibration_sums(
    detected: np.ndarray, probability: np.ndarray, group: np.ndarray, n_groups: int, n_intervals: int = 15
) -> np.ndarray:
    """Sum probabilities, detected and all entries in equally wide intervals of probability; (n_groups, 3, n_intervals).

    `detected`, `probability` and `group` are given for each entry.
    """
    interval = np.minimum((probability * n_intervals).astype(np.int64), n_intervals - 1)
    return sums_by(group * n_intervals + interval, [probability, detected, None], (n_groups, n_intervals))


def calibration_score(sums: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error from sums as in :func:`calibration_sums`, (n, 3, n_intervals) -> (n,).

    The distance between the mean prediction and the measured fraction of each interval is averaged, weighted by its
    number of entries (Naeini et al. 2015): 0 where the probabilities are calibrated, 1 at most.
    """
    n_entries = sums[:, 2].sum(axis=1)
    distance = np.abs(sums[:, 0] - sums[:, 1]).sum(axis=1)
    return np.divide(distance, n_entries, out=np.full_like(distance, np.nan), where=n_entries > 0)
