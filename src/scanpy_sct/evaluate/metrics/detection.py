"""Whether an entry is expressed: ranking and calibration of its probability, from histograms."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.metrics.bootstrap import sums_by

# Average precision is computed from so many bins of the score, which hold equally many expressed entries: it is exact
# where there are fewer of these, and too low by less than 0.001 where there are more.
_N_SCORE_BINS = 2000


def precision_sums(expressed: np.ndarray, score: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Count entries, and expressed ones, in bins of the score.

    Parameters
    ----------
    expressed
        bool array (n_entries,): what was measured.
    score
        float array (n_entries,): any score that is higher where expression is more likely.
    group
        int (n_entries,): the group of each entry.
    n_groups
        Number of groups.

    Returns
    -------
    float64 array (n_groups, 2, n_bins): expressed and all entries, from the highest score to the lowest.
    """
    found = score[expressed]
    # Edges are scores of expressed entries; "lower" takes them as they are, so that ties stay together.
    levels = np.linspace(0, 1, _N_SCORE_BINS + 1)
    edges = np.unique(np.quantile(found, levels, method="lower")) if len(found) else np.empty(0, dtype=score.dtype)
    n_bins = len(edges) + 1
    bins = n_bins - 1 - np.searchsorted(edges, score, side="right")
    return sums_by(group * n_bins + bins, [expressed, None], (n_groups, n_bins))


def precision_score(sums: np.ndarray) -> np.ndarray:
    """Compute average precision from sums as in :func:`precision_sums`, (n, 2, n_bins) -> (n,).

    The share of expressed entries for a score that knows nothing; nan where no entry is expressed.
    """
    expressed, called = np.cumsum(sums, axis=2).transpose(1, 0, 2)
    precision = np.divide(expressed, called, out=np.zeros_like(expressed), where=called > 0)
    n_expressed = expressed[:, -1]
    area = (sums[:, 0] * precision).sum(axis=1)
    return np.divide(area, n_expressed, out=np.full_like(area, np.nan), where=n_expressed > 0)


def calibration_sums(
    expressed: np.ndarray, probability: np.ndarray, group: np.ndarray, n_groups: int, n_intervals: int = 15
) -> np.ndarray:
    """Sum probabilities, expressed and all entries in equally wide intervals of probability.

    Parameters
    ----------
    expressed
        bool array (n_entries,): what was measured.
    probability
        float array (n_entries,), between 0 and 1.
    group
        int (n_entries,): the group of each entry.
    n_groups, n_intervals
        Number of groups, and of intervals.

    Returns
    -------
    float64 array (n_groups, 3, n_intervals).
    """
    interval = np.minimum((probability * n_intervals).astype(np.int64), n_intervals - 1)
    return sums_by(group * n_intervals + interval, [probability, expressed, None], (n_groups, n_intervals))


def calibration_score(sums: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error from sums as in :func:`calibration_sums`, (n, 3, n_intervals) -> (n,).

    The distance between the mean prediction and the measured share of each interval is averaged, weighted by its number
    of entries (Naeini et al. 2015): 0 where the probabilities are calibrated, 1 at most.
    """
    n_entries = sums[:, 2].sum(axis=1)
    distance = np.abs(sums[:, 0] - sums[:, 1]).sum(axis=1)
    return np.divide(distance, n_entries, out=np.full_like(distance, np.nan), where=n_entries > 0)
