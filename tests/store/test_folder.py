"""Stores that are written part by part: what is in them, and what an interrupt leaves."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.store import PartStore, base, folder, merge, open_layer, parts

N_CELLS, N_GENES, N_BLOCKS = 61, 7, 4
LAYERS = {"values": "sct", "bins": "sct_bins", "some": "sct_some"}
FINGERPRINT = {"model": "tiny", "options": {"bags": "random", "rng": 0}, "genes": ["A", "B"]}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Many segments, chunks and windows in small data."""
    monkeypatch.setattr(parts, "SEGMENT_BYTES", 5 * N_GENES * 4)
    monkeypatch.setattr(merge, "CHUNK_BYTES", 3 * N_GENES * 4)
    monkeypatch.setattr(merge, "CHUNKS_PER_WINDOW", 2)
    monkeypatch.setattr(merge, "CHUNK_ENTRIES", 16)
    monkeypatch.setattr(base, "CHUNK_BYTES", 10 * N_GENES * 4)
    monkeypatch.setattr(base, "ROWS_AT_ONCE", 20)


def make_arrays(n_cells: int = N_CELLS, n_genes: int = N_GENES) -> dict:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_cells, n_genes)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    some = sparse.random(n_cells, n_genes, 0.3, format="csr", dtype=np.float32, rng=rng)
    some = sparse.csr_matrix(some.multiply((np.arange(n_cells) % 5 > 1)[:, None]))  # some cells are empty
    return {"values": values, "bins": rng.integers(0, 9, values.shape).astype(np.uint8), "some": some}


def make_blocks(n_cells: int = N_CELLS, n_blocks: int = N_BLOCKS, order: str = "random") -> list[np.ndarray]:
    cells = np.random.default_rng(1).permutation(n_cells) if order == "random" else np.arange(n_cells)
    return [np.sort(block) for block in np.array_split(cells, n_blocks)]


def make_object(matrix=None, n_cells: int = N_CELLS, n_genes: int = N_GENES, **fields) -> ad.AnnData:
    obs = pd.DataFrame(
        {"type": pd.Categorical(np.array(["T", "B"])[np.arange(n_cells) % 2]), "n": np.arange(n_cells), "text": "a"},
        index=[f"cell {number}" for number in reversed(range(n_cells))],
    )
    var = pd.DataFrame({"found": True}, index=[f"gene {number}" for number in reversed(range(n_genes))])
    obsm = {"spatial": np.random.default_rng(2).random((n_cells, 2))}
    return ad.AnnData(matrix, obs=obs, var=var, obsm=obsm, uns={"sct": {"params": {"rng": 0}}}, **fields)


def counts() -> sparse.csr_matrix:
    return sparse.random(N_CELLS, N_GENES, 0.4, format="csr", dtype=np.float32, rng=np.random.default_rng(3))


def write_parts(store: PartStore, numbers=range(N_BLOCKS), **options) -> None:
    arrays, blocks = make_arrays(), make_blocks(**options)
    for number in numbers:
        rows = blocks[number]
        moments = {"moments": np.full(3, number, dtype=float), "n": np.float64(number), "none": np.empty((0, 2))}
        store.write_part(number, {name: array[rows] for name, array in arrays.items()} | moments)


def full_store(path: Path, **options) -> PartStore:
    store = PartStore.open(path, FINGERPRINT)
    write_parts(store, **options)
    return store


def check_result(path: Path) -> None:
    found, expected = ad.read_zarr(path), make_arrays()
    for name, layer in LAYERS.items():
        same_matrix(found.layers[layer], expected[name])
    pd.testing.assert_frame_equal(found.obs, make_object().obs)
    pd.testing.assert_frame_equal(found.var, make_object().var)
    np.testing.assert_array_equal(found.obsm["spatial"], make_object().obsm["spatial"])
    assert found.uns["sct"]["params"]["rng"] == 0


def same_matrix(found, expected) -> None:
    assert found.dtype == expected.dtype
    assert sparse.issparse(found) == sparse.issparse(expected)
    if sparse.issparse(expected):
        found.check_format()
        assert found.has_sorted_indices
        found, expected = found.toarray(), expected.toarray()
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "cells.zarr"


