"""Predict how strongly a gene is expressed, where it is detected, from the most similar cells of a block.

For each pass, cells are compared by their scores on the components of the low-rank reconstruction, which know nothing
of the entries that the pass masks. The counts of the nearest cells are pooled, and all others have a small weight; a
cell's own counts have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from scanpy_sct.impute.low_rank import SMALLEST, CellScores, LowRank, mean_of_detected, smallest_values
from scanpy_sct.run.smallest import smallest_of_rows
from scanpy_sct.run.threads import in_threads
from scanpy_sct.sparse_tools import entry_rows, row_totals, with_data

MIN_CELLS = 100
"""In smaller blocks the nearest cells are not near: predictions of 60 and 90 cells became worse."""
N_NEAREST, NEAREST_FRACTION = 15, 0.1
"""Nearest cells that are pooled: this fraction of the block, at most fifteen."""
PRIOR_CELLS = 5.0
"""Weight of all other cells together, where each of the nearest ones has a weight of 1 more."""
MIN_KNOWN = 0.1
"""Cells, less than which a pool must hold in which a gene is not hidden to say something about it."""
UNKNOWN = np.float32(-1)
"""Instead of a fraction."""
CELLS_AT_ONCE = 256


@dataclass(frozen=True)
class Neighbours:
    """The nearest cells of each cell of a block in each pass, and the counts of some genes in all cells."""

    nearest: tuple[sparse.csr_matrix, ...]
    """(cells, cells) for each pass: weights of cells in the pool of another, above ``other_weight``."""
    other_weight: float
    """Weight of every cell; the diagonal of ``nearest`` takes it from the cell itself."""
    counts: sparse.csr_matrix
    """(cells, genes) float32."""
    depth: np.ndarray
    """(cells,) float32: total of all genes."""
    hidden: np.ndarray | None
    """(cells, genes) bool: entries that are hidden, so that the pool knows nothing of them; None: there are none."""
    per_fraction: np.ndarray
    """(cells, passes) float32: expected total of the cell."""
    unit: np.ndarray
    """(cells, passes) float32: value of a single count on the linear scale of the input."""

    @classmethod
    def of(
        cls,
        fits: Sequence[LowRank],
        scores: Sequence[CellScores],
        values: sparse.csr_matrix,
        hidden: np.ndarray | None = None,
    ) -> Neighbours | None:
        """Find them from the scores of the cells; None for few cells.

        ``values`` (cells, genes) are on the log scale of the input, without those that are ``hidden``.
        """
        if values.shape[0] < MIN_CELLS:
            return None
        linear = with_data(values, np.expm1(values.data))
        units = smallest_values(linear).astype(np.float32)
        counts = with_data(linear, linear.data / units[entry_rows(linear)])
        weight = PRIOR_CELLS / values.shape[0]
        points = [each.scores * fit.weights for fit, each in zip(fits, scores, strict=True)]
        nearest = tuple(in_threads(lambda each: _nearest(each, -weight), points))
        expected = [each.total / (each.unit * fit.visible_fraction) for fit, each in zip(fits, scores, strict=True)]
        of_cells = (np.stack(each, axis=1).astype(np.float32) for each in (expected, [each.unit for each in scores]))
        return cls(nearest, weight, counts, row_totals(counts).astype(np.float32), hidden, *of_cells)

    def at(self, genes: slice | np.ndarray) -> Neighbours:
        """Return those for some genes; without a copy for all of them."""
        if isinstance(genes, slice) and genes.indices(self.counts.shape[1]) == (0, self.counts.shape[1], 1):
            return self
        hidden = None if self.hidden is None else self.hidden[:, genes]
        return replace(self, counts=self.counts[:, genes], hidden=hidden)

    @cached_property
    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
        """Of all cells, (genes,): counts, cells with a count, and totals of the cells in which the gene is hidden."""
        total = np.asarray(self.counts.sum(axis=0), dtype=np.float32).ravel()
        hidden = 0.0
        if self.hidden is not None:
            starts = range(0, len(self.depth), CELLS_AT_ONCE)
            rows = [slice(start, start + CELLS_AT_ONCE) for start in starts]
            hidden = sum(self.depth[some] @ self.hidden[some] for some in rows)
        return total, self.counts.getnnz(axis=0), hidden

    def conditional_mean(self, pass_of: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """Predict the log value of each entry if the gene is detected, from the pass (cells, genes) that masks it.

        That of Poisson counts, (cells, genes) float32; NaN where no other cell has a count of the gene, or the gene is
        hidden in all of them; of no meaning for entries without a pass.
        """
        n_passes = len(self.nearest)
        expected = np.zeros(pass_of.shape, dtype=np.float32)
        for number in range(n_passes):
            found = self._fractions(number, rows)
            found *= pass_of == number
            expected += found
        is_unknown = (expected == UNKNOWN) | (self._sums[1] == (self.counts[rows].toarray() > 0))
        group = pass_of + n_passes * np.arange(len(pass_of), dtype=np.int32)[:, None]
        expected *= self.per_fraction[rows].ravel().take(group, mode="clip")
        mean = mean_of_detected(expected, self.unit[rows].ravel().take(group, mode="clip"))
        mean[is_unknown] = np.nan
        return mean

    def _fractions(self, number: int, rows: slice) -> np.ndarray:
        """Pool other cells: fraction of their counts that each gene has, or `UNKNOWN`, (cells, genes) float32."""
        nearest, weight, total = self.nearest[number][rows], np.float32(self.other_weight), self._sums[0]
        pooled = (nearest @ self.counts).toarray()
        pooled += weight * total
        depth = (nearest @ self.depth + weight * self.depth.sum())[:, None]
        if self.hidden is not None:
            cells = np.unique(nearest.indices)
            hidden = self.hidden[cells] * self.depth[cells, None]
            depth = depth - (nearest[:, cells] @ hidden + weight * self._sums[2])
            pooled[depth < MIN_KNOWN * self.depth.mean()] = UNKNOWN
            return np.divide(pooled, depth, out=pooled, where=pooled != UNKNOWN)
        pooled /= np.maximum(depth, SMALLEST)
        return pooled


def _nearest(points: np.ndarray, of_itself: float) -> sparse.csr_matrix:
    """Return weights (cells, cells): 1 for the nearest of ``points`` (cells, dimensions), ``of_itself`` for itself."""
    n_cells = len(points)
    n_nearest = min(N_NEAREST, int(NEAREST_FRACTION * n_cells))
    squares = np.einsum("ij,ij->i", points, points)
    found = np.empty((n_cells, n_nearest + 1), dtype=np.int32)
    found[:, -1] = np.arange(n_cells)
    for start in range(0, n_cells, CELLS_AT_ONCE):
        rows = np.arange(start, min(start + CELLS_AT_ONCE, n_cells))
        distance = squares - 2 * (points[rows] @ points.T)
        distance[np.arange(len(rows)), rows] = np.inf
        found[rows, :-1] = smallest_of_rows(distance, n_nearest)
    weights = np.ones(found.shape, dtype=np.float32)
    weights[:, -1] = of_itself
    starts = np.arange(0, found.size + 1, n_nearest + 1)
    return sparse.csr_matrix((weights.ravel(), found.ravel(), starts), shape=(n_cells, n_cells))
