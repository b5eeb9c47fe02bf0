"""Estimate how far the prediction of an unmeasured gene can be trusted.

The correlation of predicted and measured values is known for measured genes that were left out. A ridge regression on
properties of their predictions gives that of the others. The correlation of the left-out genes themselves would be too
optimistic: genes are chosen for a panel because they differ between cells.
"""

from __future__ import annotations

import numpy as np

MIN_GENES = 10
"""With fewer genes that were left out, the trust is unknown."""
PENALTY = 3.0


def correlations(first: np.ndarray, second: np.ndarray, used: np.ndarray | None = None) -> np.ndarray:
    """Return Pearson's correlation of each column, (columns,) float64; NaN for constant ones.

    ``used`` (rows, columns) bool: entries that count; None: all.
    """
    weight = np.ones(first.shape) if used is None else used.astype(np.float64)
    number = np.maximum(weight.sum(axis=0), 1)
    first, second = (each - (each * weight).sum(axis=0) / number for each in (first, second))
    product = (weight * first * second).sum(axis=0)
    scale = np.sqrt((weight * first**2).sum(axis=0) * (weight * second**2).sum(axis=0))
    return np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 1e-9)


def trust_features(values: np.ndarray, levels: np.ndarray, recovery_in_reference: np.ndarray | None) -> np.ndarray:
    """Return properties of the predictions of genes, (genes, features).

    Parameters
    ----------
    values
        (cells, genes) predicted values.
    levels
        (genes,) predicted log-odds of detection, mean over cells.
    recovery_in_reference
        (genes,) correlation of predictions and counts among the cells of the reference; None: there is no reference.
    """
    spread = values.std(axis=0, dtype=np.float64)
    relative = spread / np.maximum(values.mean(axis=0, dtype=np.float64), 1e-6)
    features = [levels, np.log(np.maximum(spread, 1e-6)), np.log(np.maximum(relative, 1e-6))]
    if recovery_in_reference is not None:
        features.append(np.nan_to_num(recovery_in_reference))
    return np.column_stack(features)


def estimate_trust(known: np.ndarray, correlation: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Estimate the correlation of genes from that of others.

    Parameters
    ----------
    known, correlation
        (left-out genes, features) from :func:`trust_features`, and their correlation with measured values.
    wanted
        (genes, features) of the genes of which it is not known.

    Returns
    -------
    (genes,) float64 between 0 and 1; NaN if too few genes were left out.
    """
    from sklearn.linear_model import Ridge  # large, and needed with a reference only

    usable = ~np.isnan(correlation)
    if usable.sum() < MIN_GENES or not len(wanted):
        return np.full(len(wanted), np.nan)
    known, correlation = known[usable], correlation[usable]
    centre, scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)
    model = Ridge(alpha=PENALTY).fit((known - centre) / scale, correlation)
    return np.clip(model.predict((wanted - centre) / scale), 0, 1)
