"""How similar the measured and the predicted profile of a gene over the cells are.

The three measures of Li et al. 2022 (Nature Methods 19, 662) beside correlation, each computed for every gene.
"""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.metrics.bootstrap import sums_by
from scanpy_sct.evaluate.metrics.correlation import moments, pearson

# Constants of structural similarity (Wang et al. 2004) for values between 0 and 1.
_C1, _C2 = 0.01**2, 0.03**2


def ssim(sums: np.ndarray, centre: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Structural similarity of each gene's two profiles, each divided by its largest value.

    The product of the similarity of means, standard deviations and patterns, over all cells at once; (n, n_genes), 1
    where the two are the same. `sums` come from :func:`~scanpy_sct.evaluate.metrics.correlation.pearson_sums`; `centre`
    and `largest`, (2, n_genes), are the means on which both were centred, and their largest values (1 where 0).
    """
    x, y, spread_x, spread_y, covariance = moments(sums)
    x, y = (x + centre[0]) / largest[0], (y + centre[1]) / largest[1]
    spread_x, spread_y, covariance = spread_x / largest[0], spread_y / largest[1], covariance / largest.prod(axis=0)
    of_means = (2 * x * y + _C1) / (x**2 + y**2 + _C1)
    of_spreads = (2 * spread_x * spread_y + _C2) / (spread_x**2 + spread_y**2 + _C2)
    of_patterns = (covariance + _C2 / 2) / (spread_x * spread_y + _C2 / 2)
    return of_means * of_spreads * of_patterns


def rmse_z(sums: np.ndarray) -> np.ndarray:
    """Root mean squared difference of each gene's two profiles after both are standardised.

    For profiles with mean 0 and variance 1 it is sqrt(2 - 2 correlation), from sums as in :func:`ssim`. A constant
    prediction is 0 everywhere, which gives 1.
    """
    correlation = pearson(sums)
    return np.where(correlation == 0, 1, np.sqrt(np.maximum(2 - 2 * correlation, 0)))


def js_sums(
    truth: np.ndarray, value: np.ndarray, gene: np.ndarray, n_genes: int, group: np.ndarray, n_groups: int
) -> np.ndarray:
    """Sum what the Jensen-Shannon divergence of each gene's two profiles needs, (n_groups, 2, n_genes).

    Each profile is divided by its sum over all entries of the gene, and taken as a distribution over cells. The sums
    are those of contributions to the divergence, and of the mean of the two distributions: in a resampling,
    :func:`js_divergence` divides by the fraction that was drawn.
    """
    p, q = _fractions(truth, gene, n_genes), _fractions(value, gene, n_genes)
    middle = (p + q) / 2
    part = (_times_log_ratio(p, middle) + _times_log_ratio(q, middle)) / 2
    return sums_by(group * n_genes + gene, [part, middle], (n_groups, n_genes))


def js_divergence(sums: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence (natural logarithm) from sums as in :func:`js_sums`, (n, 2, n_genes) -> (n, n_genes).

    0 where the profiles are the same, log 2 = 0.69 where no cell has a part in both.
    """
    return np.divide(sums[:, 0], sums[:, 1], out=np.zeros_like(sums[:, 0]), where=sums[:, 1] > 0)


def _fractions(values: np.ndarray, gene: np.ndarray, n_genes: int) -> np.ndarray:
    """Fraction of each entry in the sum of its gene; equal fractions where that is 0."""
    values = np.maximum(values, 0, dtype=np.float64)
    total = np.bincount(gene, weights=values, minlength=n_genes)[gene]
    equal = 1 / np.maximum(np.bincount(gene, minlength=n_genes), 1)
    return np.divide(values, total, out=equal[gene], where=total > 0)


def _times_log_ratio(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Compute p log(p / q), 0 where p is 0."""
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return p * np.log(ratio)
