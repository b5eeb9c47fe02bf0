"""An ensemble of linear classifiers: each reads other genes, and their mean is the less certain the less they agree.

A single classifier is nearly as certain on cells of another study as on its own, though it errs more often there.
Classifiers that read different genes make different errors, so their mean is less certain where it errs
(Lakshminarayanan et al. 2017).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logsumexp, softmax

from scanpy_sct.annotate.classifier import (
    Folds,
    LinearClassifier,
    can_be_tested,
    cell_folds,
    fit_linear,
    fit_temperature,
    group_folds,
    left_out_logits,
)

logger = logging.getLogger(__name__)

STRENGTH = 0.1
"""`C` of every member, the inverse strength of regularisation."""
RARITY = 0.75
"""The weight of a cell is the size of its label to the power of minus this: 0 counts cells, 1 counts labels."""
MIN_TESTABLE = 0.8
"""Folds consist of whole samples only if at least this fraction of the cells has a label that other folds know."""
_TINY = 1e-9

HeldOut = Literal["samples", "cells"]


@dataclass(frozen=True)
class Ensemble:
    """Classifiers of the same labels, each on features of its own."""

    labels: tuple[str, ...]
    members: tuple[LinearClassifier, ...]
    temperature: float
    """Divides the logarithm of the mean probability."""
    held_out: HeldOut
    """What was left out in turn to fit the temperature."""

    def probabilities(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return the calibrated probability of each label, (n_cells, n_labels); rows sum to one."""
        return softmax(_log_mean(self.members, views) / self.temperature, axis=1)

    def energy(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return the energy score (Liu et al. 2020), (n_cells,): large where the logits of all labels are small.

        It is the mean over the members. A cell can be much nearer to one label than to the others and still have a
        small logit for it.
        """
        energies = [-logsumexp(m.logits(view), axis=1) for m, view in zip(self.members, views, strict=True)]
        return np.mean(energies, axis=0)


def fit_ensemble(views: Sequence[np.ndarray], labels: np.ndarray, samples: np.ndarray, seed: int) -> Ensemble:
    """Fit one classifier for each view, and the temperature of their mean on cells left out in turn.

    Parameters
    ----------
    views
        (n_cells, n_features) each, of comparable scale.
    labels
        Strings, (n_cells,); at least two labels, each with at least two cells.
    samples
        Number of the sample of each cell, (n_cells,). Where most labels occur in several samples, whole samples are
        left out in turn, so that the probabilities hold for new donors; else single cells.
    seed
        Decides which cells make a fold.
    """
    different, codes = np.unique(labels, return_inverse=True)

    def fit(rows: np.ndarray) -> tuple[LinearClassifier, ...]:
        return tuple(_fit_member(view[rows], codes[rows], len(different)) for view in views)

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return _log_mean(fit(train), [view[test] for view in views])

    folds, held_out = choose_folds(codes, samples, seed)
    tested = can_be_tested(codes, folds)
    temperature = fit_temperature(left_out_logits(predict, folds, len(codes))[tested], codes[tested])
    logger.info("Temperature %.2f fitted to left-out %s.", temperature, held_out)
    return Ensemble(tuple(different.tolist()), fit(np.arange(len(codes))), temperature, held_out)


def _fit_member(view: np.ndarray, codes: np.ndarray, n_labels: int) -> LinearClassifier:
    weights = np.bincount(codes, minlength=n_labels)[codes] ** -RARITY
    return fit_linear(view, codes, n_labels, STRENGTH, weights / weights.mean())


def choose_folds(codes: np.ndarray, samples: np.ndarray, seed: int) -> tuple[Folds, HeldOut]:
    """Make folds of whole samples if most cells can be tested by them, else of cells; at most five."""
    if len(np.unique(samples)) > 1:
        folds = group_folds(codes, samples)
        if can_be_tested(codes, folds).mean() >= MIN_TESTABLE:
            return folds, "samples"
    return cell_folds(codes, seed), "cells"


def _log_mean(members: Sequence[LinearClassifier], views: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean probability, (n_cells, n_labels)."""
    probabilities = [softmax(m.logits(view), axis=1) for m, view in zip(members, views, strict=True)]
    return np.log(np.mean(probabilities, axis=0) + _TINY)
