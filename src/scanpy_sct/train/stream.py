"""The order of training: contiguous blocks of files in a seeded, shuffled order.

An *epoch* visits every block of every file at least once, those of small files more often. The shuffled visits are
grouped into *windows* of a few blocks; a window is read, its cells are divided into bags, and the bags are shuffled. So
every cell is in a bag each time its block is visited, memory holds two windows (the current one, and the next, which is
read in the background), and the bags of a step depend on the seed and the number of the step only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pandas as pd

from scanpy_sct.plan.bags import CellsToPlan, bag_points, plan_bags
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset
from scanpy_sct.train.sources import Source


@dataclass(frozen=True)
class Block:
    """Cells ``start`` to ``stop`` of a source."""

    source: int
    start: int
    stop: int


class Visits:
    """Endless sequence of blocks: shuffled epochs.

    A source of n cells is visited as if it had n ** ``balance`` cells (times a constant): 1 visits every block equally
    often, 0 visits every source equally often. Blocks of the largest source are visited once an epoch.
    """

    def __init__(self, n_cells: Sequence[int], block_size: int, balance: float, seed: int) -> None:
        self.seed = seed
        self.blocks = _divide(n_cells, block_size)
        sizes = np.asarray(n_cells, dtype=float)
        self._source = np.array([block.source for block in self.blocks])
        self._times = ((sizes.max() / sizes) ** (1 - balance))[self._source]
        self._ends: list[int] = []
        self._epoch: tuple[int, np.ndarray] = (-1, np.array([], dtype=int))

    def __getitem__(self, number: int) -> Block:
        """Return the block of visit ``number``."""
        epoch = self._epoch_of(number)
        if self._epoch[0] != epoch:
            order = np.random.default_rng([self.seed, 4, epoch]).permutation(self._visits_of(epoch))
            self._epoch = (epoch, order)
        return self.blocks[self._epoch[1][number - self._start(epoch)]]

    def _visits_of(self, epoch: int) -> np.ndarray:
        """Return the block numbers of an epoch; a block with 2.4 visits per epoch is visited 2 or 3 times."""
        times = np.floor((epoch + 1) * self._times + 1e-9) - np.floor(epoch * self._times + 1e-9)
        return np.repeat(np.arange(len(self.blocks)), times.astype(int))

    def _epoch_of(self, number: int) -> int:
        while not self._ends or self._ends[-1] <= number:
            self._ends.append(self._start(len(self._ends)) + len(self._visits_of(len(self._ends))))
        return int(np.searchsorted(self._ends, number, side="right"))

    def _start(self, epoch: int) -> int:
        return self._ends[epoch - 1] if epoch else 0


@dataclass(frozen=True)
class Window:
    """Blocks to be read together; bag size and whether bags gather similar cells are drawn for each block."""

    blocks: tuple[Block, ...]
    bag_sizes: tuple[int, ...]
    near: tuple[bool, ...]
    n_bags: int
    number: int


class BagStream:
    """Bags of cells in the order of training.

    ``held_out`` has the cells of each source that are never trained on, (n_cells,) bool. This stream reads the windows
    ``number``, ``number + n_streams``, and so on.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        held_out: Sequence[np.ndarray],
        config: PretrainConfig,
        number: int = 0,
        n_streams: int = 1,
    ) -> None:
        self.sources, self.held_out, self.config = sources, held_out, config
        self.number, self.n_streams = number, n_streams
        n_cells = [len(source.samples) for source in sources]
        self.visits = Visits(n_cells, config.block_size, config.balance, config.seed)

    def bags(self, first: int = 0) -> Iterator[tuple[Dataset, np.ndarray]]:
        """Yield blocks with the rows of a bag, endlessly; the first ``first`` bags are skipped without being read."""
        windows = self._windows(first)
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(self._read, *next(windows))
            while True:
                bags = pending.result()
                pending = reader.submit(self._read, *next(windows))
                yield from bags

    def _windows(self, n_skipped: int) -> Iterator[tuple[Window, int]]:
        """Yield windows with the number of their skipped bags."""
        for number in count(self.number, self.n_streams):
            window = self.plan(number)
            if n_skipped < window.n_bags:
                yield window, n_skipped
            n_skipped = max(n_skipped - window.n_bags, 0)

    def plan(self, number: int) -> Window:
        """Plan a window from samples and held-out cells, without reading expression."""
        config, rng = self.config, np.random.default_rng([self.config.seed, 5, number])
        first = number * config.window_blocks
        blocks = tuple(self.visits[visit] for visit in range(first, first + config.window_blocks))
        sizes = tuple(int(size) for size in rng.choice(config.bag_sizes, len(blocks)))
        near = tuple(bool(is_near) for is_near in rng.random(len(blocks)) < config.near_fraction)
        n_bags = 0
        for block, size in zip(blocks, sizes, strict=True):
            samples = self.sources[block.source].samples[block.start : block.stop]
            is_held_out = self.held_out[block.source][block.start : block.stop]
            _, n_cells = np.unique(samples[~is_held_out], return_counts=True)
            n_bags += int(np.ceil(n_cells / size).sum())
        return Window(blocks, sizes, near, n_bags, number)

    def _read(self, window: Window, n_skipped: int) -> list[tuple[Dataset, np.ndarray]]:
        rng = np.random.default_rng([self.config.seed, 6, window.number])
        bags = []
        for block, size, near in zip(window.blocks, window.bag_sizes, window.near, strict=True):
            dataset = self._dataset(block, near=near)
            usable = np.flatnonzero(~dataset.held_out)
            points = dataset.points[usable] if near else None
            planned = plan_bags(dataset.samples[usable], size, rng, points)
            bags += [(dataset, usable[bag.rows]) for bag in planned]
        return [bags[number] for number in rng.permutation(len(bags))[n_skipped:]]

    def _dataset(self, block: Block, *, near: bool) -> Dataset:
        source, held_out = self.sources[block.source], self.held_out[block.source]
        dataset = read_block(source, held_out, block.start, block.stop)
        if not near or source.coordinates is not None:
            return dataset
        # Held-out cells must not influence training, hence not the similarity of other cells.
        usable = ~dataset.held_out
        similar = bag_points("similar", CellsToPlan(None, lambda: dataset.log_counts[usable], self.config.seed))
        points = np.zeros((len(usable), similar.shape[1]))
        points[usable] = similar
        return replace(dataset, points=points)


