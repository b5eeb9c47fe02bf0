"""What a file cannot hold is found before it is written, with a remedy that works."""

from __future__ import annotations

import errno
import os

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.whole import storable_copy
from scanpy_sct.store import check, check_storable
from versions import NAMES_OF_ANNDATA_12

SUFFIXES = (".h5ad", ".zarr")


def make_cells() -> ad.AnnData:
    obs = pd.DataFrame({"n": range(6), "kind": list("aabbcc")}, index=[f"cell{number}" for number in range(6)])
    matrix = sparse.random(6, 4, 0.5, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list("ABCD")))


def problems(adata, suffix, folder, **options) -> list[str]:
    try:
        check_storable(storable_copy(adata), suffix, folder, "cells", **options)
    except ValueError as error:
        first, *lines = str(error).splitlines()
        assert first == "cells cannot be written with this object:"
        return lines
    finally:
        assert list(folder.iterdir()) == []
    return []


def assert_remedies_work(found, adata, suffix, folder) -> None:
    for line in found:
        exec(line.split("fix it with  ")[1], {"adata": adata, "np": np})
    assert problems(adata, suffix, folder) == []


def everything_that_files_hold() -> ad.AnnData:
    adata = make_cells()
    columns = {
        "string": ["a", None, "b", "a", "b", "a"],
        "category": pd.Categorical([1, 2, 1, 2, 1, 2]),
        "integer": pd.array([1, None, 2, 3, 4, 5], dtype="Int64"),
        "boolean": pd.array([True, None, True, True, False, True], dtype="boolean"),
        "missing": [np.nan] * 6,
        "half": np.arange(6, dtype=np.float16),
    }
    for name, values in columns.items():
        adata.obs[name] = values
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.layers["dense"] = adata.X.toarray()
    adata.obsm["table"] = pd.DataFrame({"x": range(6), "y": list("abcdef")}, index=adata.obs_names)
    adata.obsm["X_pca"] = np.ones((6, 2))
    adata.obsp["distances"] = sparse.eye(6, format="csr")
    adata.varm["PCs"] = np.ones((4, 2))
    adata.uns |= {"list": ["a", "b"], "none": None, "nested": {"n": 1, "x": {"y": 1.0}}, "colors": np.array(["r", "g"])}
    adata.uns["groups"] = np.array([("a", 1.0)], dtype=[("name", "O"), ("score", "f4")])
    return adata


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_files_hold_is_not_refused_and_not_changed(tmp_path, suffix):
    adata = everything_that_files_hold()
    before = adata.copy()
    assert problems(adata, suffix, tmp_path, added={"layers": "sct", "uns": "sct"}) == []
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def columns_that_files_do_not_hold() -> ad.AnnData:
    adata = make_cells()
    columns = {
        "mixed": [1, "a", 2.0, None, "b", 3],
        "numbers": np.array([1, 2.5, 3, 4, 5, 6], dtype=object),
        "answers": [True, None, False, True, True, None],
        "lists": [[1]] * 6,
        "dicts": [{}] * 6,
        "sets": [{1}] * 6,
        "categories": pd.Categorical([1, "a"] * 3),
        "intervals": pd.cut(range(6), 3),
        "dates": pd.date_range("2020", periods=6, tz="UTC"),
        "durations": pd.to_timedelta(range(6), "s"),
        "floats": pd.array([1.0, None, 2, 3, 4, 5], dtype="Float64"),
        "few": pd.arrays.SparseArray([0, 0, 1, 0, 0, 0]),
        "_index": 1,
        5: 1,
    }
    for name, values in columns.items():
        adata.obs[name] = values
    return adata


def test_all_columns_that_cannot_be_stored_are_named_and_can_be_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "MAX_PROBLEMS", 99)
    adata = columns_that_files_do_not_hold()
    found = problems(adata, ".h5ad", tmp_path)
    assert sorted(line.split(": ")[0] for line in found) == sorted(
        f"adata.obs[{name!r}]" for name in adata.obs.columns[2:]
    )
    assert_remedies_work(found, adata, ".h5ad", tmp_path)
    assert adata.obs["numbers"].tolist() == [1, 2.5, 3, 4, 5, 6]
    assert adata.obs["answers"].isna().tolist() == [False, True, False, False, False, True]


def test_values_that_zarr_would_turn_into_strings_are_refused(tmp_path):
    adata = columns_that_files_do_not_hold()
    adata.obs = adata.obs[["mixed", "lists", "categories", "intervals"]].copy()
    found = [line.split(": ")[0] for line in problems(adata, ".zarr", tmp_path)]
    assert found == [f"adata.obs[{name!r}]" for name in adata.obs]


