from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.plan.passes import Passes
from scanpy_sct.read.genes import to_ensembl


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture
def adata(pbmc):
    return pbmc[:40].copy()


def snapshot(adata):
    return adata.copy()


def assert_same(one, other):
    from anndata.tests.helpers import assert_equal

    assert_equal(one, other)


def test_fields_written_and_the_rest_untouched(adata, compact_checkpoint):
    before = snapshot(adata)
    assert sct.tl.impute(adata, model=compact_checkpoint, store_bins=True) is None
    assert adata.layers["sct"].shape == adata.shape
    assert adata.layers["sct"].dtype == np.float32
    assert adata.layers["sct_bins"].dtype == np.uint8
    assert adata.layers["sct_confidence"].dtype == np.float32
    assert adata.var["sct_imputed"].sum() == 509
    assert adata.uns["sct"]["params"]["rng"] == 0
    assert adata.uns["sct"]["model"]["name"] == "tiny"
    for key in ("sct", "sct_bins", "sct_confidence"):
        del adata.layers[key]
    adata.var = adata.var.drop(columns=["sct_imputed", "sct_recovery", "sct_network_fraction", "sct_source"])
    del adata.uns["sct"]
    assert_same(adata, before)


def test_genes_outside_the_vocabulary_keep_their_values(adata, compact_checkpoint):
    sct.tl.impute(adata, model=compact_checkpoint)
    kept = ~adata.var["sct_imputed"].to_numpy()
    np.testing.assert_array_equal(adata.layers["sct"][:, kept], adata[:, kept].X.toarray())


def test_recovery_is_the_correlation_within_passes(adata, compact_checkpoint):
    sct.tl.impute(adata, model=compact_checkpoint)
    passes = Passes.for_fraction(compact_checkpoint.mask_fraction, 0).assigned(
        np.arange(40), np.arange(len(compact_checkpoint.genes))
    )
    gene_index = {gene: number for number, gene in enumerate(compact_checkpoint.genes)}
    ids = to_ensembl(adata.var_names, vocabulary=compact_checkpoint.genes).ensembl_ids
    for gene in np.flatnonzero(adata.var["sct_imputed"])[[0, 100, 300]]:
        table = pd.DataFrame(
            {"observed": adata.X[:, gene].toarray().ravel(), "predicted": adata.layers["sct"][:, gene]}
        )
        centred = table - table.groupby(passes[:, gene_index[ids[gene]]]).transform("mean")
        expected = centred.corr().iloc[0, 1]
        np.testing.assert_allclose(adata.var["sct_recovery"].iloc[gene], expected, atol=1e-4)


def test_recovery_of_noise_is_zero(compact_checkpoint):
    genes = compact_checkpoint.genes[compact_checkpoint.genes != ""]
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.tile(rng.permutation(np.geomspace(0.05, 1, len(genes))), (40, 1)))
    noise = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=genes))
    sct.tl.impute(noise, model=compact_checkpoint, bags="random")
    assert abs(noise.var["sct_recovery"].mean()) < 0.05  # -0.2 if the means of the passes are left in


def test_copy_leaves_the_object(adata, compact_checkpoint):
    before = snapshot(adata)
    changed = sct.tl.impute(adata, model=compact_checkpoint, copy=True)
    assert_same(adata, before)
    assert "sct" in changed.layers


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "view", "counts"])
def test_array_types_give_the_same_numbers(pbmc, compact_checkpoint, kind):
    adata = pbmc[:40].copy()
    expected = sct.tl.impute(adata, model=compact_checkpoint, copy=True).layers["sct"]
    if kind == "csc":
        adata.X = sparse.csc_matrix(adata.X)
    elif kind == "dense":
        adata.X = adata.X.toarray()
    elif kind == "view":
        adata = pbmc[:40]
    elif kind == "counts":
        adata.layers["given"] = adata.X
        adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)
    layer = "given" if kind == "counts" else None
    result = sct.tl.impute(adata, model=compact_checkpoint, layer=layer, copy=True)
    np.testing.assert_allclose(result.layers["sct"], expected, atol=1e-5)


