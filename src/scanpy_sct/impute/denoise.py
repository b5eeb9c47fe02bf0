"""Combine the prediction for an entry with its measured count.

The prediction, made without the entry's own value, is a prior: the rate of the gene in the cell has a Gamma
distribution around it, and the count a Poisson distribution around the rate. The posterior mean of the rate is
`(shape + count) / (shape / expected + 1)`. The `shape` of the Gamma distribution (small: large variance) is estimated
for each gene from all its counts, which are negative binomial under this model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

SHAPES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
"""Values of `shape` to choose from."""
MIN_EXPECTED = 1e-8


@dataclass(frozen=True)
class NoiseModel:
    """Parameters of the priors, (genes,) float64 each."""

    scale: np.ndarray
    """Factor of the expected counts, since predictions are means of logarithms, which lie below the logarithm of the
    mean."""
    shape: np.ndarray
    """Shape of the Gamma distribution."""


def fit_noise(count: np.ndarray, value: np.ndarray, unit: np.ndarray, known: np.ndarray | None = None) -> NoiseModel:
    """Estimate the noise of some genes.

    Parameters
    ----------
    count
        (cells, genes) measured counts.
    value
        (cells, genes) predicted values on the log scale of the input, each made without its count.
    unit
        (cells,) value of a single count on the linear scale of the input: 1 for counts, 10,000 / total for values
        normalised to 10,000.
    known
        (cells, genes) bool: counts that the user does not hide; None: all.
    """
    known = np.ones(count.shape, dtype=bool) if known is None else known
    expected = _expected_counts(value, unit)
    total, predicted = (count * known).sum(0), (expected * known).sum(0)
    scale = np.where(total > 0, total / np.maximum(predicted, MIN_EXPECTED), 1)
    return NoiseModel(scale, fit_shape(np.where(known, count, np.nan), expected * scale))


def fit_shape(count: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Choose the shape of each gene by maximum likelihood.

    Parameters
    ----------
    count
        (cells, genes) measured counts; NaN: not used.
    expected
        (cells, genes) counts predicted without them.

    Returns
    -------
    (genes,) elements of `SHAPES`.
    """
    best = np.full(count.shape[1], -np.inf)
    shape = np.ones(count.shape[1])
    for candidate in SHAPES:
        likelihood = np.nansum(
            gammaln(candidate + count)
            - gammaln(candidate)
            + candidate * np.log(candidate / (candidate + expected))
            + count * np.log(expected / (candidate + expected)),
            axis=0,
        )
        shape[likelihood > best] = candidate
        best = np.maximum(best, likelihood)
    return shape


def denoise(noise: NoiseModel, count: np.ndarray, value: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Combine predictions and counts; arguments as in :func:`fit_noise`.

    Returns
    -------
    (cells, genes) float32: expected value, on the log scale of the input, of a new measurement of the same cell.
    """
    expected, shape = _expected_counts(value, unit) * noise.scale, noise.shape
    mean = (shape + count) / (shape / expected + 1)
    # A new count is negative binomial with this mean and the shape `shape + count`.
    detection = -np.expm1(-(shape + count) * np.log1p(mean / (shape + count)))
    return (detection * np.log1p(unit[:, None] * mean / np.maximum(detection, 1e-12))).astype(np.float32)


def _expected_counts(value: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.maximum(np.expm1(np.maximum(value, 0).astype(np.float64)) / unit[:, None], MIN_EXPECTED)