def raw_of_seurat(adata):
    adata.raw = adata.copy()
    adata.raw.var["_index"] = list("ABCD")


def names_in_index(adata):
    adata.obs.index.name = "n"


def missing_names(adata):
    adata.obs.index = pd.Index(["a", None, "c", "d", "e", "f"])


def same_columns(adata):
    adata.obsm["table"] = pd.DataFrame(np.ones((6, 2)), adata.obs_names, ["a", "a"])


def missing_in_table(adata):
    adata.obsm["table"] = pd.DataFrame({"a": ["x", None] * 3}, index=adata.obs_names)


OTHERS = {
    "adata.raw.var['_index']: the name is reserved": raw_of_seurat,
    "adata.obs.index: its name, 'n'": names_in_index,
    "adata.obs.index: it has missing values": missing_names,
    "adata.obsm['table']: several columns have the same name ('a')": same_columns,
    "adata.obsm['table']['a']: it has missing values": missing_in_table,
    "adata.uns['f']": lambda adata: adata.uns.update(f=print),
    "adata.uns['t']": lambda adata: adata.uns.update(t=(1, 2)),
    "adata.uns['s']": lambda adata: adata.uns.update(s=pd.Series([1])),
    "adata.uns['u'][None]: the name is not a string": lambda adata: adata.uns.update(u={None: 1}),
    "adata.uns['u']['v'][(1, 2)]": lambda adata: adata.uns.update(u={"v": {(1, 2): 1}}),
    "adata.uns['d']['x']: it has": lambda adata: adata.uns.update(d=pd.DataFrame({"x": [1, "a"]})),
    "adata.layers['a/b']: the name contains '/'": lambda adata: adata.layers.update({"a/b": adata.X}),
}


@pytest.mark.parametrize("named", OTHERS)
def test_other_places_are_named_too(tmp_path, named):
    adata = make_cells()
    OTHERS[named](adata)
    found = problems(adata, ".h5ad", tmp_path)
    assert len(found) == 1
    assert found[0].startswith(named)
    assert_remedies_work(found, adata, ".h5ad", tmp_path)


@NAMES_OF_ANNDATA_12
def test_names_that_zarr_does_not_hold(tmp_path):
    adata = make_cells()
    adata.obs["G1/S"] = 1.0
    adata.varm["table"] = pd.DataFrame({"x/y": range(4)}, index=adata.var_names)
    assert problems(adata, ".h5ad", tmp_path) == []
    found = problems(adata, ".zarr", tmp_path)
    assert [line.split(";")[0] for line in found] == [
        "adata.obs['G1/S']: the name contains '/'",
        "adata.varm['table']['x/y']: the name contains '/'",
    ]
    assert_remedies_work(found, adata, ".zarr", tmp_path)


@NAMES_OF_ANNDATA_12
def test_names_that_differ_only_in_case_are_unreadable_in_zarr(tmp_path):
    adata = make_cells()
    adata.obs["Kind"] = list("xxyyzz")
    adata.layers["Counts"] = adata.layers["counts"] = adata.X
    assert problems(adata, ".h5ad", tmp_path) == []
    found = problems(adata, ".zarr", tmp_path)
    assert [line.split(":")[0] for line in found] == ["adata.obs['Kind']", "adata.layers['counts']"]
    assert_remedies_work(found, adata, ".zarr", tmp_path)
    adata.layers["SCT"] = adata.X  # of Seurat
    (found,) = problems(adata, ".zarr", tmp_path, added={"layers": "sct"})
    assert found.endswith("key_added='sct_2'")


def test_names_that_are_too_long_for_a_disk(tmp_path):
    adata = make_cells()
    adata.obs["é" * 200], adata.uns["b" * 300] = 1.0, 1
    assert problems(adata, ".h5ad", tmp_path) == []
    found = problems(adata, ".zarr", tmp_path)
    assert [line.split(";")[0][-31:] for line in found] == ["the name is too long for a file"] * 2
    assert_remedies_work(found, adata, ".zarr", tmp_path)


def test_many_problems_are_shortened(tmp_path):
    found = problems(columns_that_files_do_not_hold(), ".h5ad", tmp_path)
    assert len(found) == check.MAX_PROBLEMS + 1
    assert found[-1] == "and 9 more"


def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_object(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with pytest.raises(OSError, match="No space left"):
        check_storable(make_cells(), ".h5ad", tmp_path, "cells")
