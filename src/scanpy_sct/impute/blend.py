"""Weigh two predictions of the same hidden entries, one of the network and one of the data themselves.

Predictions are blended as log-odds of "is it expressed": `w1 * first + w2 * second + offset`. The weights are learnt
from entries that were hidden and whose values are known: first one set of weights for all genes, then for every gene
what its own entries add to that. This is empirical Bayes with a Gaussian prior around the shared weights: a gene with
little evidence keeps them. The levels of what is expressed are mixed by one share for all genes.

Entries come as flat arrays, in *groups* of one gene in one pass, as in :mod:`scanpy_sct.impute.calibrate`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

START = np.array([0.5, 0.5, 0.0])
"""Weights before anything is learnt: both predictions count alike."""
SHARED_PRECISION = 10.0
GENE_PRECISION = 100.0
"""Precision of the prior around the shared weights; below 30, held-out average precision fell on four data sets."""
NEWTON_STEPS = 15
LEVEL_PRECISION = 4.0
"""Prior around equal shares of both levels: of standard deviation 0.25 where levels are off by 0.5 on the log scale
(0.5² / 0.25²)."""


def shared_weights(log_odds: np.ndarray, expressed: np.ndarray) -> np.ndarray:
    """Fit one logistic regression to all entries.

    Parameters
    ----------
    log_odds
        (entries, 2) log-odds of both predictions.
    expressed
        (entries,) bool: what was measured.

    Returns
    -------
    (3,) float64: two weights, not below 0, and the offset; maximum a posteriori around `START`.
    """
    weights = START.copy()
    prior = SHARED_PRECISION * np.eye(3)
    for _ in range(NEWTON_STEPS):
        gradient, information = _evidence(log_odds, expressed, np.zeros(len(expressed), dtype=np.int64), 1, weights)
        weights = weights + np.linalg.solve(information[0] + prior, gradient[0] - prior @ (weights - START))
    weights[:2] = np.maximum(weights[:2], 0)
    return weights


def gene_weights(
    log_odds: np.ndarray, expressed: np.ndarray, group: np.ndarray, n_passes: int, n_genes: int, shared: np.ndarray
) -> np.ndarray:
    """Move the shared weights, for each gene and pass, by what the gene's entries of the other passes say.

    One Newton step from the shared weights, which the prior keeps short.

    Parameters
    ----------
    log_odds, expressed
        As in :func:`shared_weights`, entries of known value only.
    group
        (entries,) `pass * n_genes + gene`.
    n_passes, n_genes
        Number of passes and genes.
    shared
        Result of :func:`shared_weights`.

    Returns
    -------
    (n_passes * n_genes, 3) float64. No entry takes part in the weights of its own pass.
    """
    gradient, information = _evidence(log_odds, expressed, group, n_passes * n_genes, shared)
    gradient = gradient.reshape(n_passes, n_genes, 3)
    information = information.reshape(n_passes, n_genes, 3, 3)
    others_gradient = gradient.sum(0) - gradient
    others_information = information.sum(0) - information + GENE_PRECISION * np.eye(3)
    step = np.linalg.solve(others_information, others_gradient[..., None])[..., 0]
    weights = shared + step
    weights[..., :2] = np.maximum(weights[..., :2], 0)
    return weights.reshape(-1, 3)


def blend(log_odds: np.ndarray, group: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the blended probabilities, (entries,) float32; ``weights`` are (groups, 3)."""
    mixed = np.einsum("ij,ij->i", log_odds, weights[group, :2].astype(np.float32))
    return expit(mixed + weights[group, 2].astype(np.float32)).astype(np.float32)


def level_share(levels: np.ndarray, values: np.ndarray) -> float:
    """Find the share of the first of two predicted levels in their best mixture.

    Ridge regression of what their mean leaves over on their difference; the prior is equal shares.

    Parameters
    ----------
    levels
        (entries, 2) levels predicted for expressed entries.
    values
        (entries,) what was measured there.

    Returns
    -------
    Share of the first, between 0 and 1.
    """
    difference = levels[:, 0].astype(np.float64) - levels[:, 1]
    left_over = values - levels.mean(1, dtype=np.float64)
    return float(np.clip(0.5 + difference @ left_over / (difference @ difference + LEVEL_PRECISION), 0, 1))


def share_of_first(weights: np.ndarray) -> np.ndarray:
    """Part of the first prediction in the blend, between 0 and 1; one half where both weights are 0."""
    total = weights[..., 0] + weights[..., 1]
    return np.divide(weights[..., 0], total, out=np.full_like(total, 0.5), where=total > 0)


def _evidence(
    log_odds: np.ndarray, expressed: np.ndarray, group: np.ndarray, n_groups: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (groups, 3) and information matrix (groups, 3, 3) of the log-likelihood at ``weights``."""
    columns = [log_odds[:, 0], log_odds[:, 1], np.ones(len(log_odds), dtype=log_odds.dtype)]
    probability = expit(log_odds @ weights[:2].astype(log_odds.dtype) + log_odds.dtype.type(weights[2]))
    residual = expressed - probability
    variance = probability * (1 - probability)
    gradient = np.stack([np.bincount(group, residual * column, n_groups) for column in columns], axis=1)
    information = np.empty((n_groups, 3, 3))
    for i, first in enumerate(columns):
        for j, second in enumerate(columns[: i + 1]):
            information[:, i, j] = information[:, j, i] = np.bincount(group, variance * first * second, n_groups)
    return gradient, information
