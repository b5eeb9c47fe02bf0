from __future__ import annotations

import logging
import pickle
import weakref
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.matrix import open_matrix
from scanpy_sct.read.storage import _increasing, open_stored

RNG = np.random.default_rng(0)
VALUES = np.where(RNG.random((120, 30)) < 0.3, RNG.poisson(4, (120, 30)), 0).astype(np.float32)


@pytest.fixture
def adata():
    return ad.AnnData(sparse.csr_matrix(VALUES))


@pytest.fixture
def stored(storage):
    wide = np.hstack([VALUES, np.zeros((120, 100), dtype=np.float32)])
    return storage(ad.AnnData(sparse.csr_matrix(wide))).X


ROWS = {
    "all": None,
    "run": np.arange(30, 90),
    "unsorted": np.array([119, 0, 5, 6, 7, 80]),
    "twice": np.array([3, 3, 118, 3]),
    "twice in order": np.array([3, 3, 5]),
    "one": np.array([64]),
    "none": np.array([], dtype=int),
    "permuted": RNG.permutation(120),
}


def test_rows_in_any_order_also_in_another_process(stored):
    opened = open_stored(stored, "adata.X")
    assert opened.shape == (120, 130)
    for name, rows in ROWS.items():
        found = opened.rows(rows)
        assert type(found) is sparse.csr_matrix
        assert found.dtype == np.float32
        assert found.has_canonical_format
        assert found.shape == (120 if rows is None else len(rows), 130)
        expected = VALUES if rows is None else VALUES[rows]
        np.testing.assert_array_equal(found[:, :30].toarray(), expected, err_msg=name)
    # What is sent to another process holds neither the matrix nor an open file.
    rows = np.array([100, 3, 64, 65])
    lazy = opened.lazy_rows(rows)
    assert (lazy is None) == opened.is_in_memory
    if lazy is not None:
        sent = pickle.loads(pickle.dumps(lazy))
        np.testing.assert_array_equal(sent.compute(scheduler="sync")[:, :30].toarray(), VALUES[rows])


