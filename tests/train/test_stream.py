from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.train.sources import open_sources
from scanpy_sct.train.stream import BagStream, Visits, read_block, sample_blocks


@dataclass
class Numbered:
    """A source whose first gene has the number of the cell."""

    name: str
    samples: np.ndarray
    measured: np.ndarray = field(default_factory=lambda: np.ones(6, dtype=bool))
    coordinates: np.ndarray | None = None
    reads: list = field(default_factory=list)

    def read(self, start, stop):
        self.reads.append((start, stop))
        dense = np.ones((stop - start, 6), dtype=np.float32)
        dense[:, 0] = (np.arange(start, stop) + 1) / 1000  # small enough to be a logarithm
        return sparse.csr_matrix(dense)


@pytest.fixture
def sources():
    return [Numbered("large", np.repeat([0, 1, 2], [40, 30, 30])), Numbered("small", np.zeros(25, dtype=int))]


@pytest.fixture
def held_out(sources):
    return [np.random.default_rng(0).random(len(source.samples)) < 0.1 for source in sources]


@pytest.fixture
def small_blocks(config):
    return replace(config, block_size=20, window_blocks=2, bag_sizes=(6,), balance=1.0)


def cells(bag):
    """Source and number of each cell of a bag."""
    dataset, rows = bag
    return [(dataset.name, round(1000 * value) - 1) for value in dataset.log_counts[rows, 0].toarray().ravel()]


