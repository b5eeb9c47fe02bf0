"""Blocks of cells in this process; those on a cluster are in `test_cluster.py`."""

from __future__ import annotations

import os

import numpy as np

from scanpy_sct.run.blocks import run_blocks


def totals_and_process(number, cells, factor=1):
    return number, cells.rows, np.asarray(cells.matrix.sum(axis=1)).ravel() * factor, os.getpid()


def test_blocks_in_this_process(ninety_cells, three_blocks):
    found = list(run_blocks(totals_and_process, ninety_cells, three_blocks, 2))
    totals = np.asarray(ninety_cells.rows().sum(axis=1)).ravel()
    assert [number for number, _ in found] == [0, 1, 2]
    for number, (given, rows, result, process) in found:
        assert given == number
        assert process == os.getpid()
        np.testing.assert_array_equal(rows, three_blocks[number])
        np.testing.assert_allclose(result, 2 * totals[rows], rtol=1e-6)


def test_only_some_blocks(ninety_cells, three_blocks):
    assert [number for number, _ in run_blocks(totals_and_process, ninety_cells, three_blocks, numbers=[2, 0])] == [
        2,
        0,
    ]
