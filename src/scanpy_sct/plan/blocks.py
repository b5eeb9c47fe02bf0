"""Divide cells into blocks that are computed one after the other, so that memory does not grow with the data.

Blocks depend on the samples and coordinates of the cells and on the seed, never on how the data are stored. Bags are
planned within a block and never cross it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanpy_sct.plan.bags import Bag, divide, plan_bags

RUNS_PER_BLOCK = 32
"""Least number of runs of consecutive cells that a part of a large sample consists of, if it has no coordinates."""


@dataclass(frozen=True)
class PlannedCells:
    """Rows of the cells of a block, increasing; and their bags, where these are planned beforehand."""

    rows: np.ndarray
    bags: list[Bag] | None = None
    """Bags of rows of the block; None: they are planned when the expression is read."""


def plan_blocks(samples: np.ndarray, points: np.ndarray | None, seed: int, max_cells: int) -> list[PlannedCells]:
    """Divide all cells into blocks: whole samples where they fit, parts of a sample where they do not.

    Parameters
    ----------
    samples
        (cells,) integers: sample of each cell.
    points
        (cells, dimensions): parts of a sample are compact in these. None: each part consists of runs of consecutive
        cells (256 cells a run, 32 runs a block) that are drawn at random. A block then represents its sample, also if
        that is sorted, and is read in few pieces.
    seed
        Seed of the draw.
    max_cells
        Largest number of cells in a block.

    Notes
    -----
    Samples that share a block follow one another in the object, as far as it is sorted by sample.
    """
    n_cells = len(samples)
    if n_cells <= max_cells:
        return [PlannedCells(np.arange(n_cells))]
    blocks: list[np.ndarray] = []
    waiting = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng([seed, 5])
    for rows in sorted(rows_of_samples(samples), key=lambda rows: rows[0]):
        if len(rows) > max_cells:
            n_parts = -(-len(rows) // max_cells)
            if points is None:
                blocks += _parts_of_runs(rows, n_parts, max(1, max_cells // RUNS_PER_BLOCK), rng)
            else:
                blocks += divide(points, rows, n_parts)
        elif len(waiting) + len(rows) > max_cells:
            blocks.append(waiting)
            waiting = rows
        else:
            waiting = np.concatenate([waiting, rows])
    return [PlannedCells(np.sort(rows)) for rows in (*blocks, waiting) if len(rows)]


def rows_of_samples(samples: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each sample, increasing, in the order of the samples; ``samples`` is (cells,) integers."""
    order = np.argsort(samples, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(samples[order])) + 1) if len(order) else []


def _parts_of_runs(rows: np.ndarray, n_parts: int, length: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Divide rows into parts of nearly equal size, each of runs of ``length`` consecutive rows drawn at random."""
    runs = np.split(rows, np.arange(length, len(rows), length))
    return np.array_split(np.concatenate([runs[number] for number in rng.permutation(len(runs))]), n_parts)


def plan_fit(samples: np.ndarray, points: np.ndarray | None, bag_size: int, seed: int, max_cells: int) -> PlannedCells:
    """Draw the cells to which an imputation is fitted: all, or as many whole bags as hold ``max_cells`` cells.

    Parameters
    ----------
    samples, points, seed, max_cells
        As in :func:`plan_blocks`. With ``points`` the drawn bags are kept; without, bags are planned when the
        expression is read.
    bag_size
        Cells of a bag.
    """
    n_cells = len(samples)
    if n_cells <= max_cells:
        return PlannedCells(np.arange(n_cells))
    rng = np.random.default_rng([seed, 6])
    planned = plan_bags(samples, bag_size, rng, points)
    drawn = [planned[number] for number in np.sort(rng.permutation(len(planned))[: max(1, max_cells // bag_size)])]
    targets = [bag.rows[: bag.n_targets] for bag in drawn]
    rows = np.sort(np.concatenate(targets))
    if points is None:
        return PlannedCells(rows)
    return PlannedCells(rows, [Bag(np.searchsorted(rows, part), len(part)) for part in targets])
