"""Blend two predictions of the same masked entries, of the network and of the reconstruction from the data.

Log-odds of detection are blended as `w1 * network + w2 * data + offset`. The weights are estimated on masked entries
that the user does not hide: first weights that all genes share, then those of each gene, with a Gaussian prior around
the shared weights (empirical Bayes). Genes with enough data get their own weights. The conditional means are blended
with one weight for all genes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import expit

from scanpy_sct.impute.groups import Groups

START = np.array([0.5, 0.5, 0.0])
"""Mean of the prior of the shared weights: both predictions have the same weight."""
SHARED_PRECISION = 10.0
GENE_PRECISION = 100.0
"""Precision of the prior around the shared weights; below 30, held-out average precision fell on four data sets."""
NEWTON_STEPS = 15
ENTRIES_AT_ONCE = 2**16
"""Entries whose numbers stay in the cache of a processor."""
MEAN_PRECISION = 4.0
"""Precision of the prior around equal weights of both conditional means: a standard deviation of 0.25 if their error is
0.5 on the log scale (0.5² / 0.25²)."""


def shared_weights(log_odds: tuple[np.ndarray, np.ndarray], detected: np.ndarray) -> np.ndarray:
    """Fit one logistic regression to all entries.

    Parameters
    ----------
    log_odds
        (entries,) log-odds of the network and of the data.
    detected
        (entries,) bool: whether the gene is detected.

    Returns
    -------
    (3,) float64: two weights, not below 0, and the offset; maximum a posteriori around `START`.
    """
    weights = START.copy()
    prior = SHARED_PRECISION * np.eye(3)
    for _ in range(NEWTON_STEPS):
        sums = _sums(log_odds, detected, weights)
        gradient, information = sums[:3], _symmetric(sums[3:])
        weights = weights + np.linalg.solve(information + prior, gradient - prior @ (weights - START))
    weights[:2] = np.maximum(weights[:2], 0)
    return weights


def gene_weights(
    log_odds: tuple[np.ndarray, np.ndarray],
    detected: np.ndarray,
    groups: Groups,
    learns_from: np.ndarray,
    shared: np.ndarray,
) -> np.ndarray:
    """Estimate the weights of each gene and pass on the gene's entries of other passes.

    One Newton step from the shared weights, which the prior keeps short.

    Parameters
    ----------
    log_odds, detected
        As in :func:`shared_weights`, in the order of the groups.
    groups
        Order of the entries.
    learns_from
        (passes, passes) bool: passes (second axis) on which the weights of each pass are estimated.
    shared
        (passes, 3): result of :func:`shared_weights` for each pass.

    Returns
    -------
    (genes, passes, 3) float64.
    """
    weights = np.empty((*groups.sizes.shape, 3))
    for start in np.unique(shared, axis=0):
        passes = np.flatnonzero((shared == start).all(axis=1))
        sums = np.stack([groups.sum(part) for part in _evidence(log_odds, detected, start)], axis=-1)
        of_teachers = np.einsum("pq,gqk->gpk", learns_from[passes].astype(float), sums)
        information = _symmetric(of_teachers[..., 3:]) + GENE_PRECISION * np.eye(3)
        weights[:, passes] = start + np.linalg.solve(information, of_teachers[..., :3, None])[..., 0]
    weights[..., :2] = np.maximum(weights[..., :2], 0)
    return weights


def mean_weight(conditional_means: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> float:
    """Estimate the weight of the network in the blend of two conditional means.

    Ridge regression of the residuals of their mean on their difference; the prior is equal weights.

    Parameters
    ----------
    conditional_means
        (entries,) of the network and of the data, at detected entries.
    values
        (entries,) measured values.

    Returns
    -------
    Weight of the network, between 0 and 1.
    """
    network, data = (each.astype(np.float64) for each in conditional_means)
    difference = network - data
    residual = values - (network + data) / 2
    return float(np.clip(0.5 + difference @ residual / (difference @ difference + MEAN_PRECISION), 0, 1))


def network_fraction(weights: np.ndarray) -> np.ndarray:
    """Return the fraction of the network in the blend, between 0 and 1; one half if both weights are 0."""
    total = weights[..., 0] + weights[..., 1]
    return np.divide(weights[..., 0], total, out=np.full_like(total, 0.5), where=total > 0)


def _sums(log_odds: tuple[np.ndarray, np.ndarray], detected: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return gradient and information matrix of all entries together, (9,)."""
    network, data = log_odds
    sums = np.zeros(9)
    for start in range(0, len(detected), ENTRIES_AT_ONCE):
        some = slice(start, start + ENTRIES_AT_ONCE)
        evidence = _evidence((network[some], data[some]), detected[some], weights)
        sums += [each.sum(dtype=np.float64) for each in evidence]
    return sums


def _evidence(
    log_odds: tuple[np.ndarray, np.ndarray], detected: np.ndarray, weights: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield gradient (3 values) and information matrix (6 values) of each entry's log-likelihood at ``weights``."""
    network, data = log_odds
    dtype = network.dtype.type
    p = expit(network * dtype(weights[0]) + data * dtype(weights[1]) + dtype(weights[2]))
    residual = detected - p
    yield residual * network
    yield residual * data
    yield residual
    variance = p * (1 - p)
    of_network, of_data = variance * network, variance * data
    yield of_network * network
    yield of_network * data
    yield of_network
    yield of_data * data
    yield of_data
    yield variance


def _symmetric(parts: np.ndarray) -> np.ndarray:
    """Arrange the upper triangle (..., 6) as matrices (..., 3, 3)."""
    return parts[..., [[0, 1, 2], [1, 3, 4], [2, 4, 5]]]