@pytest.mark.parametrize("order", ["random", "consecutive"])
def test_parts_become_layers_in_the_order_of_the_object(out, order):
    store, seen = full_store(out, order=order), []
    assert store.finish(make_object(), make_blocks(order=order), LAYERS, seen.append) == out
    check_result(out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert sum(seen) == N_CELLS
    assert len(seen) == -(-N_CELLS // 6)


def test_the_result_can_be_read_lazily(out):
    full_store(out).finish(make_object(counts()), make_blocks(), LAYERS)
    assert (out / ".zmetadata").exists()  # else opening reads one file for every array
    lazy = ad.experimental.read_lazy(out)
    same_matrix(lazy.layers["sct"].compute(), make_arrays()["values"])
    same_matrix(lazy.to_memory().layers["sct_some"], make_arrays()["some"])
    for name, layer in LAYERS.items():
        found = open_layer(str(out), layer)
        assert found.chunks[1] == (N_GENES,)
        same_matrix(found.compute(), make_arrays()[name])
        same_matrix(pickle.loads(pickle.dumps(found))[5:50].compute(), make_arrays()[name][5:50])
    assert open_layer(out, "sct").chunks[0][0] == 3


def dask_of(matrix, chunks):
    import dask.array as da

    return da.from_array(matrix, chunks=chunks, asarray=False)


@pytest.mark.parametrize("kind", ["none", "csr", "dense", "dask dense", "dask csr", "dask csr whole", "dask csc"])
def test_the_rest_of_the_object_is_written_too(out, kind):
    matrix = {
        "none": lambda: None,
        "csr": counts,
        "dense": lambda: counts().toarray(),
        "dask dense": lambda: dask_of(counts().toarray(), (13, 3)),
        "dask csr": lambda: dask_of(counts(), (13, N_GENES)),
        "dask csr whole": lambda: dask_of(counts(), (N_CELLS, N_GENES)),
        "dask csc": lambda: dask_of(counts(), (13, N_GENES)).map_blocks(sparse.csc_matrix),
    }[kind]()
    layers = {} if matrix is None else {"counts": matrix}
    store = full_store(out)
    store.finish(make_object(matrix, layers=layers), make_blocks(), LAYERS)
    check_result(out)
    found = ad.read_zarr(out)
    if matrix is None:
        assert found.X is None
        return
    expected = counts().toarray() if kind.endswith("dense") else counts()
    same_matrix(found.X, expected)
    same_matrix(found.layers["counts"], expected)
    if kind == "dask dense":
        assert [lengths[0] for lengths in open_layer(out, "counts").chunks] == [10, N_GENES]
    elif sparse.issparse(expected):
        assert found.X.format == "csr"


@pytest.mark.parametrize("is_lazy", [False, True])
def test_only_what_is_in_memory_is_written_through_memory(out, monkeypatch, is_lazy):
    names, through = [], base.through_memory
    monkeypatch.setattr(base, "through_memory", lambda path, name: names.append(name) or through(path, name))
    cells, values = make_object(), counts().toarray()
    cells.uns["more"] = {"matrix": dask_of(values, (13, 3)) if is_lazy else values}
    full_store(out).finish(cells, make_blocks(), LAYERS)
    assert sorted(names) == (["obs", "var"] if is_lazy else ["obs", "uns", "var"])
    check_result(out)
    np.testing.assert_array_equal(ad.read_zarr(out).uns["more"]["matrix"], values)


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_a_matrix_on_disk_is_copied_too(out, tmp_path, form):
    matrix = {"dense": counts().toarray(), "csr": counts(), "csc": sparse.csc_matrix(counts())}[form]
    ad.AnnData(matrix).write_h5ad(tmp_path / "backed.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "backed.h5ad", backed="r")
    full_store(out).finish(on_disk, make_blocks(), LAYERS)
    on_disk.file.close()
    same_matrix(ad.read_zarr(out).X, counts().toarray() if form == "dense" else counts())


def test_a_layer_of_the_same_name_is_replaced_and_not_copied(out):
    def fail(block):
        raise AssertionError("the old layer is read")

    old = dask_of(np.zeros((N_CELLS, N_GENES)), (10, N_GENES)).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    full_store(out).finish(make_object(layers={"sct": old}), make_blocks(), LAYERS)
    check_result(out)


def test_the_object_stays_what_it_was(out):
    adata = make_object(counts())
    before = adata.copy()
    full_store(out).finish(adata, make_blocks(), LAYERS)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert "sct" not in adata.layers


def test_rows_of_a_part_are_read_alone(out):
    store, rows = full_store(out), make_blocks()[1]
    assert len(list(store.partial.glob("part-000001/values.*.npy"))) >= 3
    for name, array in make_arrays().items():
        for start, stop in [(0, 0), (0, 1), (3, 9), (5, 5), (4, 5), (12, 99), (14, 3), (0, len(rows))]:
            same_matrix(store.read_part(1, [name], slice(start, stop))[name], array[rows][start:stop])
    with pytest.raises(ValueError, match="step"):
        store.read_part(1, ["values"], slice(None, None, 2))
    everything = store.read_part(1)
    assert everything["moments"].tolist() == [1, 1, 1]
    assert everything["n"] == 1
    assert everything["none"].shape == (0, 2)


def test_reading_rows_does_not_read_the_file(out):
    parts.SEGMENT_BYTES = 2**30  # put back by the fixture
    store = PartStore.open(out, {})
    store.write_part(0, {"values": np.zeros((2**14, 256), dtype=np.float32)})
    tracemalloc.start()
    store.read_part(0, ["values"], slice(1000, 1010))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_memory_is_that_of_a_window(out, monkeypatch, kind):
    import dask.array as da

    # Imports take memory too.
    full_store(out).finish(make_object(dask_of(counts(), (13, N_GENES))), make_blocks(), LAYERS)
    shutil.rmtree(out)
    n_cells, n_genes = 2500, 1000
    monkeypatch.setattr(parts, "SEGMENT_BYTES", 200_000)
    monkeypatch.setattr(merge, "CHUNK_BYTES", 200_000)
    monkeypatch.setattr(base, "CHUNK_BYTES", 200_000)
    monkeypatch.setattr(base, "ROWS_AT_ONCE", 100)
    blocks = make_blocks(n_cells, 8)
    convert = np.asarray if kind == "dense" else sparse.csr_matrix
    store = PartStore.open(out, {})
    for number, rows in enumerate(blocks):
        store.write_part(number, {"values": np.ones((len(rows), n_genes), dtype=np.float32)})
    matrix = da.ones((n_cells, n_genes), chunks=(50, -1), dtype=np.float32).map_blocks(convert)
    tracemalloc.start()
    store.finish(make_object(matrix, n_cells, n_genes), blocks, {"values": "sct"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_cells * n_genes * 4 / 2


@pytest.mark.parametrize("order", ["random", "consecutive"])
def test_parts_are_deleted_as_they_are_used_up(out, order):
    store, used = full_store(out, order=order), []

    def size(_):
        used.append(sum(path.stat().st_size for path in store.partial.glob("part-*/values*")))

    size(0)
    store.finish(make_object(), make_blocks(order=order), LAYERS, size)
    assert used == sorted(used, reverse=True)
    assert used[len(used) // 2] < 0.75 * used[0]
    assert used[-1] == 0


@pytest.mark.parametrize(
    ("call", "kind", "after"),
    [
        (1, "_DenseLayer", True),
        (1, "_SparseLayer", False),
        (6, "_DenseLayer", False),
        (6, "_SparseLayer", True),
        (11, "_DenseLayer", True),
        (11, "_SparseLayer", False),
    ],
)
def test_a_merge_goes_on_where_it_was_interrupted(out, monkeypatch, call, kind, after):
    full_store(out)
    original, calls = getattr(merge, kind).write, []

    def interrupted(self, start, stop):
        calls.append(start)
        if after:
            original(self, start, stop)
        if len(calls) == call:
            raise KeyboardInterrupt
        if not after:
            original(self, start, stop)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(getattr(merge, kind), "write", interrupted)
        PartStore.open(out, FINGERPRINT).finish(make_object(), make_blocks(), {"values": "sct", "some": "sct_some"})
    assert not out.exists()
    store, done = PartStore.open(out, FINGERPRINT), []
    assert all(store.has_part(number) for number in range(N_BLOCKS))
    assert store.read_part(3, ["moments"])["moments"].tolist() == [3, 3, 3]
    # What the interrupted window may have left half-written is written again.
    store.finish(make_object(), make_blocks(), {"values": "sct", "some": "sct_some"}, done.append)
    assert sum(done) == N_CELLS
    if call > 3:
        assert done[0] > 6
    found = ad.read_zarr(out)
    same_matrix(found.layers["sct"], make_arrays()["values"])
    same_matrix(found.layers["sct_some"], make_arrays()["some"])


def test_chunks_that_are_incomplete_at_a_kill_are_written_anew(out, monkeypatch):
    """The last chunks of the interrupted window are overwritten with nonsense, as if cut off."""
    original = merge._SparseLayer.write

    def broken(self, start, stop):
        if start < 30:
            return original(self, start, stop)
        for array in self._arrays.values():
            first = self._written // 16 * 16
            array[first : first + 16] = 77
        raise KeyboardInterrupt

    full_store(out)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(merge._SparseLayer, "write", broken)
        PartStore.open(out, FINGERPRINT).finish(make_object(), make_blocks(), LAYERS)
    PartStore.open(out, FINGERPRINT).finish(make_object(), make_blocks(), LAYERS)
    check_result(out)


@pytest.mark.parametrize("where", ["write_base", "Merge.create", "shutil.rmtree", "_check_absent"])
def test_an_interrupt_before_and_after_the_merge(out, monkeypatch, where):
    store = full_store(out)

    def interrupted(*args, **kwargs):
        if where == "_check_absent" and not (store.partial / "merged.json").exists():
            return
        if where == "write_base":
            (store.partial / "result.zarr").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if where == "shutil.rmtree":
            patched.setattr(folder, "shutil", SimpleNamespace(rmtree=interrupted))  # zarr uses the real one
        else:
            patched.setattr(f"scanpy_sct.store.folder.{where}", interrupted)
        store.finish(make_object(), make_blocks(), LAYERS)
    if where == "shutil.rmtree":  # the result is in its place, a used folder is left
        check_result(out)
        with pytest.raises(ValueError, match="already exists"):
            PartStore.open(out, FINGERPRINT)
        shutil.rmtree(out)
        assert not PartStore.open(out, FINGERPRINT).has_part(0)
        return
    assert not out.exists()
    PartStore.open(out, FINGERPRINT).finish(make_object(), make_blocks(), LAYERS)
    check_result(out)


def run_python(code: str, *arguments: object) -> subprocess.Popen:
    imports = "import os, sys, signal, time, numpy as np\nfrom pathlib import Path\n"
    imports += "from scanpy_sct.store import PartStore\n"
    return subprocess.Popen([sys.executable, "-c", imports + code, *map(str, arguments)])


KILLED_WRITER = """
store, save, calls = PartStore.open(sys.argv[1], {"a": 1}), np.save, []
def killed(*args):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*args)
store.write_part(0, {"values": np.ones((50, 7))})
np.save, calls = killed, []
store.write_part(1, {name: np.ones((50, 7)) for name in "abcd"})
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_kill_leaves_whole_parts_only(out):
    assert run_python(KILLED_WRITER, out).wait(60) == -signal.SIGKILL
    store = PartStore.open(out, {"a": 1})
    assert [store.has_part(number) for number in range(2)] == [True, False]
    assert len(list(store.partial.glob(".part-000001.*"))) == 1
    store.write_part(1, {"values": np.zeros((11, 7))})
    blocks, leftovers = [np.arange(50), np.arange(50, N_CELLS)], []
    store.finish(make_object(), blocks, {"values": "sct"}, lambda _: leftovers.extend(store.partial.glob(".part-*")))
    assert leftovers == []
    assert ad.read_zarr(out).layers["sct"].sum() == 50 * 7


WRITER = """
store, barrier = PartStore.open(sys.argv[1], {"a": 1}), Path(sys.argv[3])
barrier.mkdir(exist_ok=True)
(barrier / sys.argv[2]).touch()
for _ in range(1000):
    if len(list(barrier.iterdir())) < 2:
        time.sleep(0.02)
for number in range(20):
    store.write_part(number if number < 5 else number * 2 + int(sys.argv[2]), {"values": np.full((40, 7), number)})
"""


def test_processes_write_at_the_same_time(out, tmp_path):
    writers = [run_python(WRITER, out, number, tmp_path / "barrier") for number in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = PartStore.open(out, {"a": 1})
    numbers = [*range(5), *range(10, 40)]
    assert [number for number in range(50) if store.has_part(number)] == numbers
    assert list(store.partial.glob(".part-*")) == []
    for number in numbers:
        found = store.read_part(number)["values"]
        assert found.shape == (40, 7)
        assert np.all(found == (number if number < 5 else number // 2))


def test_a_part_that_exists_is_kept(out):
    store = PartStore.open(out, {})
    store.write_part(0, {"values": np.ones((2, 2))})
    pickle.loads(pickle.dumps(store)).write_part(0, {"values": np.zeros((2, 2))})
    assert store.read_part(0)["values"].sum() == 4
    assert sorted(path.name for path in store.partial.iterdir()) == ["part-000000", "plan.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_part_that_fails_leaves_nothing(out, monkeypatch, error):
    store, save = PartStore.open(out, {}), np.save
    store.write_part(0, {"values": np.ones((9, 9))})

    def full(path, array):
        if "bins" in path.name:
            raise error
        save(path, array)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(type(error)):
        store.write_part(1, {"values": np.ones((9, 9)), "bins": np.ones((9, 9))})
    assert store.has_part(0)
    assert not store.has_part(1)
    assert sorted(path.name for path in store.partial.iterdir()) == ["part-000000", "plan.json"]


def test_a_result_in_the_place_of_the_output_is_never_touched(out):
    store = full_store(out)
    out.mkdir()
    with pytest.raises(ValueError, match=r"cells\.zarr' already exists; delete it, or choose another path"):
        PartStore.open(out, FINGERPRINT)
    with pytest.raises(ValueError, match="already exists"):
        store.finish(make_object(), make_blocks(), LAYERS)
    assert list(out.iterdir()) == []
    out.rmdir()
    PartStore.open(out, FINGERPRINT).finish(make_object(), make_blocks(), LAYERS)
    check_result(out)


def test_another_call_is_told_what_differs(out):
    full_store(out)
    other = {"model": "huge", "options": {"bags": "random", "rng": 1}, "cells": 3}
    with pytest.raises(ValueError, match="another call") as error:
        PartStore.open(out, other)
    for part in (
        'model: "tiny" there, "huge" now',
        "options.rng: 0 there, 1 now",
        "cells: null there, 3 now",
        "cells.zarr.partial",
        "delete",
    ):
        assert part in str(error.value)
    assert "bags" not in str(error.value)
    assert PartStore.open(out, FINGERPRINT).has_part(N_BLOCKS - 1)


def test_many_and_long_differences_are_shortened(out):
    PartStore.open(out, {f"option {number}": "x" * 200 for number in range(50)})
    with pytest.raises(ValueError, match="and 40 more") as error:
        PartStore.open(out, {})
    assert len(str(error.value)) < 1500


def test_a_fingerprint_is_compared_as_stored(out):
    PartStore.open(out, {"genes": ("A", "B"), "scale": 0.1})
    PartStore.open(out, {"genes": ["A", "B"], "scale": 0.1})


def test_folders_of_others_are_refused_and_empty_ones_taken(out):
    partial = out.with_name("cells.zarr.partial")
    partial.mkdir()
    (partial / ".plan.json.new").touch()  # killed in its first moment
    PartStore.open(out, {})
    (partial / "plan.json").rename(partial / "thesis.txt")
    with pytest.raises(ValueError, match="is no partial result"):
        PartStore.open(out, {})
    assert (partial / "thesis.txt").exists()
    shutil.rmtree(partial)
    partial.touch()
    with pytest.raises(ValueError, match="is no partial result"):
        PartStore.open(out, {})


@pytest.mark.parametrize(
    ("path", "message"),
    [("cells.h5ad", r"must end with '\.zarr'; use out='cells\.zarr'"), ("s3://bucket/cells.zarr", "is an address")],
)
def test_paths_that_cannot_be(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        PartStore.open(path, {})
    assert list(tmp_path.iterdir()) == []


def test_paths_of_all_kinds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/cells.zarr", Path("~/cells.zarr"), "cells.zarr", str(tmp_path / "cells.zarr")):
        assert PartStore.open(path, {}) == PartStore(tmp_path / "cells.zarr")


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="cannot be written"):
        PartStore.open(tmp_path / "nowhere" / "cells.zarr", {})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        PartStore.open(tmp_path / "file" / "cells.zarr", {})

    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(PermissionError, match="make its folder writable, or choose another"):
        PartStore.open(tmp_path / "cells.zarr", {})


def test_a_disk_without_enough_space(out, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    monkeypatch.setattr(parts, "SEGMENT_BYTES", 2**30)
    PartStore.open(out, {}, n_bytes=900_000)
    with pytest.raises(OSError, match=r"needs about 2\.0 GB, of which 0\.0 GB are there; the disk has 0\.0") as error:
        PartStore.open(out, {}, n_bytes=2 * 10**9)
    assert error.value.errno == errno.ENOSPC
    PartStore.open(out, {}).write_part(0, {"values": np.zeros(10**6, dtype=np.uint8)})
    PartStore.open(out, {}, n_bytes=1_900_000)  # what is there already needs no more


def wrong(case: str):
    arrays, blocks = make_arrays(), make_blocks()
    if case == "repeated":
        blocks[0] = blocks[1]
    elif case == "missing":
        blocks = blocks[:3]
    elif case == "unsorted":
        blocks[2] = blocks[2][::-1]
    elif case == "columns":
        arrays["values"] = arrays["values"][:, 1:]
    return arrays, blocks


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("repeated", "each of 61 rows once"),
        ("missing", "each of 61 rows once"),
        ("unsorted", "block 2 must increase"),
        ("columns", r"'values' of part 0 has shape \(16, 6\), expected \(16, 7\)"),
        ("mixed", "sparse in all parts or in none; part 1"),
        ("no part", r"lacks the parts \[3\]"),
    ],
)
def test_parts_that_do_not_fit_are_found_before_the_merge(out, case, message):
    arrays, blocks = wrong(case)
    store = PartStore.open(out, {})
    for number, rows in enumerate(blocks):
        part = arrays["values"][rows]
        if case == "mixed" and number == 1:
            part = sparse.csr_matrix(part)
        if not (case == "no part" and number == 3):
            store.write_part(number, {"values": part})
    with pytest.raises(ValueError, match=message):
        store.finish(make_object(), blocks, {"values": "sct"})
    assert not (store.partial / "result.zarr").exists()
    assert store.has_part(0)


def test_nothing_else_is_touched(tmp_path):
    others = ["cells.zarr.partial2", "cells", "other.zarr", "cells.zarr.h5ad"]
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    full_store(tmp_path / "cells.zarr").finish(make_object(), make_blocks(), LAYERS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "cells.zarr"])
    assert [(tmp_path / name / "file").read_text() for name in others] == others


def test_a_folder_that_cannot_be_deleted_is_a_warning(out, monkeypatch, caplog):
    store = full_store(out)
    monkeypatch.setattr(folder, "shutil", SimpleNamespace(rmtree=lambda *args, **kwargs: None))
    store.finish(make_object(), make_blocks(), LAYERS)
    check_result(out)
    assert "could not be deleted" in caplog.text