def test_some_genes_only(adata, compact_checkpoint):
    whole = sct.tl.impute(adata, model=compact_checkpoint, copy=True)
    genes = list(adata.var_names[whole.var["sct_imputed"]][:3])
    sct.tl.impute(adata, genes, model=compact_checkpoint)
    assert list(adata.var_names[adata.var["sct_imputed"]]) == genes
    assert adata.layers["sct"].format == "csr"
    assert isinstance(whole.layers["sct"], np.ndarray)
    np.testing.assert_allclose(adata[:, genes].layers["sct"].toarray(), whole[:, genes].layers["sct"], atol=1e-5)
    others = ~adata.var["sct_imputed"]
    np.testing.assert_array_equal(adata[:, others].layers["sct"].toarray(), adata[:, others].X.toarray())


def test_measured_genes_that_the_model_does_not_know_keep_their_values(adata, compact_checkpoint, caplog):
    known = sct.tl.impute(adata, model=compact_checkpoint, copy=True).var["sct_imputed"].to_numpy()
    one, foreign = adata.var_names[known][0], adata.var_names[~known][0]
    sct.tl.impute(adata, [one, foreign], model=compact_checkpoint)
    assert list(adata.var_names[adata.var["sct_imputed"]]) == [one]
    assert f"['{foreign}'] keep their values" in caplog.text
    with pytest.raises(KeyError, match=foreign):
        sct.tl.impute(adata, [foreign], model=compact_checkpoint)
    with pytest.raises(KeyError, match=f"Did you mean .'{one}'"):
        sct.tl.impute(adata, one[:-1] + "x", model=compact_checkpoint)


def test_antibodies_are_neither_imputed_nor_read(adata, compact_checkpoint, with_antibodies, caplog):
    expected = sct.tl.impute(adata, model=compact_checkpoint, copy=True)
    both = with_antibodies(adata)
    both.X = both.X.toarray()
    both.X[0, 1] = np.nan
    sct.tl.impute(both, model=compact_checkpoint)
    np.testing.assert_array_equal(both.layers["sct"][:, 3:], expected.layers["sct"])
    np.testing.assert_array_equal(both.layers["sct"][:, :3], both.X[:, :3])
    assert not both.var["sct_imputed"][:3].any()
    sct.pl.recovery(both)
    result = sct.tl.impute(both, ["CD45"], model=compact_checkpoint, copy=True)
    assert list(result.var_names[result.var["sct_imputed"]]) == ["PTPRC"]
    assert "the column 'CD45' is an antibody or the like; the gene of this name is imputed" in caplog.text


def test_unmeasured_genes_by_name(adata, compact_checkpoint):
    known = sct.tl.impute(adata, model=compact_checkpoint, copy=True).var["sct_imputed"]
    gene = adata.var_names[known][5]
    without = adata[:, adata.var_names != gene].copy()
    sct.tl.impute(without, [gene], model=compact_checkpoint)
    table = without.obsm["sct_unmeasured"]
    assert list(table.columns) == [gene]
    assert table.index.equals(without.obs_names)
    assert np.isfinite(table.to_numpy()).all()
    assert not without.var["sct_imputed"].any()


def test_hidden_values_never_reach_a_result(adata, compact_checkpoint):
    hide = np.random.default_rng(0).random(adata.shape) < 0.1
    changed = adata.copy()
    dense = changed.X.toarray()
    dense[hide] = 2.5
    changed.X = sparse.csr_matrix(dense)
    one, other = (sct.tl.impute(each, model=compact_checkpoint, hide=hide, copy=True) for each in (adata, changed))
    np.testing.assert_array_equal(one.layers["sct"], other.layers["sct"])
    np.testing.assert_array_equal(one.var["sct_recovery"], other.var["sct_recovery"])
    known = one.var["sct_imputed"].to_numpy()
    assert np.isfinite(one.layers["sct"][:, known]).all()
    np.testing.assert_array_equal(np.isnan(one.layers["sct"][:, ~known]), hide[:, ~known])


def test_keys_of_other_tools_raise_an_error(adata, compact_checkpoint):
    adata.uns["mine"] = {"params": {}}
    before = snapshot(adata)
    for function in (sct.tl.impute, sct.tl.embed):
        with pytest.raises(ValueError, match="key_added='mine'"):
            function(adata, model=compact_checkpoint, key_added="mine")
    assert_same(adata, before)