def _divide(n_cells: Sequence[int], block_size: int) -> list[Block]:
    """Divide sources into blocks; the last block of a source may be smaller."""
    return [
        Block(source, start, min(start + block_size, n))
        for source, n in enumerate(n_cells)
        for start in range(0, n, block_size)
    ]


def read_block(source: Source, held_out: np.ndarray, start: int, stop: int) -> Dataset:
    """Read cells ``start`` to ``stop`` of a source, fewer at its end; without coordinates, points are zero."""
    stop = min(stop, len(source.samples))
    log_counts = source.read(start, stop)
    points = np.zeros((stop - start, 1)) if source.coordinates is None else source.coordinates[start:stop]
    return Dataset(source.name, log_counts, source.measured, source.samples[start:stop], points, held_out[start:stop])


def sample_blocks(
    sources: Sequence[Source], held_out: Sequence[np.ndarray], block_size: int, max_cells: int, seed: int
) -> list[Dataset]:
    """Read one block of every source, then random blocks up to about ``max_cells``, in the order of the sources."""
    blocks = _divide([len(mask) for mask in held_out], block_size)
    drawn = np.random.default_rng([seed, 7]).permutation(len(blocks))
    is_first = ~pd.Series([blocks[number].source for number in drawn]).duplicated().to_numpy()
    drawn = np.concatenate([drawn[is_first], drawn[~is_first]])
    n_sources = int(is_first.sum())
    n_before = np.cumsum([0, *(blocks[number].stop - blocks[number].start for number in drawn[:-1])])
    return [
        read_block(sources[block.source], held_out[block.source], block.start, block.stop)
        for block in (blocks[number] for number in np.sort(drawn[: max(n_sources, (n_before < max_cells).sum())]))
    ]
