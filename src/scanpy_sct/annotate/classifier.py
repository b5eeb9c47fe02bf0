"""Fit a linear classifier whose probabilities are calibrated on cells, or on groups of cells, left out in turn."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from scanpy_sct.annotate.labels import standardisation
from scanpy_sct.checkpoints.checkpoint import LabelHead

logger = logging.getLogger(__name__)

MAX_FOLDS = 5
STRENGTHS = (0.01, 0.1, 1.0)
"""Values of `C` (inverse strength of regularisation) that cross-validation chooses from."""

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""Rows to learn from and rows to test, for each fold."""


def fit_classifier(
    features: np.ndarray, labels: np.ndarray, seed: int = 0, groups: np.ndarray | None = None
) -> LabelHead:
    """Fit a regularised multinomial regression whose probabilities are calibrated by cross-validation.

    The temperature by which the logits are divided has the smallest log loss on cells left out in turn; so has the
    strength of regularisation, its losses weighted as in the fit, where a label counts with the square root of its
    number of cells: rare ones are heard, common ones lead.

    Parameters
    ----------
    features
        (cells, features), of comparable scale.
    labels
        Text, (cells,); at least two labels, each with at least two cells.
    seed
        Decides which cells make a fold.
    groups
        Group of each cell, (cells,), such as its donor: whole groups are left out in turn, see :func:`left_out_folds`.
        A label that the remaining groups lack cannot be tested: its left-out cells count neither for the strength nor
        for the temperature, and the other cells of that fold are tested among the labels that remain. At least one
        cell must be testable, see :func:`tested_cells`.
    """
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = dict(enumerate(np.sqrt(len(codes) / (len(names) * counts))))
    folds = left_out_folds(codes, seed, groups)
    tested = _tested(codes, folds)
    weights_of_cells = np.sqrt(1 / counts)[codes[tested]]
    trials = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, class_weight=weights, max_iter=1000)
        logits = _left_out_logits(model, features, codes, folds)[tested]
        temperature = fit_temperature(logits, codes[tested])
        # Weighted as the fit is: otherwise the rarest labels would have no say in how far weights are shrunk.
        loss = np.average(_log_loss(logits / temperature, codes[tested]), weights=weights_of_cells)
        trials.append((loss, temperature, strength))
    loss, temperature, strength = min(trials)
    logger.info("C=%g chosen by cross-validation: log loss %.3f at temperature %.2f.", strength, loss, temperature)
    model = LogisticRegression(C=strength, class_weight=weights, max_iter=1000).fit(features, codes)
    return _as_head(names, model, temperature)


def _as_head(names: np.ndarray, model: LogisticRegression, temperature: float) -> LabelHead:
    weight, bias = model.coef_, model.intercept_
    if len(names) == 2:  # scikit-learn gives only the second of two labels a weight
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    return LabelHead(
        labels=tuple(names.tolist()),
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        feature_mean=np.zeros(weight.shape[1], dtype=np.float32),
        feature_scale=np.ones(weight.shape[1], dtype=np.float32),
        temperature=temperature,
    )


def fit_standardised(
    features: np.ndarray, labels: np.ndarray, seed: int = 0, groups: np.ndarray | None = None
) -> LabelHead:
    """:func:`fit_classifier` on features brought to mean 0 and standard deviation 1, which the result remembers."""
    mean, scale = standardisation(features)
    head = fit_classifier((features - mean) / scale, labels, seed, groups)
    return replace(head, feature_mean=mean, feature_scale=scale)


def left_out_folds(codes: np.ndarray, seed: int, groups: np.ndarray | None = None) -> Folds:
    """Divide cells into folds that are left out in turn, with all labels in each of them as far as that can be.

    Parameters
    ----------
    codes
        Number of the label of each cell, (cells,); every number up to the largest occurs.
    seed
        Decides which cells make a fold.
    groups
        Group of each cell, (cells,), at least two; None: every cell may be divided from every other.

    Returns
    -------
    As many folds as there are groups (without groups: as the rarest label has cells), at most five. Folds that leave a
    single label to learn from, and empty ones, are left out.
    """
    counts = np.bincount(codes)
    if groups is None:
        n_folds = int(np.clip(counts.min(), 2, MAX_FOLDS))
        return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(codes, codes))
    n_folds = int(min(len(np.unique(groups)), counts.max(), MAX_FOLDS))
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A label with fewer cells than folds is no mistake here: it is missing in some of the folds.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(splitter.split(codes, codes, groups))
    return [(train, test) for train, test in folds if len(test) and len(np.unique(codes[train])) > 1]


def tested_cells(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Tell which cells can be tested when groups are left out: those whose label remains; (cells,) bool."""
    codes = np.unique(labels, return_inverse=True)[1]
    return _tested(codes, left_out_folds(codes, seed, groups))


def _tested(codes: np.ndarray, folds: Folds) -> np.ndarray:
    tested = np.zeros(len(codes), dtype=bool)
    for train, test in folds:
        tested[test] = np.isin(codes[test], codes[train])
    return tested


def _left_out_logits(model: LogisticRegression, features: np.ndarray, codes: np.ndarray, folds: Folds) -> np.ndarray:
    """Logits of each cell from a fit without its fold, (cells, labels); minus infinity for labels not learnt."""
    logits = np.full((len(codes), codes.max() + 1), -np.inf, dtype=np.result_type(features.dtype, np.float32))
    for train, test in folds:
        fitted = clone(model).fit(features[train], codes[train])
        logits[np.ix_(test, fitted.classes_)] = _logits(fitted.decision_function(features[test]))
    return logits


def _logits(decision: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(decision), decision], axis=1) if decision.ndim == 1 else decision


def _log_loss(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Log loss of each cell."""
    return -log_softmax(logits, axis=1)[np.arange(len(codes)), codes]


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """Temperature between 1/20 and 20 with the smallest mean log loss."""
    found = minimize_scalar(
        lambda log_temperature: _log_loss(logits / np.exp(log_temperature), codes).mean(),
        bounds=(-np.log(20), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))