def test_survives_files(adata, compact_checkpoint, tmp_path):
    sct.tl.impute(adata, model=compact_checkpoint)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), adata)
    adata.write_zarr(tmp_path / "a.zarr")
    assert_same(ad.read_zarr(tmp_path / "a.zarr"), adata)


def test_empty_cells_and_tiny_samples(adata, compact_checkpoint):
    dense = adata.X.toarray()
    dense[[0, 7]] = 0
    adata.X = sparse.csr_matrix(dense)
    adata.obs["sample"] = pd.Categorical(["a"] * 39 + ["b"])
    sct.tl.impute(adata, model=compact_checkpoint, library_key="sample")
    assert np.isfinite(adata.layers["sct"]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"genes": ["NOTAGENE"]}, KeyError, "NOTAGENE"),
        ({"layer": "missing"}, KeyError, "missing"),
        ({"library_key": "missing"}, KeyError, "missing"),
        ({"bags": "triangles"}, ValueError, "bags='triangles'"),
        ({"bags": "spatial"}, ValueError, "spatial"),
        ({"hide": "missing"}, KeyError, "hide='missing'"),
        ({"hide": np.zeros((2, 2), bool)}, ValueError, "hide has shape"),
        ({"hide": np.array([["yes"]])}, TypeError, "hide must be"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"precision": "float8"}, ValueError, "precision='float8'"),
        ({"device": "toaster"}, ValueError, "device='toaster'"),
        ({"rng": "seed"}, TypeError, "rng='seed'"),
        ({"rng": 2**40}, ValueError, "rng="),
        ({"genes": []}, ValueError, "genes is empty"),
        ({"key_added": "a/b"}, ValueError, "key_added"),
    ],
)
def test_errors_come_first_and_change_nothing(adata, compact_checkpoint, arguments, error, named):
    before = snapshot(adata)
    with pytest.raises(error, match=named):
        sct.tl.impute(adata, model=compact_checkpoint, **arguments)
    assert_same(adata, before)


def test_genes_from_any_iterable_and_a_device_object(adata, compact_checkpoint):
    import torch

    from scanpy_sct.read.genes import to_ensembl

    genes = adata.var_names[np.isin(to_ensembl(adata.var_names).ensembl_ids, compact_checkpoint.genes)][:2].to_list()
    sct.tl.impute(adata, (gene for gene in genes), model=compact_checkpoint, device=torch.device("cpu"))
    assert adata.uns["sct"]["params"]["genes"] == genes
    assert adata.uns["sct"]["params"]["device"] == "cpu"


def test_a_name_of_two_columns_is_the_first_of_them(adata, compact_checkpoint):
    from scanpy_sct.read.genes import match_genes, to_ensembl

    adata.var["ids"] = to_ensembl(adata.var_names).ensembl_ids
    first, second = match_genes(adata.var_names, compact_checkpoint.genes).columns[:2]
    names = adata.var_names.to_list()
    names[second] = names[first]
    adata.var_names = names
    sct.tl.impute(adata, names[first], gene_names="ids", model=compact_checkpoint)
    assert np.flatnonzero(adata.var["sct_imputed"]).tolist() == [first]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("function", [sct.tl.impute, sct.tl.embed])
def test_a_copy_or_view_of_a_file_raises_an_error(adata, compact_checkpoint, tmp_path, function, copy):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match="to_memory"):
        function(backed if copy else backed[:9], model=compact_checkpoint, copy=copy)
    backed.file.close()


def test_a_network_that_reads_coordinates_requires_them(adata, compact_checkpoint):
    from dataclasses import replace

    from scanpy_sct.model import make_network

    config = replace(compact_checkpoint.config, reads_coordinates=True)
    model = replace(compact_checkpoint, network=make_network(config, 512).eval())
    for function in (sct.pp.check, sct.tl.impute, sct.tl.embed):
        with pytest.raises(ValueError, match=r"obsm\['spatial'\]"):
            function(adata, model=model)


