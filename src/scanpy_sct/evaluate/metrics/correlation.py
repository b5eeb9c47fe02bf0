"""Correlation of measured and predicted values within genes and within cells, from sums."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.metrics.bootstrap import sums_by

# A smaller standard deviation is rounding noise of a constant.
_NO_SPREAD = 1e-7
MIN_DETECTED = 10
"""Genes and cells with fewer detected entries are left out of correlations."""


def often_detected(
    truth: np.ndarray, unit: np.ndarray, min_detected: int = MIN_DETECTED
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the entries of units (genes or cells) that have enough detected entries.

    Returns which entries are kept, bool (n_entries,); their units, numbered without gaps, int (n_kept,); and the units
    that are kept, int (n_units,).
    """
    counted = np.bincount(unit, weights=truth > 0) >= min_detected
    number = np.cumsum(counted) - 1
    keep = counted[unit]
    return keep, number[unit[keep]], np.flatnonzero(counted)


def pearson_sums(
    x: np.ndarray, y: np.ndarray, unit: np.ndarray, n_units: int, group: np.ndarray, n_groups: int
) -> np.ndarray:
    """Sum what correlations within units need: number, x, y, x squared, y squared, x times y; (n_groups, 6, n_units).

    Both values of each entry, `x` and `y`, are centred first on their mean over the entry's unit (gene or cell, 0 to
    `n_units` - 1), which reduces rounding errors. `group` is the group of each entry.
    """
    x, y = (values - means(values, unit, n_units)[unit] for values in (x, y))
    key = group * n_units + unit
    return sums_by(key, [None, x, y, x * x, y * y, x * y], (n_groups, n_units))


def pearson(sums: np.ndarray) -> np.ndarray:
    """Correlation of each unit from sums as in :func:`pearson_sums`, (n, 6, n_units) -> (n, n_units).

    0 where one of the two does not vary.
    """
    _, _, spread_x, spread_y, covariance = moments(sums)
    varies = (spread_x > _NO_SPREAD) & (spread_y > _NO_SPREAD)
    return np.divide(covariance, spread_x * spread_y, out=np.zeros_like(covariance), where=varies)


def moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations and covariance from sums as in :func:`pearson_sums`, each (n, n_units)."""
    n, x, y, xx, yy, xy = (sums[:, i] for i in range(6))
    n = np.maximum(n, 1)
    x, y = x / n, y / n
    spread_x, spread_y = np.sqrt(np.maximum(xx / n - x * x, 0)), np.sqrt(np.maximum(yy / n - y * y, 0))
    return x, y, spread_x, spread_y, xy / n - x * y


def mean_pearson(sums: np.ndarray) -> np.ndarray:
    """Mean over units of their correlation, (n, 6, n_units) -> (n,).

    A constant prediction does not tell cells apart: its correlation, which is not defined, counts as 0.
    """
    return pearson(sums).mean(axis=1)


def means(values: np.ndarray, unit: np.ndarray, n_units: int) -> np.ndarray:
    """Mean of the values of each unit, float64 (n_units,)."""
    n = np.maximum(np.bincount(unit, minlength=n_units), 1)
    return np.bincount(unit, weights=values, minlength=n_units) / n


def ranks_of_both(
    x: np.ndarray, y: np.ndarray, unit: np.ndarray, n_units: int, sums: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Rank both within each unit; values that vary by no more than rounding noise tie.

    Arguments are those of :func:`pearson_sums`, and the `sums` that it returned for them.
    """
    _, _, *spreads, _ = moments(sums.sum(axis=0)[None])
    flat = [spread[0] <= _NO_SPREAD for spread in spreads]
    return tuple(
        ranks(np.where(same[unit], np.float32(0), values), unit, n_units)
        for values, same in zip((x, y), flat, strict=True)
    )


def ranks(values: np.ndarray, unit: np.ndarray, n_units: int) -> np.ndarray:
    """Rank of each value, finite float32, among those of its unit, from 1; ties have the mean of their ranks."""
    # Where nothing is negative, zeros need no sorting: they tie at the bottom.
    some = values != 0 if values.size and values.min() >= 0 else np.ones(len(values), dtype=bool)
    n_zeros = np.bincount(unit[~some], minlength=n_units)
    result = ((n_zeros + 1) / 2)[unit]
    # One integer holds the unit and, below it, the bits of the value, which for floats come in their order.
    bits = values[some].astype(np.float32).view(np.uint32)
    bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    keys = (unit[some].astype(np.uint64) << np.uint64(32)) | bits
    order = np.argsort(keys)
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=~keys[:1]) != 0)
    last = np.append(first[1:], len(keys))
    n_before = np.cumsum(np.bincount(unit[some], minlength=n_units)) - np.bincount(unit[some], minlength=n_units)
    shared = (first + last + 1) / 2  # mean rank of a run of ties, from 1, over all units
    ranked = np.empty(len(keys))
    ranked[order] = np.repeat(shared, last - first)
    result[some] = ranked - n_before[unit[some]] + n_zeros[unit[some]]
    return result
