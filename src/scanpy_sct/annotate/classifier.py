"""Linear classifiers of cells, and their calibration by cross-validation over cells or groups of cells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold

from scanpy_sct.annotate.features import standardisation
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier
from scanpy_sct.checkpoints.label_head import LabelHead

logger = logging.getLogger(__name__)

MAX_FOLDS = 5
STRENGTHS = (0.01, 0.1, 1.0)
"""Values of `C`, the inverse strength of regularisation, that cross-validation chooses from."""
RARITY = 0.75
"""A cell is weighted by the size of its label to the power of minus this: 0 weights cells equally, 1 labels."""

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""Train and test rows of each fold."""


@dataclass(frozen=True)
class LinearClassifier:
    """A multinomial logistic regression."""

    weight: np.ndarray
    """(n_labels, n_features)."""
    bias: np.ndarray
    """(n_labels,); minus infinity for a label without cells."""

    def logits(self, features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
        """Return the logit of each label, (n_cells, n_labels)."""
        return features @ self.weight.T + self.bias


def weights_of_cells(codes: np.ndarray) -> np.ndarray:
    """Return the weight of each cell by the size of its label, (n_cells,); 1 on average."""
    weights = np.bincount(codes)[codes] ** -RARITY
    return weights / weights.mean()


def fit_linear(
    features: np.ndarray | sparse.csr_matrix, codes: np.ndarray, n_labels: int, strength: float, weights: np.ndarray
) -> LinearClassifier:
    """Fit a regularised multinomial regression; labels without cells have probability zero.

    Parameters
    ----------
    features
        (n_cells, n_features).
    codes
        Index of the label of each cell, (n_cells,); at least two different ones.
    n_labels
        Number of labels, those without cells included.
    strength
        `C`, the inverse strength of regularisation.
    weights
        Weight of each cell, (n_cells,).
    """
    present = np.unique(codes)
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, codes, sample_weight=weights)
    weight, bias = np.zeros((n_labels, features.shape[1])), np.full(n_labels, -np.inf)
    if len(present) == 2:
        # scikit-learn returns one set of weights for two labels. Halves keep the logits centred, so that their energy
        # is comparable to that of more labels.
        weight[present], bias[present] = np.vstack([-model.coef_, model.coef_]) / 2, [-0.5, 0.5] * model.intercept_
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return LinearClassifier(weight, bias)


def fit_embedding_head(features: np.ndarray, labels: np.ndarray, folds: Folds) -> LabelHead:
    """Fit a regularised multinomial regression to embeddings, whose probabilities are calibrated by cross-validation.

    Features are standardised. Strength of regularisation and temperature of the logits are those with the smallest log
    loss on held-out cells. In the fit and the choice of the strength, each label is weighted by the square root of its
    number of cells, a compromise between rare and common labels.

    Parameters
    ----------
    features
        (n_cells, n_features).
    labels
        Strings, (n_cells,); at least two labels, each with at least two cells.
    folds
        Cells that are held out in turn. Those of a label that the other folds lack are not used; see
        :func:`can_be_tested`, which must be true of at least one cell.
    """
    mean, scale = standardisation(features)
    features = (features - mean) / scale
    different, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = np.sqrt(len(codes) / (len(different) * counts))[codes]
    tested = can_be_tested(codes, folds)

    def fit(strength: float, rows: np.ndarray) -> LinearClassifier:
        return fit_linear(features[rows], codes[rows], len(different), strength, weights[rows])

    def predict(strength: float, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return fit(strength, train).logits(features[test])

    trials = []
    for strength in STRENGTHS:
        logits = held_out_logits(partial(predict, strength), folds, len(codes))[tested]
        temperature = fit_temperature(logits, codes[tested])
        # Weighted as in the fit: otherwise the strength would be chosen for the common labels alone.
        loss = np.average(log_loss(logits / temperature, codes[tested]), weights=weights[tested])
        trials.append((loss, temperature, strength))
    loss, temperature, strength = min(trials)
    logger.info("C=%g chosen by cross-validation: log loss %.3f at temperature %.2f.", strength, loss, temperature)
    classifier = fit(strength, np.arange(len(codes)))
    weight, bias = classifier.weight.astype(np.float32), classifier.bias.astype(np.float32)
    return LabelHead(tuple(different.tolist()), EmbeddingClassifier(weight, bias, mean, scale), temperature)


def make_folds(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> Folds:
    """Divide cells into folds of whole groups, or of single cells without groups."""
    return cell_folds(codes, seed) if groups is None else group_folds(codes, groups)


def cell_folds(codes: np.ndarray, seed: int) -> Folds:
    """Divide cells into folds that each contain all labels; as many as the rarest label has cells, at most five."""
    n_folds = int(np.clip(np.unique(codes, return_counts=True)[1].min(), 2, MAX_FOLDS))
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(codes, codes))


def group_folds(codes: np.ndarray, groups: np.ndarray) -> Folds:
    """Divide cells into folds of whole groups with similar numbers of cells; as many as there are groups, at most five.

    There are at least two groups. Folds that leave a single label to train on are dropped.
    """
    n_folds = min(len(np.unique(groups)), MAX_FOLDS)
    folds = GroupKFold(n_folds).split(codes, groups=groups)
    return [(train, test) for train, test in folds if len(np.unique(codes[train])) > 1]


def can_be_tested(codes: np.ndarray, folds: Folds) -> np.ndarray:
    """Return which cells have a label that also occurs outside of their fold, bool (n_cells,)."""
    testable = np.zeros(len(codes), dtype=bool)
    for train, test in folds:
        testable[test] = np.isin(codes[test], codes[train])
    return testable


def held_out_logits(predict: Callable[[np.ndarray, np.ndarray], np.ndarray], folds: Folds, n_cells: int) -> np.ndarray:
    """Return the logits of each cell from a fit without its fold, (n_cells, n_labels); NaN for cells in no fold.

    ``predict`` takes the train and test rows of a fold, of which there is at least one, and returns the logits of the
    test rows.
    """
    parts = [predict(train, test) for train, test in folds]
    logits = np.full((n_cells, parts[0].shape[1]), np.nan)
    for (_, test), part in zip(folds, parts, strict=True):
        logits[test] = part
    return logits


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """Return the temperature between 1/20 and 20 with the smallest mean log loss."""
    found = minimize_scalar(
        lambda log_temperature: log_loss(logits / np.exp(log_temperature), codes).mean(),
        bounds=(-np.log(20), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def log_loss(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the log loss of each cell, (n_cells,)."""
    return -log_softmax(logits, axis=1)[np.arange(len(codes)), codes]
