"""Blocks of cells in this process; those on a cluster are in `test_cluster.py`."""

from __future__ import annotations

import os

import numpy as np
import pytest

from scanpy_sct.run.blocks import run_blocks


@pytest.fixture(scope="module")
def reader(pbmc, open_cells):
    return open_cells(pbmc[:90].copy())


@pytest.fixture(scope="module")
def blocks():
    """Three blocks of cells that are scattered over the object."""
    return [np.sort(rows) for rows in np.array_split(np.random.default_rng(0).permutation(90), 3)]


def totals_and_process(number, cells, factor=1):
    return number, cells.rows, np.asarray(cells.matrix.sum(axis=1)).ravel() * factor, os.getpid()


def test_blocks_in_this_process(reader, blocks):
    found = list(run_blocks(totals_and_process, reader, blocks, 2))
    totals = np.asarray(reader.rows().sum(axis=1)).ravel()
    assert [number for number, _ in found] == [0, 1, 2]
    for number, (given, rows, result, process) in found:
        assert given == number
        assert process == os.getpid()
        np.testing.assert_array_equal(rows, blocks[number])
        np.testing.assert_allclose(result, 2 * totals[rows], rtol=1e-6)


def test_only_some_blocks(reader, blocks):
    assert [number for number, _ in run_blocks(totals_and_process, reader, blocks, numbers=[2, 0])] == [2, 0]
