from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.write import write_imputation

GENES = ["CD3E", "MS4A1", "LYZ", "not a gene"]


@pytest.fixture
def imputed():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"region": list("aabbc")}, index=[f"cell{number}" for number in range(5)])
    adata = AnnData(sparse.csr_matrix(rng.poisson(1.0, (5, 4)).astype("float32")), obs=obs)
    adata.var_names = GENES
    adata.obsm["spatial"] = rng.random((5, 2))
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix(rng.random((5, 5)))
    adata.uns["spatial"] = {"section": {"images": {"hires": rng.random((3, 3, 3))}}}
    write_imputation(
        adata,
        "sct",
        layer=rng.random((5, 4)).astype("float32"),
        imputed=np.array([True, True, True, False]),
        recovery=np.array([0.5, 0.2, np.nan, np.nan]),
        unmeasured=pd.DataFrame(rng.random((5, 2)), index=obs.index, columns=["CD14", "A/B"]),
        params={"gene_names": None},
    )
    return adata


def test_measured_and_unmeasured_genes_in_the_requested_order(imputed):
    result = sct.get.imputed(imputed, ["CD14", "LYZ", "A/B", "CD3E", "LYZ"])
    assert list(result.var_names) == ["CD14", "LYZ", "A/B", "CD3E"]
    table = imputed.obsm["sct_unmeasured"]
    expected = [table["CD14"], imputed.layers["sct"][:, 2], table["A|B"], imputed.layers["sct"][:, 0]]
    np.testing.assert_array_equal(result.X, np.stack(expected, axis=1))
    assert result.X.dtype == np.float32
    assert result.var["measured"].tolist() == [False, True, False, True]
    np.testing.assert_array_equal(result.var["recovery"], [np.nan, np.nan, np.nan, 0.5])


def test_everything_about_cells_comes_along_as_a_copy(imputed):
    result = sct.get.imputed(imputed, "CD3E")
    assert result.obs.equals(imputed.obs)
    np.testing.assert_array_equal(result.obsm["spatial"], imputed.obsm["spatial"])
    assert "spatial_connectivities" in result.obsp
    assert "sct_unmeasured" not in result.obsm
    result.uns["spatial"]["section"]["images"]["hires"][:] = -1
    result.obsm["spatial"][:] = -1
    result.X[:] = -1
    assert imputed.uns["spatial"]["section"]["images"]["hires"].min() >= 0
    assert imputed.obsm["spatial"].min() >= 0
    assert imputed.layers["sct"].min() >= 0


def test_other_names_of_the_same_gene(imputed):
    result = sct.get.imputed(imputed, ["ENSG00000156738", "ENSG00000170458"])
    np.testing.assert_array_equal(result.X[:, 0], imputed.layers["sct"][:, 1])
    np.testing.assert_array_equal(result.X[:, 1], imputed.obsm["sct_unmeasured"]["CD14"])
    imputed.var["symbol"] = imputed.var_names
    imputed.var_names = list("wxyz")
    imputed.uns["sct"]["params"]["gene_names"] = "symbol"
    np.testing.assert_array_equal(sct.get.imputed(imputed, "LYZ").X.ravel(), imputed.layers["sct"][:, 2])


def test_a_duplicate_name_is_the_imputed_column(imputed):
    imputed.var_names = ["CD3E", "MS4A1", "LYZ", "LYZ"]
    np.testing.assert_array_equal(sct.get.imputed(imputed, "LYZ").X.ravel(), imputed.layers["sct"][:, 2])


@pytest.mark.parametrize("change", ["view", "sparse", "no unmeasured", "file"])
def test_any_kind_of_object(imputed, change, tmp_path):
    expected = imputed.layers["sct"][:, 1].copy()
    match change:
        case "view":
            imputed, expected = imputed[::2], expected[::2]
        case "sparse":
            imputed.layers["sct"] = sparse.csr_matrix(imputed.layers["sct"])
        case "no unmeasured":
            del imputed.obsm["sct_unmeasured"]
        case "file":
            import anndata as ad

            del imputed.uns["spatial"]
            imputed.write_h5ad(tmp_path / "a.h5ad")
            imputed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(sct.get.imputed(imputed, "MS4A1").X.ravel(), expected)


