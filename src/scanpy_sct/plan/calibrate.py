"""Fit predictions to the data at hand: the network knows which cells, the data know how often and how strongly."""

from __future__ import annotations

import numpy as np

PRIOR_CELLS = 2.0
NEWTON_STEPS = 8
MAX_STEP = 2.0
MIN_PROBABILITY = 1e-6


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def calibrate_detection(detection: np.ndarray, predicted: np.ndarray, n_expressed: np.ndarray, n_visible: int | np.ndarray
                        ) -> np.ndarray:
    """Shift each gene's log-odds so that it is predicted expressed as often as it is seen expressed.

    Parameters
    ----------
    detection
        (cells, genes) predicted probabilities that hidden entries are expressed.
    predicted
        (cells, genes) bool: entries that were predicted; the others are ignored and returned as they are.
    n_expressed, n_visible
        For each gene, in how many cells it was visible and expressed, and visible at all. The share is shrunk
        towards the mean prediction with the weight of two cells.

    Returns
    -------
    (cells, genes) float32.
    """
    n_predicted = np.maximum(predicted.sum(0), 1)
    mean = np.where(predicted, detection, 0).sum(0) / n_predicted
    target = (n_expressed + PRIOR_CELLS * mean) / (np.asarray(n_visible) + PRIOR_CELLS)
    log_odds = _log_odds(detection).astype(np.float32)
    shift = _log_odds(target) - _log_odds(mean)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(log_odds + shift.astype(np.float32))))
        p[~predicted] = 0
        slope = np.maximum((p * (1 - p)).sum(0), MIN_PROBABILITY)
        step = (n_predicted * target - p.sum(0)) / slope
        shift = shift + np.clip(step, -MAX_STEP, MAX_STEP)
    calibrated = 1 / (1 + np.exp(-(log_odds + shift.astype(np.float32))))
    return np.where(predicted, calibrated, detection).astype(np.float32)


def calibrate_level(level: np.ndarray, detection: np.ndarray, predicted: np.ndarray, sum_values: np.ndarray,
                    n_expressed: np.ndarray) -> np.ndarray:
    """Scale each gene's predicted level among expressing cells to the mean level that is seen.

    ``sum_values`` is the sum of the gene's visible values, ``n_expressed`` their number, per gene. The factor is
    shrunk towards 1 with the weight of two cells.
    """
    weight = np.where(predicted, detection, 0)
    mean = np.where(predicted, weight * level, 0).sum(0) / np.maximum(weight.sum(0), MIN_PROBABILITY)
    mean = np.maximum(mean, MIN_PROBABILITY)
    factor = (sum_values / mean + PRIOR_CELLS) / (n_expressed + PRIOR_CELLS)
    return np.where(predicted, level * factor.astype(np.float32), level)
