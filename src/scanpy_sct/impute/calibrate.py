"""Calibrate predictions to the data, for each gene and pass.

This corrects for tissues, donors or chemistries in which a gene is detected more or less often, or with other values,
than in the training data. A group (one gene in one pass) is calibrated to the entries that are visible in the pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanpy_sct.impute.groups import Groups

PRIOR_CELLS = 2.0
NEWTON_STEPS = 6
MAX_STEP = 2.0
MIN_PROBABILITY = 1e-6
MAX_LOG_ODDS = float(np.log(1 / MIN_PROBABILITY - 1))
CONVERGED = 1e-7
"""Error of the mean probability of all groups at which the iteration stops."""


@dataclass(frozen=True)
class VisibleCounts:
    """Counts of the visible entries of each gene in each pass, (genes, passes) float64 each."""

    n_detected: np.ndarray
    """Cells in which the gene is visible and detected."""
    n_visible: np.ndarray
    """Cells in which it is visible."""
    sums: np.ndarray
    """Sum of its visible values."""

    @classmethod
    def of(cls, values: np.ndarray, groups: Groups, is_known: np.ndarray) -> VisibleCounts:
        """Count the measured ``values`` (entries,) of all groups; ``is_known`` (passes,) bool as in `BlockMasks`."""
        tables = (groups.sum((values > 0).astype(np.float32)), groups.sizes.astype(np.float64), groups.sum(values))
        return cls(*(_of_other_passes(np.where(is_known, table, 0)) for table in tables))


def _of_other_passes(table: np.ndarray) -> np.ndarray:
    return table.sum(axis=1, keepdims=True) - table


@dataclass(frozen=True)
class Calibration:
    """Correction of predictions, (genes, passes) float32 each."""

    shift: np.ndarray
    """Added to the log-odds of detection."""
    factor: np.ndarray
    """Multiplies the conditional mean."""

    @classmethod
    def neutral(cls, n_genes: int, n_passes: int) -> Calibration:
        """Make a calibration that changes nothing."""
        shift, factor = np.zeros((n_genes, n_passes)), np.ones((n_genes, n_passes))
        return cls(shift.astype(np.float32), factor.astype(np.float32))

    def put(self, genes: np.ndarray, found: Calibration) -> None:
        """Set the calibration of some genes."""
        self.shift[genes], self.factor[genes] = found.shift, found.factor


def calibrate(
    log_odds: np.ndarray, conditional_mean: np.ndarray, groups: Groups, visible: VisibleCounts
) -> Calibration:
    """Estimate the calibration of predictions, ``log_odds`` and ``conditional_mean`` (entries,)."""
    shift = detection_shift(log_odds, groups, visible)
    detection = probability(log_odds + groups.spread(shift))
    return Calibration(shift, mean_factor(conditional_mean, detection, groups, visible))


def detection_shift(log_odds: np.ndarray, groups: Groups, visible: VisibleCounts) -> np.ndarray:
    """Estimate the shift of the log-odds of each group that makes their mean probability the visible detection rate.

    Parameters
    ----------
    log_odds
        (entries,) predicted log-odds of detection.
    groups
        Order of the entries.
    visible
        Visible entries; the detection rate is shrunk towards the mean prediction with the weight of two cells.

    Returns
    -------
    (genes, passes) float32.
    """
    size = np.maximum(groups.sizes, 1)
    mean = groups.sum(probability(log_odds)) / size
    target = (visible.n_detected + PRIOR_CELLS * mean) / (visible.n_visible + PRIOR_CELLS)
    target = np.clip(target, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    shift = _log_odds(target) - _log_odds(mean)
    for _ in range(NEWTON_STEPS):
        p = probability(log_odds + groups.spread(shift.astype(np.float32)))
        error = target - groups.sum(p) / size
        if np.abs(error[groups.sizes > 0]).max(initial=0) < CONVERGED:
            break
        slope = groups.sum(p * (1 - p)) / size
        shift += np.clip(error / np.maximum(slope, MIN_PROBABILITY), -MAX_STEP, MAX_STEP)
    return complete(shift, groups)


def mean_factor(
    conditional_mean: np.ndarray, detection: np.ndarray, groups: Groups, visible: VisibleCounts
) -> np.ndarray:
    """Estimate the factor of the conditional mean of each group that brings it to the mean of visible values.

    Parameters
    ----------
    conditional_mean, detection
        (entries,) predicted conditional mean, and calibrated detection probability.
    groups
        Order of the entries.
    visible
        Visible entries; the factor is shrunk towards 1 with the weight of two cells.

    Returns
    -------
    (genes, passes) float32.
    """
    weight = np.maximum(groups.sum(detection), MIN_PROBABILITY)
    mean = np.maximum(groups.sum(detection * conditional_mean) / weight, MIN_PROBABILITY)
    return complete((visible.sums / mean + PRIOR_CELLS) / (visible.n_detected + PRIOR_CELLS), groups)


def complete(table: np.ndarray, groups: Groups) -> np.ndarray:
    """Complete estimates (genes, passes) for empty groups: the mean of the gene's other groups, weighted by size.

    A group may be empty in the cells of the fit and have entries in other cells.
    """
    sizes = groups.sizes.astype(np.float64)
    total = sizes.sum(axis=1, keepdims=True)
    mean = (table * sizes).sum(axis=1, keepdims=True) / np.maximum(total, 1)
    return np.where((sizes == 0) & (total > 0), mean, table).astype(np.float32)


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def probability(log_odds: np.ndarray) -> np.ndarray:
    """Return the probability of some log-odds."""
    result = np.exp(-log_odds)
    result += 1
    return np.divide(1, result, out=result)
