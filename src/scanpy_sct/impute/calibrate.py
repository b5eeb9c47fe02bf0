"""Fit predictions to the data at hand: the network knows which cells, the data know how often and how strongly.

Entries come as flat arrays. Each belongs to a *group*, one gene in one pass; a group is fitted to the entries of its
gene that were visible in that pass.
"""

from __future__ import annotations

import numpy as np

PRIOR_CELLS = 2.0
NEWTON_STEPS = 6
MAX_STEP = 2.0
MIN_PROBABILITY = 1e-6


def calibrate_detection(
    detection: np.ndarray, group: np.ndarray, n_expressed: np.ndarray, n_visible: np.ndarray
) -> np.ndarray:
    """Shift the log-odds of each group so that it is predicted expressed as often as it is seen expressed.

    Parameters
    ----------
    detection
        (entries,) predicted probability that a hidden entry is expressed.
    group
        (entries,) group of each entry.
    n_expressed, n_visible
        (groups,) number of cells in which the gene was visible and expressed, and visible at all. The share is shrunk
        towards the mean prediction with the weight of two cells.

    Returns
    -------
    (entries,) float32.
    """
    n_groups = len(n_expressed)
    size = np.maximum(np.bincount(group, minlength=n_groups), 1)
    mean = np.bincount(group, detection, n_groups) / size
    target = np.clip(
        (n_expressed + PRIOR_CELLS * mean) / (n_visible + PRIOR_CELLS), MIN_PROBABILITY, 1 - MIN_PROBABILITY
    )
    log_odds = _log_odds(detection).astype(np.float32)
    shift = _log_odds(target) - _log_odds(mean)
    for _ in range(NEWTON_STEPS):
        p = _probability(log_odds + shift.astype(np.float32)[group])
        slope = np.bincount(group, p * (1 - p), n_groups) / size
        error = target - np.bincount(group, p, n_groups) / size
        shift += np.clip(error / np.maximum(slope, MIN_PROBABILITY), -MAX_STEP, MAX_STEP)
    return _probability(log_odds + shift.astype(np.float32)[group])


def calibrate_level(
    level: np.ndarray, detection: np.ndarray, group: np.ndarray, sum_values: np.ndarray, n_expressed: np.ndarray
) -> np.ndarray:
    """Scale the level predicted for expressing cells to the mean level seen, group by group.

    ``sum_values`` (groups,) is the sum of the gene's visible values and ``n_expressed`` their number; the factor is
    shrunk towards 1 with the weight of two cells. Other arguments as in :func:`calibrate_detection`.
    """
    n_groups = len(n_expressed)
    weight = np.maximum(np.bincount(group, detection, n_groups), MIN_PROBABILITY)
    mean = np.maximum(np.bincount(group, detection * level, n_groups) / weight, MIN_PROBABILITY)
    factor = (sum_values / mean + PRIOR_CELLS) / (n_expressed + PRIOR_CELLS)
    return level * factor.astype(np.float32)[group]


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def _probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))
