from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import scanpy_sct as sct

METHODS = {
    "check": sct.pp.check,
    "impute": sct.tl.impute,
    "embed": sct.tl.embed,
    "annotate": sct.tl.annotate,
    "imputed": sct.get.imputed,
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_the_functions_with_the_object_as_first_argument(pbmc, name):
    method = getattr(pbmc.sct, name)
    assert method.__func__ is METHODS[name]
    assert method.__self__ is pbmc
    assert "adata" not in inspect.signature(method).parameters
    assert getattr(type(pbmc.sct), name) is METHODS[name]


def test_a_result_is_written_to_the_object(pbmc):
    adata, other = pbmc[:60].copy(), pbmc[:60].copy()
    adata.sct.embed()
    sct.tl.embed(other)
    assert (adata.obsm["X_sct"] == other.obsm["X_sct"]).all()


@pytest.mark.parametrize(
    "code",
    [
        "import anndata, scanpy_sct",
        "import scanpy_sct; scanpy_sct.datasets",
        "import scanpy_sct, anndata; scanpy_sct.settings; scanpy_sct.get",
    ],
)
def test_it_is_there_once_anndata_is_imported(code):
    code += "; from anndata import AnnData; assert hasattr(AnnData, 'sct')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_accessor_of_another_package_stays():
    code = "from anndata import AnnData; AnnData.sct = 1; import scanpy_sct; assert AnnData.sct == 1"
    subprocess.run([sys.executable, "-c", code], check=True)