def test_coordinates_of_some_cells_are_needed_only_where_they_are_used(adata, compact_checkpoint):
    from dataclasses import replace

    from scanpy_sct.model import make_network

    adata.obsm["spatial"] = np.random.default_rng(0).random((40, 2))
    expected = sct.tl.impute(adata, model=compact_checkpoint, bags="similar", copy=True)
    vectors = sct.tl.embed(adata, model=compact_checkpoint, copy=True).obsm["X_sct"]
    adata.obsm["spatial"][3] = np.nan
    found = sct.tl.impute(adata, model=compact_checkpoint, bags="similar", copy=True)
    np.testing.assert_array_equal(found.layers["sct"], expected.layers["sct"])
    found = sct.tl.embed(adata, model=compact_checkpoint, copy=True)
    np.testing.assert_array_equal(found.obsm["X_sct"], vectors)
    config = replace(compact_checkpoint.config, reads_coordinates=True)
    reading = replace(compact_checkpoint, network=make_network(config, 512).eval())
    for function in (sct.pp.check, sct.tl.impute):
        with pytest.raises(ValueError, match=r"for 1 of 40 cells.*bags='similar'"):
            function(adata, model=compact_checkpoint)
    for function in (sct.pp.check, sct.tl.impute, sct.tl.embed):
        with pytest.raises(ValueError, match="for 1 of 40 cells"):
            function(adata, model=reading, bags="random")
    adata.obsm["spatial"][:] = np.nan
    assert sct.pp.check(adata, model=compact_checkpoint).bag_policy == "similar"
    found = sct.tl.impute(adata, model=compact_checkpoint, copy=True)
    np.testing.assert_array_equal(found.layers["sct"], expected.layers["sct"])


def test_the_weights_of_the_blend_are_written(adata, compact_checkpoint):
    sct.tl.impute(adata, model=compact_checkpoint)
    fraction, source = adata.var["sct_network_fraction"], adata.var["sct_source"]
    imputed = adata.var["sct_imputed"]
    assert fraction[imputed].between(0, 1).all()
    assert fraction[~imputed].isna().all()
    assert (source[~imputed] == "none").all()
    np.testing.assert_array_equal(source[imputed] == "network", fraction[imputed] >= 0.5)
    assert len(adata.uns["sct"]["blend_weights"]) == 3
    assert 0 <= adata.uns["sct"]["conditional_mean_weight"] <= 1
    assert 0 <= adata.uns["sct"]["neighbour_weight"] <= 1
    sct.tl.impute(adata, model=compact_checkpoint, blend=False)
    assert "sct_source" not in adata.var
    assert not {"blend_weights", "conditional_mean_weight", "neighbour_weight"} & set(adata.uns["sct"])


def test_denoised_values_lie_between_prediction_and_measured_value(adata, compact_checkpoint):
    sct.tl.impute(adata, model=compact_checkpoint, key_added="plain")
    sct.tl.impute(adata, model=compact_checkpoint, key_added="clean", denoise=True)
    imputed = adata.var["plain_imputed"].to_numpy()
    plain, clean = (adata.layers[key][:, imputed] for key in ("plain", "clean"))
    observed = adata.X[:, imputed].toarray()
    np.testing.assert_array_equal(adata.var["plain_recovery"], adata.var["clean_recovery"])
    assert np.abs(clean - observed).mean() < np.abs(plain - observed).mean()
    assert clean[observed > 0].mean() > plain[observed > 0].mean()
    assert (clean[observed == 0] > 0).mean() > 0.99


def test_hidden_values_are_not_denoised(adata, compact_checkpoint):
    hide = np.random.default_rng(0).random(adata.shape) < 0.1
    for key, denoise in (("plain", False), ("clean", True)):
        sct.tl.impute(adata, model=compact_checkpoint, key_added=key, denoise=denoise, hide=hide)
    hidden = hide & adata.var["plain_imputed"].to_numpy()
    np.testing.assert_array_equal(adata.layers["plain"][hidden], adata.layers["clean"][hidden])


def test_denoising_needs_counts(adata, compact_checkpoint):
    rng = np.random.default_rng(0)
    adata.X = sparse.csr_matrix(adata.X.toarray() * rng.uniform(0.5, 1, adata.shape).astype(np.float32))
    before = snapshot(adata)
    with pytest.raises(ValueError, match="denoise=True needs counts"):
        sct.tl.impute(adata, model=compact_checkpoint, denoise=True)
    assert_same(adata, before)
