"""Combine what was predicted for an entry with the count that was measured there.

A prediction made without an entry's own value is a prior for it: the gene's rate in that cell follows a Gamma
distribution around it, the count a Poisson distribution around the rate. The posterior mean is the classic compromise
`(shape + count) / (shape / expected + 1)`. How spread the rates are around the predictions (`shape`, small: widely) is
learnt for each gene from all its counts, which are negative binomial under this model.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

SHAPES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
"""Values of `shape` to choose from."""
MIN_EXPECTED = 1e-8


def fit_shape(count: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Choose the shape of each gene by maximum likelihood.

    Parameters
    ----------
    count
        (cells, genes) measured counts; NaN where there is none to use.
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


def combine(count: np.ndarray, value: np.ndarray, unit: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Combine predictions and counts of some genes.

    Parameters
    ----------
    count
        (cells, genes) measured counts.
    value
        (cells, genes) predicted values on the log scale of the input, each made without its count.
    unit
        (cells,) what one count of a cell is worth on the linear scale of the input: 1 for counts, 10,000 / total for
        values normalised to 10,000.
    known
        (cells, genes) bool; where False the count must not be used, and the prediction stays. None: all are known.

    Returns
    -------
    (cells, genes) float32: expected value, on the log scale of the input, of a new measurement of the same cell.
    """
    known = np.ones(count.shape, dtype=bool) if known is None else known
    unit = unit[:, None]
    expected = np.maximum(np.expm1(np.maximum(value, 0).astype(np.float64)) / unit, MIN_EXPECTED)
    # The mean of logarithms lies below the logarithm of the mean; over all cells the counts tell by how much.
    total, predicted = (count * known).sum(0), (expected * known).sum(0)
    expected *= np.where(total > 0, total / np.maximum(predicted, MIN_EXPECTED), 1)
    shape = fit_shape(np.where(known, count, np.nan), expected)
    mean = (shape + count) / (shape / expected + 1)
    # A new count is negative binomial with this mean and the shape `shape + count`.
    detection = -np.expm1(-(shape + count) * np.log1p(mean / (shape + count)))
    combined = detection * np.log1p(unit * mean / np.maximum(detection, 1e-12))
    return np.where(known, combined, value).astype(np.float32)