def test_errors_say_how_to_fix_them(imputed):
    with pytest.raises(KeyError, match=r"key='other'.*available: 'sct'.*sct.tl.impute"):
        sct.get.imputed(imputed, "CD3E", key="other")
    with pytest.raises(KeyError, match=r"does not know \['nonsense'\].*genes=\['CD3E', 'FOXP3'\], key_added='sct_2'"):
        sct.get.imputed(imputed, ["CD3E", "FOXP3", "nonsense"])
    with pytest.raises(KeyError, match=r"measured values of \['not a gene'\] are in adata") as error:
        sct.get.imputed(imputed, "not a gene")
    assert "tl.impute" not in str(error.value)


def advised(error) -> str:
    return re.search(r"sct\.tl\.impute\(.*?\)(?= and| first)", error.value.args[0])[0]


@pytest.mark.parametrize("case", ["plain", "other names", "other result", "no result", "a layer of that name"])
def test_the_advised_call_works(pbmc, compact_checkpoint, monkeypatch, case):
    monkeypatch.setattr("scanpy_sct.get.advice.known_genes", lambda _: frozenset(compact_checkpoint.genes))
    monkeypatch.setattr("scanpy_sct.get.advice.DEFAULT_MODEL", "tiny")
    adata = pbmc[:30].copy()
    options, key = {}, "sct"
    if case == "other names":
        adata.var["symbol"], options = adata.var_names, {"gene_names": "symbol", "calibrate": False}
        adata.var_names = [f"column {number}" for number in range(adata.n_vars)]
    if case == "other result":
        options = {"key_added": (key := "mine")}
    if case == "a layer of that name":
        adata.layers[key := "counts"] = adata.X
    if "that" not in case and "no" not in case.split():
        sct.tl.impute(adata, ["LYZ", "CD79B"], model=compact_checkpoint, **options)
    with pytest.raises(KeyError) as error:
        sct.get.imputed(adata, ["LYZ", "MS4A1"], key=key)
    call = advised(error)
    made = (re.search(r"key_added='(\w+)'", call) or ["", "sct"])[1]
    call = call.replace("(adata", "(adata, model=model")
    exec(call, {"sct": sct, "adata": adata, "model": compact_checkpoint})
    assert sct.get.imputed(adata, ["LYZ", "MS4A1"], key=made).n_vars == 2


def test_after_a_real_imputation(pbmc, tiny_checkpoint):
    adata = pbmc[:20].copy()
    unmeasured = "CD79B"
    adata = adata[:, adata.var_names != unmeasured].copy()
    sct.tl.impute(adata, [unmeasured, "LYZ"], model=tiny_checkpoint)
    result = sct.get.imputed(adata, ["LYZ", unmeasured])
    assert result.var["measured"].tolist() == [True, False]
    assert np.isfinite(result.X).all()
    with pytest.raises(KeyError, match="MS4A1"):
        sct.get.imputed(adata, "MS4A1")


@pytest.mark.parametrize("hide", ["held_out", "a matrix"])
def test_the_advised_call_keeps_scale_values_and_hidden_entries(pbmc, tiny_checkpoint, hide):
    adata = pbmc[:20].copy()
    adata.layers["held_out"] = np.zeros(adata.shape, dtype=bool)
    given = hide if hide in adata.layers else adata.layers["held_out"]
    options = {"scale": "log1p", "values": "lognorm", "hide": given}
    sct.tl.impute(adata, ["LYZ"], model=tiny_checkpoint, **options)
    with pytest.raises(KeyError, match="MS4A1") as error:
        sct.get.imputed(adata, ["LYZ", "MS4A1"])
    written = "hide='held_out'" if hide in adata.layers else "hide=hide"
    assert f"scale='log1p', values='lognorm', {written}, model=model" in advised(error)
