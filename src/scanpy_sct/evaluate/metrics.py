"""How well hidden entries were predicted. All arrays hold hidden entries only, one value an entry."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, matthews_corrcoef


def average_precision(expressed: np.ndarray, score: np.ndarray) -> float:
    """Area under the precision-recall curve of 'is this hidden entry expressed?', all entries pooled.

    Parameters
    ----------
    expressed
        bool array (n_entries,): what was measured.
    score
        float array (n_entries,): any score that is higher where expression is more likely.

    Returns
    -------
    Between 0 and 1, the share of expressed entries for a score that knows nothing; nan when no entry is expressed.
    """
    return float(average_precision_score(expressed, score)) if expressed.any() else float("nan")


def expected_calibration_error(expressed: np.ndarray, probability: np.ndarray, n_intervals: int = 15) -> float:
    """Distance between the predicted probability of expression and how often expression was measured.

    The entries are sorted into equally wide intervals of probability. The distance between the mean prediction and
    the measured share of each interval is averaged, weighted by its number of entries (Naeini et al. 2015).

    Parameters
    ----------
    expressed
        bool array (n_entries,): what was measured.
    probability
        float array (n_entries,), between 0 and 1.
    n_intervals
        Number of intervals.

    Returns
    -------
    Between 0 (calibrated) and 1.
    """
    interval = np.minimum((probability * n_intervals).astype(np.int64), n_intervals - 1)
    predicted = np.bincount(interval, weights=probability, minlength=n_intervals)
    measured = np.bincount(interval, weights=expressed, minlength=n_intervals)
    return float(np.abs(predicted - measured).sum() / len(expressed))


def gene_pearson(truth: np.ndarray, value: np.ndarray, gene: np.ndarray, min_expressed: int = 10) -> float:
    """Mean over genes of the correlation between measured and predicted values of a gene's hidden entries.

    A guess that is the same for all cells knows nothing about which of them express the gene: its correlation, which
    is not defined, counts as 0.

    Parameters
    ----------
    truth, value
        float arrays (n_entries,): measured and predicted, both on the log scale of the input.
    gene
        int array (n_entries,): the gene of each entry.
    min_expressed
        Genes with fewer expressed hidden entries are left out.

    Returns
    -------
    Between -1 and 1; nan when no gene is left.
    """
    count = np.maximum(np.bincount(gene), 1)
    counted = np.bincount(gene, weights=truth > 0) >= min_expressed
    truth = truth - (np.bincount(gene, weights=truth) / count)[gene]
    value = value - (np.bincount(gene, weights=value) / count)[gene]
    covariance = np.bincount(gene, weights=truth * value) / count
    spread_of_truth = np.sqrt(np.bincount(gene, weights=truth**2) / count)
    spread_of_value = np.sqrt(np.bincount(gene, weights=value**2) / count)
    # What a constant leaves behind after its mean is taken away is rounding noise of float32.
    varies = (spread_of_truth > 1e-7) & (spread_of_value > 1e-7)
    correlation = np.divide(covariance, spread_of_truth * spread_of_value, out=np.zeros_like(covariance), where=varies)
    return float(correlation[counted].mean()) if counted.any() else float("nan")


def rate_matched(score: np.ndarray, rate: float) -> np.ndarray:
    """Call as many entries expressed as the visible entries suggest, those with the highest scores.

    A threshold of one half would call far too few: most expressed entries of sparse data have a low probability.

    Parameters
    ----------
    score
        float array (n_entries,): higher where expression is more likely.
    rate
        Share of entries to call expressed, between 0 and 1.

    Returns
    -------
    bool array (n_entries,). Entries that tie at the threshold are all called or all left, whichever is nearer.
    """
    threshold = np.quantile(score, 1 - rate, method="higher")
    at_least, above = score >= threshold, score > threshold
    return min(at_least, above, key=lambda called: abs(called.mean() - rate))


def expression_bins(value: np.ndarray, cell: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin (1, 2, ...) of values of expressed entries; what lies beyond the edges falls into the outer bins.

    Parameters
    ----------
    value
        float array (n_entries,).
    cell
        int array (n_entries,): the cell of each entry.
    edges
        (n_cells, n_bins + 1), from :func:`scanpy_sct.plan.bins.bin_edges`; nan for edges that a cell lacks.

    Returns
    -------
    int array (n_entries,).
    """
    bins = np.zeros(len(value), dtype=np.int64)
    for edge in edges.T:
        bins += value >= edge[cell]
    return np.clip(bins, 1, edges.shape[1] - 1)


def bin_mcc(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation coefficient between measured and predicted bins.

    Parameters
    ----------
    truth, predicted
        int arrays (n_entries,), 0 where not expressed.

    Returns
    -------
    Between -1 and 1; 0 for a constant prediction.
    """
    # Each pair of bins once, weighted by how often it occurs: the same number, without sorting millions of entries.
    n_bins = int(max(truth.max(), predicted.max())) + 1
    occurs = np.bincount(truth * n_bins + predicted, minlength=n_bins**2)
    first, second = np.divmod(np.arange(n_bins**2), n_bins)
    return float(matthews_corrcoef(first, second, sample_weight=occurs))
