"""Names by a committee: classifiers that each see other genes, and whose mean is as sure as they agree.

One classifier is nearly as sure on cells of another study as on its own, though it errs more often there. Classifiers
that see different genes err differently, so that their mean grows cautious by itself (Lakshminarayanan et al. 2017).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold

from scanpy_sct.annotate.classifier import MAX_FOLDS, fit_temperature

logger = logging.getLogger(__name__)

STRENGTH = 0.1
"""`C` of every member, the inverse strength of regularisation."""
RARITY = 0.75
"""The weight of a cell is the size of its label to the power of minus this: 0 counts cells, 1 counts labels."""
MIN_TESTED = 0.8
"""Share of the cells whose label must be known to the other samples before folds may consist of samples."""
_TINY = 1e-9


@dataclass(frozen=True)
class Member:
    """A linear classifier on its own view of the cells."""

    weight: np.ndarray
    """(labels, features)."""
    bias: np.ndarray
    """(labels,); minus infinity for a label it was not taught."""

    def evidence(self, view: np.ndarray) -> np.ndarray:
        """Logit of each label, (cells, labels)."""
        return view @ self.weight.T + self.bias


@dataclass(frozen=True)
class Committee:
    """Classifiers of the same labels on different views."""

    labels: tuple[str, ...]
    members: tuple[Member, ...]
    temperature: float
    """Divides the logarithm of the mean probability."""
    held_out: str
    """What was left out in turn to fit it: "samples" or "cells"."""

    def probabilities(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Calibrated probability of each label, (cells, labels); rows sum to one."""
        return softmax(_log_mean(self.members, views) / self.temperature, axis=1)

    def strangeness(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Lack of evidence for any label, (cells,): the energy of Liu et al. (2020), mean over the members.

        Not even a cell that is clearly nearer to one label than to all others need have much evidence for it.
        """
        energies = [-logsumexp(m.evidence(v), axis=1) for m, v in zip(self.members, views, strict=True)]
        return np.mean(energies, axis=0)


def fit_committee(views: Sequence[np.ndarray], labels: np.ndarray, samples: np.ndarray, seed: int) -> Committee:
    """Fit one classifier a view, and the temperature of their mean on cells that none of them had seen.

    Parameters
    ----------
    views
        (cells, features) each, of comparable scale.
    labels
        Text, (cells,); at least two labels, each with at least two cells.
    samples
        Number of the sample of each cell, (cells,). Where most labels occur in several samples, whole samples are left
        out in turn, which shows how the labels carry over to new donors; else cells of all labels alike.
    seed
        Decides which cells make a fold.
    """
    names, codes = np.unique(labels, return_inverse=True)
    folds, held_out = choose_folds(codes, samples, seed)
    log_mean = np.full((len(codes), len(names)), np.nan)
    testable = np.zeros(len(codes), dtype=bool)
    for train, test in folds:
        members = [fit_member(view[train], codes[train], len(names)) for view in views]
        log_mean[test] = _log_mean(members, [view[test] for view in views])
        testable[test] = np.isin(codes[test], codes[train])
    temperature = fit_temperature(log_mean[testable], codes[testable])
    logger.info("Temperature %.2f fitted to left-out %s.", temperature, held_out)
    members = tuple(fit_member(view, codes, len(names)) for view in views)
    return Committee(tuple(names.tolist()), members, temperature, held_out)


def fit_member(view: np.ndarray, codes: np.ndarray, n_labels: int) -> Member:
    """Fit a regularised multinomial regression; labels without cells get no probability."""
    counts = np.bincount(codes, minlength=n_labels)
    present = np.flatnonzero(counts)
    weights = counts[codes] ** -RARITY
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(view, codes, sample_weight=weights / weights.mean())
    weight, bias = np.zeros((n_labels, view.shape[1])), np.full(n_labels, -np.inf)
    if len(present) == 2:  # scikit-learn gives only the second of two labels a weight; halves keep evidence centred
        weight[present], bias[present] = np.vstack([-model.coef_, model.coef_]) / 2, [-0.5, 0.5] * model.intercept_
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return Member(weight, bias)


def choose_folds(codes: np.ndarray, samples: np.ndarray, seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Divide the cells into at most five folds of whole samples if that can test most cells, else of cells.

    Returns
    -------
    Rows to learn from and to test, for each fold; and "samples" or "cells".
    """
    n_samples = len(np.unique(samples))
    if n_samples > 1:
        folds = list(_sample_folds(codes, samples, min(n_samples, MAX_FOLDS)))
        tested = sum(np.isin(codes[test], codes[train]).sum() for train, test in folds)
        if tested >= MIN_TESTED * len(codes):
            return folds, "samples"
    n_folds = int(np.clip(np.unique(codes, return_counts=True)[1].min(), 2, MAX_FOLDS))
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(codes, codes)), "cells"


def _sample_folds(codes: np.ndarray, samples: np.ndarray, n_folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for train, test in GroupKFold(n_folds).split(codes, groups=samples):
        if len(np.unique(codes[train])) > 1:
            yield train, test


def _log_mean(members: Sequence[Member], views: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean probability, (cells, labels)."""
    shares = [softmax(m.evidence(v), axis=1) for m, v in zip(members, views, strict=True)]
    return np.log(np.mean(shares, axis=0) + _TINY)
