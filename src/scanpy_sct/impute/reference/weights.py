"""Weights of the network and of the reference in the prediction of unmeasured genes.

The log-odds of detection of a gene in a cell are

    a1 * level by the network + a2 * level by the reference
    + b1 * deviation by the network + b2 * deviation by neighbours + b3 * deviation by regression + c,

where the *level* of a gene is the mean of its log-odds over cells, and the *deviation* is that of a cell from it.
Levels and deviations have weights of their own: a reference of another protocol can be wrong about how often a gene is
detected, and right about the cells in which it is, or the reverse. The weights are estimated on measured genes that are
left out, and shared by all genes of a kind: genes that both, only the reference, or only the network can predict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from scanpy_sct.impute.blend import mean_weight
from scanpy_sct.impute.calibrate import probability

KINDS = ("both", "reference", "network")
"""Which sources can predict a gene."""
USED = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1], [1, 0, 1, 0, 0, 1]], dtype=bool)
"""Which of the weights (a1, a2, b1, b2, b3, c) each kind has."""
PRIOR = np.array([[0.5, 0.45, 0.5, 0.3, 0.15, -0.2], [0, 0.95, 0, 0.6, 0.2, -0.2], [0.95, 0, 0.75, 0, 0, -0.2]])
"""Typical weights on pairs of data and reference of one tissue."""
ENOUGH_GENES = 100
"""With fewer genes that were left out, the weights are moved towards `PRIOR` in proportion."""
PRECISION = 10.0
MAX_LOG_ODDS = 8.0
COUNT_FACTORS = (0.5, 2.0)
"""Smallest and largest factor of expected counts."""


@dataclass(frozen=True)
class Sources:
    """Predictions of some genes by network and reference, (cells, genes) float32 each; zeros where one has none."""

    network: np.ndarray
    """Log-odds of detection."""
    neighbors: np.ndarray
    """The same, by the reference cells that are similar."""
    regression: np.ndarray
    """The same, by the regression on the reference."""
    network_mean: np.ndarray
    """Conditional mean on the log scale of the input."""
    reference_mean: np.ndarray
    """The same by the reference."""

    @classmethod
    def of(
        cls,
        network: tuple[np.ndarray, np.ndarray],
        reference: tuple[np.ndarray, np.ndarray],
        units: np.ndarray,
    ) -> Sources:
        """Arrange predictions.

        Parameters
        ----------
        network
            Log-odds of detection and conditional mean.
        reference
            Expected counts by neighbours and by regression.
        units
            (cells,) value of a single count.
        """
        expected = np.maximum((reference[0] + reference[1]) / 2, 1e-9)
        given_detected = expected / -np.expm1(-expected)
        return cls(
            np.clip(network[0], -MAX_LOG_ODDS, MAX_LOG_ODDS),
            *(_detection_log_odds(each) for each in reference),
            network[1],
            np.log1p(given_detected * units[:, None]).astype(np.float32),
        )

    @property
    def log_odds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-odds of detection by all three predictions."""
        return self.network, self.neighbors, self.regression

    @property
    def levels(self) -> np.ndarray:
        """Mean of the log-odds of each gene over the cells, (3, genes) float64."""
        return np.stack([each.mean(axis=0, dtype=np.float64) for each in self.log_odds])


@dataclass(frozen=True)
class SourceWeights:
    """Weights that all genes of a kind share."""

    detection: np.ndarray
    """(3 kinds, 6) float64: a1, a2, b1, b2, b3, c."""
    mean: np.ndarray
    """(3 kinds, 2) float64: weights of the conditional means of network and reference."""
    count: np.ndarray
    """(3 kinds,) float64: factor of expected counts, with which their sum is right in the genes that were left out."""
    explained: np.ndarray
    """(3 kinds,) float64: fraction of the deviance of detection that is explained in the genes that were left out; NaN
    if there are none."""

    @classmethod
    def unknown(cls) -> SourceWeights:
        """Return typical weights, where no gene could be left out."""
        return cls(
            PRIOR.copy(), np.array([[0.5, 0.5], [0, 1], [1, 0]]), np.ones(len(KINDS)), np.full(len(KINDS), np.nan)
        )

    def of_genes(self, kind: np.ndarray, levels: np.ndarray) -> GeneWeights:
        """Return the weights of genes, from their ``kind`` (genes,) and ``levels`` (3, genes)."""
        weights = self.detection[kind]
        slopes = weights[:, 2:5]
        of_levels = weights[:, 0] * levels[0] + weights[:, 1] * levels[1] + weights[:, 5]
        return GeneWeights(slopes, of_levels - (slopes * levels.T).sum(axis=1), self.mean[kind], self.count[kind])


