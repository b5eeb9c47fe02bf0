"""Intervals: groups of cells are drawn with replacement, and every metric is computed again from their sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_MIN_SAMPLES = 5
_N_RANDOM_GROUPS = 50
# More groups would make the sums large and the intervals hardly better.
_MOST_GROUPS = 200
_LEVELS = (0.025, 0.975)
# Resamplings computed at once, to limit the memory.
_AT_ONCE = 25


class Estimate(NamedTuple):
    """A metric with its 95 % interval; NaN where it is not defined."""

    value: float
    lower: float
    upper: float


Row = tuple[str, str, Estimate, int]
"""Stratum, metric, estimate and number of entries of the stratum."""


def resample(samples: np.ndarray, n_bootstrap: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the resamplings of a task: group of each cell, (n_cells,), and weights, (n_bootstrap, n_groups)."""
    rng = np.random.default_rng(seed)
    group = group_cells(samples, rng)
    return group, draw_weights(int(group.max()) + 1, n_bootstrap, rng)


def group_cells(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose what a bootstrap draws: samples if there are at least five, else 50 random groups of cells.

    Cells of one sample are alike, so that intervals over samples are more honest. More than 200 samples are joined at
    random into 200 groups. Takes the sample of each cell, returns the group of each cell: 0, 1, ...
    """
    names, samples = np.unique(samples, return_inverse=True)
    if len(names) >= _MIN_SAMPLES:
        return (rng.permutation(len(names)) % _MOST_GROUPS)[samples]
    return rng.permutation(len(samples)) % _N_RANDOM_GROUPS


def draw_weights(n_groups: int, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many groups as there are with replacement, and count them; float64 (n_bootstrap, n_groups)."""
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(np.float64)


def estimate(sums: np.ndarray, score: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> Estimate:
    """Compute a metric and its percentile interval.

    `sums` (n_groups, ...): what the metric is computed from, summed over each group; `score` maps such sums over all
    groups, (n, ...), to the metric, (n,); `weights` (n_bootstrap, n_groups): without rows there is no interval (NaN).
    """
    value = float(score(sums.sum(axis=0)[None])[0])
    flat = sums.reshape(len(sums), -1)
    drawn = [np.empty(0)]
    for start in range(0, len(weights), _AT_ONCE):
        part = weights[start : start + _AT_ONCE]
        drawn.append(score((part @ flat).reshape(len(part), *sums.shape[1:])))
    return Estimate(value, *percentile_interval(np.concatenate(drawn)))


def percentile_interval(drawn: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of resampled values, (n_bootstrap,), without those that are not finite."""
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0:
        return np.nan, np.nan
    low, high = np.quantile(drawn, _LEVELS)
    return float(low), float(high)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Divide the first sums by the second, (n, 2) -> (n,); NaN where the second is 0."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)


def sums_by(key: np.ndarray, columns: list[np.ndarray | None], shape: tuple[int, ...]) -> np.ndarray:
    """Sum several values of each entry in a table of groups x other axes.

    `key` (n_entries,) is the flat index of each entry in a table of `shape`, whose first axis are groups; `columns` are
    arrays (n_entries,) to sum, None counts entries. Returns float64 (n_groups, n_columns, *shape[1:]).
    """
    size = int(np.prod(shape))
    tables = [np.bincount(key, weights=column, minlength=size).reshape(shape) for column in columns]
    return np.stack(tables, axis=1).astype(np.float64, copy=False)
