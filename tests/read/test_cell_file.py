"""Files that are no h5ad or zarr file of cells are named, with what they are instead."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse

from scanpy_sct.read.cell_file import check_cell_file, in_store
from scanpy_sct.read.whole import opened


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Path of a file without extension; `.h5ad` and `.zarr` exist."""
    path = tmp_path_factory.mktemp("cells") / "good"
    matrix = sparse.random(300, 40, 0.5, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    adata = ad.AnnData(matrix)
    adata.write_h5ad(path.with_suffix(".h5ad"))
    adata.write_zarr(path.with_suffix(".zarr"))
    return path


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_good_files(good, suffix):
    check_cell_file(good.with_suffix(suffix))
    with opened(good.with_suffix(suffix)) as adata:
        assert adata.shape == (300, 40)


def empty(good, folder):
    (folder / "x.h5ad").touch()


def zeros(good, folder):
    (folder / "x.h5ad").write_bytes(bytes(100))


def truncated(good, folder):
    (folder / "x.h5ad").write_bytes(good.with_suffix(".h5ad").read_bytes()[:20_000])


def table(good, folder):
    (folder / "x.h5ad").write_text("gene,count\nCD3E,1\n")


def web_page(good, folder):
    (folder / "x.h5ad").write_text("<!DOCTYPE html><html>404</html>")


def compressed(good, folder):
    with gzip.open(folder / "x.h5ad", "wb") as file:
        file.write(good.with_suffix(".h5ad").read_bytes())


def renamed_zarr(good, folder):
    shutil.copytree(good.with_suffix(".zarr"), folder / "x.h5ad")


def renamed_h5ad(good, folder):
    shutil.copy(good.with_suffix(".h5ad"), folder / "x.zarr")


def a_folder(good, folder):
    (folder / "x.h5ad").mkdir()


def another_folder(good, folder):
    (folder / "x.zarr").mkdir()


def genomics_10x(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        file["matrix/barcodes"] = [b"AAAC"]


def loom(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        file["matrix"] = np.ones((3, 2))
        file.create_group("row_attrs")
        file.create_group("col_attrs")


def mudata(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        for name in ("mod/prot", "mod/rna", "obs", "var"):
            file.create_group(name)


def mudata_without_rna(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        for name in ("mod/prot", "mod/atac"):
            file.create_group(name)


def mudata_file(good, folder):
    mudata(good, folder)
    (folder / "x.h5ad").rename(folder / "x.h5mu")


def mudata_store(good, folder):
    zarr.open_group(folder / "x.zarr", mode="w").create_group("mod/rna")


def spatialdata(good, folder):
    for name in ("nuclei", "cells"):
        zarr.open_group(folder / "x.zarr", mode="a").create_group(f"tables/{name}")


def spatialdata_without_tables(good, folder):
    zarr.open_group(folder / "x.zarr", mode="w").create_group("tables")


def something_else(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        file["weights"] = np.ones(3)


def ten_other_things(good, folder):
    with h5py.File(folder / "x.h5ad", "w") as file:
        for name in "jihgfedcba":
            file[name] = np.ones(3)


def without_obs(good, folder):
    shutil.copytree(good.with_suffix(".zarr"), folder / "x.zarr")
    shutil.rmtree(folder / "x.zarr" / "obs")
    (folder / "x.zarr" / ".zmetadata").unlink(missing_ok=True)


def without_a_chunk(good, folder):
    shutil.copytree(good.with_suffix(".zarr"), folder / "x.zarr")
    # In version 3 of zarr, chunks are in a folder of their own.
    (chunk,) = (path for path in (folder / "x.zarr" / "X" / "data").rglob("0") if path.is_file())
    chunk.unlink()


def without_a_shard(good, folder):
    store = zarr.open_group(folder / "x.zarr", mode="w")
    ad.io.write_elem(store, "/", ad.read_h5ad(good.with_suffix(".h5ad")))
    values = store["X/data"][:]
    data = store.create_array(
        "X/data", shape=values.shape, dtype=values.dtype, shards=(6,), chunks=(2,), overwrite=True
    )
    data[:] = values
    (folder / "x.zarr" / "X" / "data" / "c" / "1").unlink()


CASES = {
    empty: "is empty",
    zeros: "is not an h5ad file but empty",
    truncated: r"is damaged or incomplete; copy or download it again \(.*truncated",
    table: "is not an h5ad file but another kind of file",
    web_page: "a web page, so the download failed",
    compressed: "compressed with gzip; unpack it",
    renamed_zarr: r"but a zarr store; rename it to end with \.zarr",
    renamed_h5ad: r"but an HDF5 file; rename it to end with \.h5ad",
    a_folder: "is not an h5ad file but a folder",
    another_folder: "is not a zarr store, or an incomplete one",
    genomics_10x: "a matrix of 10x Genomics; read it with scanpy.read_10x_h5",
    loom: "a loom file",
    mudata: r"a MuData; write one of its modalities \('prot', 'rna'\).*\.mod\['rna'\]\.write_h5ad\('rna\.h5ad'\)\.$",
    mudata_without_rna: r"\('atac', 'prot'\).*\.mod\['atac'\]\.write_h5ad\('atac\.h5ad'\)\.$",
    mudata_file: r"read_h5mu\('.*x\.h5mu'\)\.mod\['rna'\]",
    mudata_store: r"a MuData; give the path of one of its modalities: .*x\.zarr/mod/rna\.$",
    spatialdata: r"give the path of one of its tables: .*x\.zarr/tables/cells or .*x\.zarr/tables/nuclei\.$",
    spatialdata_without_tables: "a SpatialData; it has no tables",
    something_else: "lacks obs and var; found weights",
    ten_other_things: r"lacks obs and var; found a, b, c, d, e, f, g, h\. Write it again",
    without_obs: "lacks obs; found",
    without_a_chunk: "is incomplete: chunks of X are missing",
    without_a_shard: "is incomplete: chunks of X are missing",
}


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_other_files_are_named(good, tmp_path, case):
    case(good, tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=rf"{path.name}.*{CASES[case]}"):
        check_cell_file(path)
    with pytest.raises(ValueError, match=path.name), opened(path):
        pass


@pytest.mark.parametrize(
    ("path", "is_inside"),
    [("x.zarr", True), ("x.zarr/tables/cells", True), ("x.zarr/y.h5ad", False), ("y.h5mu", False), ("y.csv", False)],
)
def test_paths_into_a_store(path, is_inside):
    assert in_store(Path(path)) == is_inside


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.h5ad does not exist; check the path"):
        check_cell_file(tmp_path / "x.h5ad")


def test_damage_inside_a_file_is_named(good, tmp_path):
    path = tmp_path / "x.h5ad"
    shutil.copy(good.with_suffix(".h5ad"), path)
    with h5py.File(path, "r+") as file:
        del file["obs"].attrs["_index"]
    with pytest.raises(ValueError, match=r"x\.h5ad cannot be read and seems damaged"), opened(path):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is permitted")
def test_a_file_without_permission(good, tmp_path):
    path = tmp_path / "x.h5ad"
    shutil.copy(good.with_suffix(".h5ad"), path)
    path.chmod(0)
    with pytest.raises(PermissionError):
        check_cell_file(path)
