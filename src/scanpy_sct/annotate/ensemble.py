"""An ensemble of linear classifiers of cells, each of which reads different genes.

A single classifier is overconfident on cells of another study. Members that read different genes make different errors,
so their mean probability is lower where they err (Lakshminarayanan et al. 2017).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.special import log_softmax, logsumexp, softmax

from scanpy_sct.annotate.classifier import (
    Folds,
    LinearClassifier,
    can_be_tested,
    cell_folds,
    fit_linear,
    fit_temperature,
    group_folds,
    held_out_logits,
    log_loss,
    weights_of_cells,
)
from scanpy_sct.annotate.tissue import with_nearest

logger = logging.getLogger(__name__)

STRENGTH = 0.1
"""`C` of the members, the inverse strength of regularisation."""
MIN_TESTABLE = 0.8
"""Folds consist of whole samples only if at least this fraction of the cells has a label that occurs in other folds."""
_TINY = 1e-9

HeldOut = Literal["samples", "cells"]


@dataclass(frozen=True)
class Ensemble:
    """Classifiers of the same labels, each of which reads its own features (a view)."""

    labels: tuple[str, ...]
    members: tuple[LinearClassifier, ...]
    temperature: float
    """Divides the logarithm of the mean probability."""
    loss: float
    """Mean log loss of the held-out cells."""

    def probabilities(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return the calibrated probability of each label, (n_cells, n_labels); rows sum to one."""
        return self.calibrated(self.log_mean(views))

    def log_mean(self, views: Sequence[np.ndarray], of_few_genes: np.ndarray | None = None) -> np.ndarray:
        """Return the logarithm of the mean probability of the members, (n_cells, n_labels).

        With ``of_few_genes``, logits of :mod:`scanpy_sct.annotate.few_genes`, of the mean with their probability.
        """
        return _with_few_genes(_log_mean(self.members, views), of_few_genes)

    def calibrated(self, log_mean: np.ndarray, nearest: sparse.csr_matrix | None = None) -> np.ndarray:
        """Return calibrated probabilities from :meth:`log_mean`; with ``nearest`` if it was fitted so."""
        return softmax((log_mean if nearest is None else with_nearest(log_mean, nearest)) / self.temperature, axis=1)

    def energy(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean energy score of the members (Liu et al. 2020), (n_cells,): large if all logits are small."""
        energies = [-logsumexp(m.logits(view), axis=1) for m, view in zip(self.members, views, strict=True)]
        return np.mean(energies, axis=0)


def fit_ensemble(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    folds: Folds,
    nearest: sparse.csr_matrix | None = None,
    of_few_genes: np.ndarray | None = None,
) -> Ensemble:
    """Fit one classifier per view, and the temperature of their mean on held-out cells.

    Parameters
    ----------
    views
        (n_cells, n_features) each, of comparable scale.
    labels
        Strings, (n_cells,); at least two labels, each with at least two cells.
    folds
        Cells that are held out in turn. Those of a label that the other folds lack are not used; see
        :func:`~scanpy_sct.annotate.classifier.can_be_tested`, which must be true of at least one cell.
    nearest
        From :func:`scanpy_sct.annotate.tissue.mean_of_nearest`, if the probabilities of a cell are to be multiplied by
        those of its nearest cells. Whole samples must be held out, so that these are held out as well.
    of_few_genes
        Held-out logits of :mod:`scanpy_sct.annotate.few_genes`, (n_cells, n_labels), if these are used too.
    """
    different, codes = np.unique(labels, return_inverse=True)

    def fit(rows: np.ndarray) -> tuple[LinearClassifier, ...]:
        return tuple(_fit_member(view[rows], codes[rows], len(different)) for view in views)

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        found = _log_mean(fit(train), [view[test] for view in views])
        found = _with_few_genes(found, None if of_few_genes is None else of_few_genes[test])
        return found if nearest is None else with_nearest(found, nearest[test][:, test])

    tested = can_be_tested(codes, folds)
    logits = held_out_logits(predict, folds, len(codes))[tested]
    temperature = fit_temperature(logits, codes[tested])
    loss = float(log_loss(logits / temperature, codes[tested]).mean())
    logger.info("Temperature %.2f fitted on held-out cells: log loss %.3f.", temperature, loss)
    return Ensemble(tuple(different.tolist()), fit(np.arange(len(codes))), temperature, loss)


def _fit_member(view: np.ndarray, codes: np.ndarray, n_labels: int) -> LinearClassifier:
    return fit_linear(view, codes, n_labels, STRENGTH, weights_of_cells(codes))


def choose_folds(labels: np.ndarray, samples: np.ndarray, seed: int) -> tuple[Folds, HeldOut]:
    """Make at most five folds: of whole samples if most cells can then be tested, else of cells.

    With whole samples, probabilities hold for new donors. ``labels`` and ``samples`` are (n_cells,).
    """
    codes = np.unique(labels, return_inverse=True)[1]
    if len(np.unique(samples)) > 1:
        folds = group_folds(codes, samples)
        if can_be_tested(codes, folds).mean() >= MIN_TESTABLE:
            return folds, "samples"
    return cell_folds(codes, seed), "cells"


def _log_mean(members: Sequence[LinearClassifier], views: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean probability, (n_cells, n_labels)."""
    probabilities = [softmax(m.logits(view), axis=1) for m, view in zip(members, views, strict=True)]
    return np.log(np.mean(probabilities, axis=0) + _TINY)


def _with_few_genes(log_mean: np.ndarray, logits: np.ndarray | None) -> np.ndarray:
    """Return the logarithm of the mean of two probabilities, the second of which may be missing."""
    return log_mean if logits is None else np.logaddexp(log_mean, log_softmax(logits, axis=1)) - np.log(2)
