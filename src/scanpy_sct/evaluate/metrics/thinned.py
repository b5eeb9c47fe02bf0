"""How close denoised counts come to held-out molecules, as Open Problems measures it.

The two metrics of the denoising task of Open Problems for Single-Cell Analysis (openproblems.bio), after the molecular
cross-validation of Batson, Royer and Webber (2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.evaluate.metrics import bootstrap
from scanpy_sct.evaluate.metrics.strata import ALL, GENE_STRATA, NON_ZERO, ZERO, gene_strata
from scanpy_sct.sparse_tools import COUNTS_PER_CELL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanpy_sct.evaluate.metrics.bootstrap import Row
    from scanpy_sct.evaluate.tasks import Task

# Dense tables are made for this many cells at a time: 256 cells x 20,000 genes are 40 MB.
_CELLS_AT_ONCE = 256
# Keeps the logarithm of a prediction of 0 finite.
_SMALLEST = 1e-6


def rows_of_thinned(task: Task, count: np.ndarray, n_bootstrap: int) -> Iterator[Row]:
    """Compare denoised counts, (n_targets,), with the held-out molecules.

    `mse`: mean squared difference of the logarithms of 1 + counts scaled to 10,000 a cell. `poisson`: mean of
    prediction - count x log(prediction + 0.000001), with predictions scaled to the number of held-out molecules. Zero
    and non-zero entries are those of the held-out molecules.
    """
    sums = _sums_of_cells(task, count.reshape(task.observed.counts.shape))
    group, weights = bootstrap.resample(task.observed.samples, n_bootstrap, task.seed)
    for number, stratum in enumerate((ALL, ZERO, NON_ZERO, *GENE_STRATA)):
        squared, loss, n_entries = sums[:, :, number].T
        if n_entries.sum() == 0:
            continue
        for metric, values in (("mse", squared), ("poisson", loss)):
            by_group = bootstrap.sums_by(group, [values, n_entries], (weights.shape[1],))
            found = bootstrap.estimate(by_group, bootstrap.ratio, weights)
            yield stratum, metric, found, int(n_entries.sum())


def _sums_of_cells(task: Task, count: np.ndarray) -> np.ndarray:
    """Sum squared error, loss and number of entries over each cell's entries of each stratum, (n_cells, 3, 7)."""
    held_out = task.test
    per_molecule = held_out.sum(dtype=np.float64) / max(task.observed.counts.sum(dtype=np.float64), 1)
    members = np.eye(len(GENE_STRATA))[gene_strata(task.rates)]
    sums = np.zeros((len(count), 3, 3 + len(GENE_STRATA)))
    for start in range(0, len(count), _CELLS_AT_ONCE):
        rows = slice(start, start + _CELLS_AT_ONCE)
        truth, predicted = held_out[rows].toarray().astype(np.float64), count[rows].astype(np.float64)
        expected = predicted * per_molecule
        squared = np.square(_log_normalised(truth) - _log_normalised(predicted))
        loss = expected - truth * np.log(expected + _SMALLEST)
        for number, table in enumerate((squared, loss, np.ones_like(truth))):
            everything, non_zero = table.sum(axis=1), np.where(truth > 0, table, 0).sum(axis=1)
            sums[rows, number, :3] = np.stack([everything, everything - non_zero, non_zero], axis=1)
            sums[rows, number, 3:] = table @ members
    return sums


def _log_normalised(counts: np.ndarray) -> np.ndarray:
    """Logarithm of 1 + counts scaled to 10,000 a row; rows without counts stay zero."""
    total = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts * (COUNTS_PER_CELL / np.where(total > 0, total, 1)))