def test_a_file_open_for_writing_is_not_read_by_another_process(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r+")
    opened = open_stored(backed.X, "adata.X")
    assert opened.lazy_rows(np.arange(3)) is None
    np.testing.assert_array_equal(opened.rows(np.arange(3)).toarray(), VALUES[:3])


class CountedFile:
    """A dense matrix that counts the rows that are read of it."""

    shape, dtype = VALUES.shape, VALUES.dtype

    def __init__(self):
        self.reads = []

    def __getitem__(self, rows):
        self.reads.append((rows.start, rows.stop))
        return VALUES[rows]


def test_a_file_is_read_in_runs(monkeypatch):
    monkeypatch.setattr("scanpy_sct.read.storage.MAX_GAP", 8)
    file = CountedFile()
    rows = np.array([110, 3, 4, 5, 9, 60, 111])
    np.testing.assert_array_equal(open_stored(file, "x").rows(rows).toarray(), VALUES[rows])
    # Small gaps are read through.
    assert file.reads == [(3, 10), (60, 61), (110, 112)]


class TallFile(CountedFile):
    """A dense matrix of many rows."""

    shape = (30_000, 1)

    def __getitem__(self, rows):
        self.reads.append((rows.start, rows.stop))
        return np.arange(*rows.indices(30_000), dtype=np.float32)[:, None]


def test_how_much_of_a_file_is_read_at_once():
    file = TallFile()
    rows = np.array([0, 128, 257, 387])
    np.testing.assert_array_equal(open_stored(file, "x").rows(rows).toarray()[:, 0], rows)
    assert file.reads == [(0, 258), (387, 388)]  # up to 128 rows are read through
    file.reads.clear()
    open_stored(file, "x").rows(np.arange(1030))
    assert file.reads == [(0, 1024), (1024, 1030)]


class Entries:
    """An array of a sparse matrix in a file, that notes what is read of it."""

    def __init__(self, values):
        self.values, self.reads = values, []

    def __getitem__(self, entries):
        self.reads.append((entries.start, entries.stop))
        return self.values[entries]


def test_how_much_of_a_sparse_file_is_read_at_once():
    n_rows = 8200
    data = Entries(np.ones(n_rows))
    group = {"data": data, "indices": np.arange(n_rows) % 3, "indptr": np.arange(n_rows + 1)}
    file = SimpleNamespace(group=group, shape=(n_rows, 3), dtype=np.float64, format="csr", to_memory=None)
    np.testing.assert_array_equal(open_stored(file, "x").rows(None).indices, group["indices"])
    assert data.reads == [(0, 8192), (8192, 8200)]


def test_increasing_rows_need_no_other_order():
    rows, order = _increasing(np.array([3, 4, 9]))
    assert (rows.tolist(), order) == ([3, 4, 9], None)
    for unordered, expected in (([4, 3, 9], [1, 0, 2]), ([3, 3, 9], [0, 0, 1])):
        rows, order = _increasing(np.array(unordered))
        assert order.tolist() == expected
        assert rows[order].tolist() == unordered


def test_rows_far_apart_are_not_held_together(monkeypatch):
    monkeypatch.setattr("scanpy_sct.read.storage.MAX_DENSE_ROWS", 50)
    file = CountedFile()
    rows = np.arange(5, 119, 4)
    np.testing.assert_array_equal(open_stored(file, "x").rows(rows).toarray(), VALUES[rows])
    assert file.reads == [(5, 54), (57, 102), (105, 118)]


def test_dense_rows_are_converted_some_at_a_time(monkeypatch):
    monkeypatch.setattr("scanpy_sct.read.storage.MAX_DENSE_ROWS", 16)
    file = CountedFile()
    np.testing.assert_array_equal(open_stored(file, "x").rows(None).toarray(), VALUES)
    assert max(stop - start for start, stop in file.reads) <= 16
    assert sum(stop - start for start, stop in file.reads) == 120


@pytest.fixture
def counted_chunks():
    """A dask array of chunks of 10 rows, the numbers of those that were loaded, and how many rows were held at once."""
    da = pytest.importorskip("dask.array")
    import dask

    loaded, held = [], {"now": 0, "most": 0}

    def release():
        held["now"] -= 10

    def load(block_info=None):
        (start, stop), _ = block_info[None]["array-location"]
        loaded.append(start // 10)
        chunk = sparse.csr_matrix(VALUES[start:stop])
        held["now"] += 10
        held["most"] = max(held["most"], held["now"])
        weakref.finalize(chunk, release)
        return chunk

    array = da.map_blocks(load, chunks=((10,) * 12, (30,)), dtype=np.float32, meta=sparse.csr_matrix((0, 0)))
    loaded.clear()
    with dask.config.set(scheduler="sync"):
        yield array, loaded, held


def test_only_chunks_with_requested_rows_are_loaded_and_each_once(counted_chunks):
    array, loaded, held = counted_chunks
    opened = open_stored(array, "x")
    assert not loaded
    rows = np.array([57, 3, 4, 55, 119])
    np.testing.assert_array_equal(opened.rows(rows).toarray(), VALUES[rows])
    assert sorted(loaded) == [0, 5, 11]
    assert held["most"] <= 30


def test_never_more_than_a_piece_is_held(counted_chunks, monkeypatch):
    monkeypatch.setattr("scanpy_sct.read.matrix.ROWS_AT_ONCE", 20)
    array, loaded, held = counted_chunks
    adata = ad.AnnData(sparse.csr_matrix(VALUES.shape), layers={"lazy": array})
    matrix = open_matrix(adata, "lazy")
    total = np.zeros(30)
    for rows, values in matrix.pieces():
        np.testing.assert_array_equal(values.toarray(), VALUES[rows])
        total += np.asarray(values.sum(axis=0)).ravel()
    np.testing.assert_allclose(total, VALUES.sum(axis=0))
    assert sorted(loaded) == list(range(12))
    assert held["most"] <= 30


@pytest.mark.parametrize("make", [sparse.csc_matrix, np.asarray])
def test_what_cannot_be_read_by_rows_is_loaded_with_the_way_out(make, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("scanpy_sct.read.storage.LARGE", 100)
    if make is np.asarray:
        stored, expected = pytest.importorskip("dask.array").from_array(VALUES, chunks=(-1, 7)), "Rechunk"
    else:
        ad.AnnData(make(VALUES)).write_h5ad(tmp_path / "a.h5ad")
        stored, expected = ad.read_h5ad(tmp_path / "a.h5ad", backed="r").X, "Write it as CSR"
    with caplog.at_level(logging.WARNING):
        opened = open_stored(stored, "adata.X")
    assert opened.is_in_memory
    assert "all 120 cells are loaded" in caplog.text
    assert expected in caplog.text


@pytest.mark.parametrize("n_cells", [19_999, 20_000])
def test_loading_a_large_matrix_is_worth_a_warning(n_cells, caplog):
    da = pytest.importorskip("dask.array")
    open_stored(da.ones((n_cells, 1), chunks=(-1, 1), dtype=np.float32), "adata.X")
    assert ("all 20,000 cells are loaded" in caplog.text) == (n_cells == 20_000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_bad_values_are_found_when_they_are_read_and_their_rows_named(bad):
    da = pytest.importorskip("dask.array")
    values = VALUES.copy()
    values[[77, 90], 2] = bad
    matrix = open_matrix(ad.AnnData(da.from_array(values, chunks=(50, 30))))
    matrix.rows(np.arange(60))
    with pytest.raises(ValueError, match=r"adata\.X holds .* rows 77, 90"):
        matrix.rows(np.array([90, 3, 77]))
    with pytest.raises(ValueError, match=r"in row 77\D"):
        matrix.lazy_rows(np.arange(70, 80)).compute()
    with pytest.raises(ValueError, match=r"rows 77, 90"):
        open_matrix(ad.AnnData(values))


def test_as_many_rows_as_there_are_genes_are_not_all_that_is_read():
    rows = np.arange(0, 60, 2)
    assert len(rows) == VALUES.shape[1]
    np.testing.assert_array_equal(open_stored(CountedFile(), "x").rows(rows).toarray(), VALUES[rows])


def test_as_many_rows_as_there_are_genes_are_not_the_whole_chunk():
    few = VALUES[:, :4]
    opened = open_stored(pytest.importorskip("dask.array").from_array(few, chunks=(60, -1)), "adata.X")
    assert not opened.is_in_memory
    rows = np.array([50, 2, 7, 9])
    np.testing.assert_array_equal(opened.rows(rows).toarray(), few[rows])
