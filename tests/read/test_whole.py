from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.whole import opened, shallow_copy, storable_copy


@pytest.fixture
def adata():
    """Five cells x three genes with something in every part of an object."""
    matrix = sparse.csr_matrix(np.arange(15, dtype=np.float32).reshape(5, 3))
    result = ad.AnnData(matrix, layers={"double": matrix * 2})
    result.raw = ad.AnnData(matrix * 3, varm={"loadings": np.ones((3, 2))})
    result.obs["type"] = pd.Categorical(["a", "b", "a", "b", "a"])
    result.obsm["spatial"] = np.arange(10.0).reshape(5, 2)
    result.obsm["table"] = pd.DataFrame({"x": range(5)}, index=result.obs_names)
    result.varm["loadings"] = np.ones((3, 2))
    result.obsp["near"] = sparse.eye(5, format="csr")
    result.varp["like"] = sparse.eye(3, format="csr")
    result.uns["settings"] = {"list": np.arange(3)}
    return result


def values(matrix):
    loaded = matrix.compute() if hasattr(matrix, "compute") else matrix
    return loaded.toarray() if sparse.issparse(loaded) else np.asarray(loaded)


def same(found, adata):
    pd.testing.assert_frame_equal(found.obs, adata.obs)
    pd.testing.assert_frame_equal(found.var, adata.var)
    np.testing.assert_array_equal(values(found.X), values(adata.X))
    np.testing.assert_array_equal(values(found.raw.X), values(adata.raw.X))
    np.testing.assert_array_equal(found.raw.varm["loadings"], adata.raw.varm["loadings"])
    for name in ("layers", "obsp", "varp", "obsm", "varm"):
        one, other = (
            {key: of[key] for key in of if key is not None} for of in (getattr(found, name), getattr(adata, name))
        )
        assert sorted(one) == sorted(other)  # those of a zarr store come in the order of its folder
        for key in one:
            np.testing.assert_array_equal(values(one[key]), values(other[key]))
    np.testing.assert_array_equal(found.uns["settings"]["list"], np.arange(3))


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_file_is_opened_with_all_its_parts_and_lazy_matrices(adata, tmp_path, suffix):
    path = tmp_path / f"cells.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    with opened(path) as found:
        same(found, adata)
        for matrix in (found.X, found.layers["double"], found.raw.X, found.obsp["near"]):
            assert hasattr(matrix, "__dask_graph__")
        assert isinstance(found.obsm["table"], pd.DataFrame)


def test_a_file_of_names_only(tmp_path):
    ad.AnnData(obs=pd.DataFrame(index=["a", "b"])).write_h5ad(tmp_path / "cells.h5ad")
    with opened(tmp_path / "cells.h5ad") as found:
        assert found.X is None
        assert found.raw is None
        assert list(found.obs_names) == ["a", "b"]


@pytest.mark.parametrize("backed", [False, True])
def test_a_shallow_copy_has_the_same_matrices_and_tables_of_its_own(adata, tmp_path, backed):
    of = adata
    if backed:
        adata.write_h5ad(tmp_path / "cells.h5ad")
        of = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    copy = shallow_copy(of)
    same(copy, adata)
    copy.obs["new"] = copy.var["new"] = copy.obsm["table"]["new"] = 1
    copy.uns["settings"]["new"] = 1
    for name in ("obs", "var"):
        assert "new" not in getattr(of, name)
    assert "new" not in of.obsm["table"]
    assert "new" not in of.uns["settings"]
    if not backed:
        assert np.shares_memory(copy.X.data, adata.X.data)
        assert np.shares_memory(copy.layers["double"].data, adata.layers["double"].data)


def test_a_shallow_copy_without_matrix_and_raw():
    copy = shallow_copy(ad.AnnData(obs=pd.DataFrame(index=["a", "b"])))
    assert copy.X is None
    assert copy.raw is None


def test_strings_become_categories_where_they_repeat():
    adata = ad.AnnData(np.ones((4, 1), dtype=np.float32))
    adata.raw = adata
    adata.obs["type"], adata.obs["name"] = ["a", "a", "b", "b"], list("wxyz")
    copy = storable_copy(adata)
    assert isinstance(copy.obs["type"].dtype, pd.CategoricalDtype)
    assert not isinstance(copy.obs["name"].dtype, pd.CategoricalDtype)
    assert not isinstance(adata.obs["type"].dtype, pd.CategoricalDtype)
    adata.obs = pd.concat([adata.obs, adata.obs[["type"]]], axis=1)  # cannot be written, as anndata will say
    assert list(storable_copy(adata).obs.columns) == ["type", "name", "type"]