@dataclass(frozen=True)
class GeneWeights:
    """Weights of each gene; a prediction is linear in those of the sources."""

    slopes: np.ndarray
    """(genes, 3): of the log-odds by network, neighbours and regression."""
    offset: np.ndarray
    """(genes,)."""
    mean: np.ndarray
    """(genes, 2): of the conditional means by network and reference."""
    count: np.ndarray
    """(genes,) factor of expected counts."""

    def blend(self, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
        """Return detection probability and conditional mean, (cells, genes) float32 each."""
        log_odds = self.offset.astype(np.float32)
        for slope, source in zip(self.slopes.T.astype(np.float32), sources.log_odds, strict=True):
            log_odds = log_odds + slope * source
        of_network, of_reference = self.mean.T.astype(np.float32)
        return probability(log_odds), of_network * sources.network_mean + of_reference * sources.reference_mean

    def counts(self, detection: np.ndarray, mean: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Return expected counts from what :meth:`blend` returns; ``units`` (cells,) are the values of a count."""
        return detection * np.expm1(mean) / units[:, None].astype(np.float32) * self.count.astype(np.float32)


def fit_weights(sources: Sources, values: np.ndarray, is_visible: np.ndarray, units: np.ndarray) -> SourceWeights:
    """Estimate the weights on measured genes that were left out.

    Parameters
    ----------
    sources
        Predictions for them, by both sources.
    values
        (cells, genes) measured values on the log scale of the input.
    is_visible
        (cells, genes) bool, False for entries that the user hides.
    units
        (cells,) value of a single count.
    """
    features = _features(sources)[is_visible]
    detected = values[is_visible] > 0
    if not len(detected) or detected.all() or not detected.any():
        return SourceWeights.unknown()
    trusted = min(1.0, values.shape[1] / ENOUGH_GENES)
    prior = PRIOR.copy()
    # Few genes still tell whether a source is worth nothing.
    prior[0] = max(PRIOR, key=lambda weights: _explained(features @ weights, detected))
    weights, explained = np.zeros_like(PRIOR), np.zeros(len(KINDS))
    for kind, used in enumerate(USED):
        found = _logistic(features[:, used], detected, prior[kind, used])
        weights[kind, used] = trusted * found + (1 - trusted) * prior[kind, used]
        explained[kind] = _explained(features @ weights[kind], detected)
    means = tuple(each[is_visible][detected] for each in (sources.network_mean, sources.reference_mean))
    found = SourceWeights(weights, _mean_weights(means, values[is_visible][detected]), np.ones(len(KINDS)), explained)
    return replace(found, count=_count_factors(found, sources, np.expm1(values) / units[:, None], is_visible, units))


def _count_factors(
    weights: SourceWeights, sources: Sources, counts: np.ndarray, is_visible: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """Compare the sums of measured and expected ``counts`` (cells, genes) for each kind."""
    total, factors = counts[is_visible].sum(), np.ones(len(KINDS))
    for kind in range(len(KINDS)):
        of_genes = weights.of_genes(np.full(counts.shape[1], kind), sources.levels)
        expected = of_genes.counts(*of_genes.blend(sources), units)[is_visible].sum(dtype=np.float64)
        factors[kind] = np.clip(total / max(expected, 1e-9), *COUNT_FACTORS)
    return factors


def _features(sources: Sources) -> np.ndarray:
    """Return (cells, genes, 6): both levels, three deviations, and 1."""
    levels = sources.levels
    shape = sources.network.shape
    deviations = [each - level for each, level in zip(sources.log_odds, levels, strict=True)]
    return np.stack([*(np.broadcast_to(level, shape) for level in levels[:2]), *deviations, np.ones(shape)], axis=-1)


def _logistic(features: np.ndarray, detected: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Fit a logistic regression, maximum a posteriori around ``start``."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds, change = features @ weights, weights - start
        value = np.logaddexp(0, log_odds).sum() - log_odds[detected].sum() + PRECISION / 2 * change @ change
        return value, features.T @ (expit(log_odds) - detected) + PRECISION * change

    return minimize(loss, start, jac=True, method="L-BFGS-B").x


def _explained(log_odds: np.ndarray, detected: np.ndarray) -> float:
    """Return the fraction of the deviance that is explained, compared with one rate for all entries (McFadden's R2)."""
    rate = detected.mean()
    without = len(detected) * -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return float(1 - (np.logaddexp(0, log_odds).sum() - log_odds[detected].sum()) / without)


def _mean_weights(means: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
    """Estimate the weights of the conditional means for each kind, (3, 2); without entries, those of no change."""
    shared = mean_weight(means, values) if len(values) else 0.5
    fractions = np.array([[shared, 1 - shared], [0, 1], [1, 0]])
    blended = [first * means[0] + second * means[1] for first, second in fractions]
    totals = [float(each.sum(dtype=np.float64)) for each in blended]
    factors = [float(values.sum(dtype=np.float64)) / total if total > 0 else 1.0 for total in totals]
    return fractions * np.array(factors)[:, None]


def _detection_log_odds(expected: np.ndarray) -> np.ndarray:
    """Return the log-odds of detection of a Poisson count with the ``expected`` mean, float32."""
    detection = np.clip(-np.expm1(-expected.astype(np.float64)), 1e-9, 1 - 1e-9)
    return np.clip(logit(detection), -MAX_LOG_ODDS, MAX_LOG_ODDS).astype(np.float32)
