"""Predict how strongly a gene is expressed, where it is detected, from the most similar cells of a block.

For each pass, cells are compared by their scores on the components of the low-rank reconstruction, which know nothing
of the entries that the pass masks. The counts of the nearest cells are pooled, and all others have a small weight; a
cell's own counts have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from scanpy_sct.impute.low_rank import SMALLEST, CellScores, LowRank, mean_of_detected
from scanpy_sct.run.threads import in_threads
from scanpy_sct.sparse_tools import entry_rows, row_totals, with_data

MIN_CELLS = 100
"""In smaller blocks the nearest cells are not near: predictions of 60 and 90 cells became worse."""
N_NEAREST, NEAREST_FRACTION = 15, 0.1
"""Nearest cells that are pooled: this fraction of the block, at most fifteen."""
PRIOR_CELLS = 5.0
"""Weight of all other cells together, where each of the nearest ones has a weight of 1 more."""
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
    total: np.ndarray
    """(genes,) float32: sums of the counts."""
    depth: np.ndarray
    """(cells, passes) float32: total of all genes in the pool of each cell."""
    per_fraction: np.ndarray
    """(cells, passes) float32: expected total of the cell."""
    unit: np.ndarray
    """(cells, passes) float32: value of a single count on the linear scale of the input."""

    @classmethod
    def of(cls, fits: Sequence[LowRank], scores: Sequence[CellScores], values: sparse.csr_matrix) -> Neighbours | None:
        """Find them from the scores of the cells; None for few cells.

        ``values`` (cells, genes) are on the log scale of the input.
        """
        if values.shape[0] < MIN_CELLS:
            return None
        counts = np.expm1(values.data)
        counts /= scores[0].unit.astype(np.float32)[entry_rows(values)]
        counts = with_data(values, counts)
        depth, weight = row_totals(counts), PRIOR_CELLS / values.shape[0]
        points = [each.scores * fit.weights for fit, each in zip(fits, scores, strict=True)]
        nearest = tuple(in_threads(lambda each: _nearest(each, -weight), points))
        expected = [each.total / (each.unit * fit.visible_fraction) for fit, each in zip(fits, scores, strict=True)]
        of_cells = [each @ depth + weight * depth.sum() for each in nearest], expected, [each.unit for each in scores]
        total = np.asarray(counts.sum(axis=0), dtype=np.float32).ravel()
        return cls(nearest, weight, counts, total, *(np.stack(each, axis=1).astype(np.float32) for each in of_cells))

    def at(self, genes: slice | np.ndarray) -> Neighbours:
        """Return those for some genes; without a copy for all of them."""
        if isinstance(genes, slice) and genes.indices(len(self.total)) == (0, len(self.total), 1):
            return self
        return replace(self, counts=self.counts[:, genes], total=self.total[genes])

    def conditional_mean(self, pass_of: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """Predict the log value of each entry if the gene is detected, from the pass (cells, genes) that masks it.

        That of Poisson counts, (cells, genes) float32; of no meaning for entries without a pass.
        """
        n_passes = len(self.nearest)
        expected = np.zeros(pass_of.shape, dtype=np.float32)
        for number in range(n_passes):
            found = self._fractions(number, rows)
            found *= pass_of == number
            expected += found
        group = pass_of + n_passes * np.arange(len(pass_of), dtype=np.int32)[:, None]
        expected *= self.per_fraction[rows].ravel().take(group, mode="clip")
        return mean_of_detected(expected, self.unit[rows].ravel().take(group, mode="clip"))

    def _fractions(self, number: int, rows: slice) -> np.ndarray:
        """Pool the nearest cells of a pass: fraction of their counts that each gene has, (cells, genes) float32."""
        pooled = (self.nearest[number][rows] @ self.counts).toarray()
        pooled += np.float32(self.other_weight) * self.total
        pooled /= np.maximum(self.depth[rows, number, None], SMALLEST)
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
        found[rows, :-1] = np.argpartition(distance, n_nearest - 1, axis=1)[:, :n_nearest]
    weights = np.ones(found.shape, dtype=np.float32)
    weights[:, -1] = of_itself
    starts = np.arange(0, found.size + 1, n_nearest + 1)
    return sparse.csr_matrix((weights.ravel(), found.ravel(), starts), shape=(n_cells, n_cells))
