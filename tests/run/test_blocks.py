from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scanpy_sct.run.blocks import find_client, run_blocks
from scanpy_sct.run.collect import collect_rows, lazy_rows


@pytest.fixture(scope="module")
def reader(pbmc, open_cells):
    return open_cells(pbmc[:90].copy())


@pytest.fixture(scope="module")
def blocks():
    """Three blocks of cells that are scattered over the object."""
    return [np.sort(rows) for rows in np.array_split(np.random.default_rng(0).permutation(90), 3)]


def totals_and_process():
    """Return a task; a function inside another is sent to workers as it is, without an import."""

    def task(number, cells, factor=1):
        return number, cells.rows, np.asarray(cells.matrix.sum(axis=1)).ravel() * factor, os.getpid()

    return task


def test_blocks_in_this_process(reader, blocks):
    found = list(run_blocks(totals_and_process(), reader, blocks, 2))
    totals = np.asarray(reader.rows().sum(axis=1)).ravel()
    assert [number for number, _ in found] == [0, 1, 2]
    for number, (given, rows, result, process) in found:
        assert given == number
        assert process == os.getpid()
        np.testing.assert_array_equal(rows, blocks[number])
        np.testing.assert_allclose(result, 2 * totals[rows], rtol=1e-6)


def test_only_some_blocks(reader, blocks):
    assert [number for number, _ in run_blocks(totals_and_process(), reader, blocks, numbers=[2, 0])] == [2, 0]


def test_blocks_on_workers(reader, blocks, client):
    here = dict(run_blocks(totals_and_process(), reader, blocks))
    there = dict(run_blocks(totals_and_process(), reader, blocks, client=client))
    assert there.keys() == here.keys()
    for number, (_, rows, totals, process) in there.items():
        assert process != os.getpid()
        np.testing.assert_array_equal(rows, blocks[number])
        np.testing.assert_array_equal(totals, here[number][2])


def test_every_worker_does_its_part(reader, client):
    def slow(number, cells):
        import os
        import time

        time.sleep(0.2)
        return os.getpid()

    blocks = np.array_split(np.arange(90), 6)
    processes = [process for _, process in run_blocks(slow, reader, blocks, client=client)]
    assert len(set(processes)) == 2


def test_a_killed_worker_costs_a_retry(reader, blocks, client, tmp_path):
    def deadly(number, cells, flag):
        """Kill the worker that computes block 1, once."""
        import os
        import time

        if number == 1 and not os.path.exists(flag):
            open(flag, "w").close()
            os._exit(1)
        time.sleep(0.1)
        return cells.matrix.nnz

    flag = tmp_path / "killed"
    found = dict(run_blocks(deadly, reader, blocks, str(flag), client=client))
    assert flag.exists()
    assert found == {number: reader.rows(rows).nnz for number, rows in enumerate(blocks)}


def test_an_error_of_a_task_is_raised_here(reader, blocks, client):
    def wrong(number, cells):
        msg = f"block {number} is wrong"
        raise ValueError(msg)

    for where in (None, client):
        with pytest.raises(ValueError, match="is wrong"):
            list(run_blocks(wrong, reader, blocks, client=where))


def test_a_client_is_found_if_it_is_active(client):
    assert find_client() is None
    assert find_client(client) is client
    with client.as_current():
        assert find_client() is client
    with pytest.raises(TypeError, match="client must be"):
        find_client(Path("cluster"))


@pytest.mark.parametrize("is_sparse", [False, True])
def test_rows_come_back_in_the_order_of_the_object(reader, blocks, client, is_sparse):
    def tables(number, cells, is_sparse):
        matrix = cells.matrix
        return {"all": matrix if is_sparse else matrix.toarray(), "some": matrix[:, :3].toarray()}

    expected = reader.rows().toarray()
    here = collect_rows(
        ((blocks[number], part) for number, part in run_blocks(tables, reader, blocks, is_sparse)), reader.n_cells
    )
    found = sorted(run_blocks(tables, reader, blocks, is_sparse, client=client, keep=True), key=lambda item: item[0])
    lazy = lazy_rows([future for _, future in found], blocks, client)
    computed = {name: client.compute(table).result() for name, table in lazy.items()}
    for tables in (here, computed):
        assert hasattr(tables["all"], "toarray") == is_sparse
        np.testing.assert_array_equal(tables["all"].toarray() if is_sparse else tables["all"], expected)
        np.testing.assert_array_equal(tables["some"], expected[:, :3])
    assert lazy["all"].shape == expected.shape