def test_an_epoch_visits_every_block_once_and_each_epoch_in_another_order():
    visits = Visits([100, 30], block_size=20, balance=1.0, seed=0)
    epochs = [[visits[7 * epoch + number] for number in range(7)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted((block.source, block.start, block.stop) for block in epoch) == [
            *((0, start, start + 20) for start in range(0, 100, 20)),
            (1, 0, 20),
            (1, 20, 30),
        ]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("balance", "expected"), [(1.0, 1.0), (0.5, 2.0), (0.0, 4.0)])
def test_balance_visits_small_sources_more_often(balance, expected):
    visits = Visits([400, 100], block_size=50, balance=balance, seed=0)
    sources = [visits[number].source for number in range(20 * 8)]
    per_block = np.bincount(sources) / [8, 2]
    assert per_block[1] / per_block[0] == pytest.approx(expected, rel=0.15)


def test_a_source_due_two_and_a_half_times_an_epoch_gets_five_visits_in_two():
    visits = Visits([100, 16], block_size=100, balance=0.5, seed=0)
    first = [visits[number].source for number in range(7)]  # 1 + 2 and 1 + 3 visits
    assert first.count(0) == 2
    assert first.count(1) == 5


def test_every_cell_to_train_on_is_in_a_bag_and_no_other(sources, held_out, small_blocks):
    stream = BagStream(sources, held_out, small_blocks)
    n_bags = sum(stream.plan(number).n_bags for number in range(7))  # 14 visits: two epochs of 5 + 2 blocks
    found = {cell for bag in islice(stream.bags(), n_bags) for cell in cells(bag)}
    expected = {
        (source.name, int(cell))
        for source, mask in zip(sources, held_out, strict=True)
        for cell in np.flatnonzero(~mask)
    }
    assert found == expected


def test_bags_stay_within_samples(sources, held_out, small_blocks):
    for dataset, rows in islice(BagStream(sources, held_out, small_blocks).bags(), 60):
        assert len(np.unique(dataset.samples[rows])) == 1
        assert 1 <= len(rows) <= 6


@pytest.mark.parametrize("first", [1, 5, 23])
def test_starting_later_gives_the_same_bags(sources, held_out, small_blocks, first):
    whole = [cells(bag) for bag in islice(BagStream(sources, held_out, small_blocks).bags(), 40)]
    later = [cells(bag) for bag in islice(BagStream(sources, held_out, small_blocks).bags(first), 40 - first)]
    assert later == whole[first:]


def test_skipped_bags_are_not_read(sources, held_out, small_blocks):
    next(BagStream(sources, held_out, small_blocks).bags(200))
    assert sum(len(source.reads) for source in sources) <= 2 * small_blocks.window_blocks


def test_memory_holds_two_windows_whatever_the_size_of_the_data(small_blocks):
    source = Numbered("huge", np.zeros(10_000, dtype=int))
    next(BagStream([source], [np.zeros(10_000, dtype=bool)], small_blocks).bags())
    assert 2 <= len(source.reads) <= 4


def test_streams_divide_the_windows(sources, held_out, small_blocks):
    alone = BagStream(sources, held_out, small_blocks)
    windows = [alone.plan(number) for number in range(6)]
    for number in range(2):
        stream = BagStream(sources, held_out, small_blocks, number, 2)
        n_bags = sum(window.n_bags for window in windows[number::2])
        got = sorted(cell for bag in islice(stream.bags(), n_bags) for cell in cells(bag))
        expected = sorted(
            cell for window in windows[number::2] for bag in alone._read(window, 0) for cell in cells(bag)
        )
        assert got == expected


def test_near_bags_gather_neighbours(held_out, small_blocks):
    rng = np.random.default_rng(1)
    x = rng.permutation(np.repeat([0.0, 100.0], 10))
    source = Numbered("section", np.zeros(20, dtype=int), coordinates=np.stack([x, rng.random(20)], axis=1))
    no_cells = [np.zeros(20, dtype=bool)]
    spreads = {}
    for fraction in (0.0, 1.0):
        stream = BagStream([source], no_cells, replace(small_blocks, bag_sizes=(5,), near_fraction=fraction))
        spreads[fraction] = np.mean([np.ptp(dataset.points[rows, 0]) for dataset, rows in islice(stream.bags(), 16)])
    assert spreads[1.0] < 1
    assert spreads[0.0] > 50


def test_sample_reads_no_more_than_requested(sources, held_out):
    parts = sample_blocks(sources, held_out, block_size=10, max_cells=35, seed=0)
    assert 35 <= sum(part.log_counts.shape[0] for part in parts) < 45
    everything = sample_blocks(sources, held_out, block_size=10, max_cells=1000, seed=0)
    assert sum(part.log_counts.shape[0] for part in everything) == 125


def test_sample_has_cells_of_every_source(small_blocks):
    many = [Numbered("large", np.zeros(4000, dtype=int)), Numbered("small", np.zeros(20, dtype=int))]
    no_cells = [np.zeros(len(source.samples), dtype=bool) for source in many]
    for seed in range(10):
        assert {part.name for part in sample_blocks(many, no_cells, 20, 60, seed)} == {"large", "small"}


def test_held_out_cells_do_not_influence_the_bags_of_others(files, genes, small_blocks):
    sources = open_sources(files, genes)
    held_out = [np.arange(80) % 5 == 0, np.arange(80) % 5 == 0]
    changed = open_sources(files, genes)
    for source, other, mask in zip(sources, changed, held_out, strict=True):
        object.__setattr__(source, "coordinates", None)
        object.__setattr__(other, "coordinates", None)
        dense = other.matrix[:].toarray()
        dense[mask] = dense[mask][::-1]
        object.__setattr__(other, "matrix", sparse.csr_matrix(dense))
    config = replace(small_blocks, near_fraction=1.0, block_size=80)
    bags = [islice(BagStream(each, held_out, config).bags(), 40) for each in (sources, changed)]
    for (one, rows), (other, others) in zip(*bags, strict=True):
        np.testing.assert_array_equal(rows, others)
        np.testing.assert_array_equal(one.log_counts[rows].toarray(), other.log_counts[others].toarray())


def test_a_block_at_the_end_is_smaller(sources, held_out):
    dataset = read_block(sources[0], held_out[0], 90, 120)
    assert dataset.log_counts.shape[0] == len(dataset.samples) == len(dataset.points) == 10
