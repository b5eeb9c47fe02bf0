"""`tl.impute(reference=)`: unmeasured genes from a reference and the network."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.get import imputed

GENE = "S100A8"
"""Measured in the reference, and not on the panel."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def split(pbmc):
    """A panel of every third gene in 300 cells, what was measured beside it, and 400 other cells as reference."""
    order = np.random.default_rng(0).permutation(pbmc.n_obs)
    query, reference = pbmc[np.sort(order[:300])].copy(), pbmc[np.sort(order[300:])].copy()
    on_panel = np.arange(pbmc.n_vars) % 3 == 0
    return query[:, on_panel].copy(), query[:, ~on_panel].copy(), reference


@pytest.fixture(scope="module")
def few(split):
    """The same of 90 cells and 110 of the reference, for what does not depend on how good predictions are."""
    return split[0][:90].copy(), split[1][:90].copy(), split[2][:110].copy()


@pytest.fixture(scope="module")
def result(split):
    adata = split[0].copy()
    sct.settings.progress = False
    sct.tl.impute(adata, [*split[1].var_names, adata.var_names[0]], reference=split[2])
    return adata


def correlation(adata, truth, genes):
    predicted = adata.obsm["sct_unmeasured"][genes].to_numpy()
    measured = truth[:, genes].X.toarray()
    return np.array([np.corrcoef(predicted[:, gene], measured[:, gene])[0, 1] for gene in range(len(genes))])


def known_genes(adata, truth):
    table = adata.uns["sct"]["unmeasured"]
    detected = truth.var_names[(truth.X > 0).mean(axis=0).A1 > 0.05]
    return [gene for gene in detected if gene in table.index and table.loc[gene, "source"] == "both"]


def test_fields_are_written_and_the_inputs_stay_as_they_are(few, compact_checkpoint, open_cells):
    from anndata.tests.helpers import assert_equal

    adata, reference = few[0].copy(), few[2].copy()
    known = adata.var_names[open_cells(adata).genes.columns[0]]
    sct.tl.impute(adata, [GENE, "S100A9", known], model=compact_checkpoint, reference=reference)
    assert_equal(reference, few[2])
    assert list(adata.obsm["sct_unmeasured"]) == [GENE, "S100A9"]
    assert adata.var["sct_imputed"].sum() == 1
    assert adata.obs["sct_similarity"].between(-1, 1).all()
    record = adata.uns["sct"]["reference"]
    assert record["cells"] == 110
    assert record["detection_weights"]["both"].shape == (6,)
    assert set(record["explained"]) == {"both", "reference", "network"}
    for key in ("sct",):
        del adata.layers[key], adata.uns[key]
    del adata.obsm["sct_unmeasured"], adata.obs["sct_similarity"]
    adata.var = adata.var.drop(columns=[name for name in adata.var if name.startswith("sct_")])
    assert_equal(adata, few[0])


def test_a_reference_predicts_better_than_the_network_alone(split, result):
    alone = split[0].copy()
    genes = known_genes(result, split[1])
    sct.tl.impute(alone, genes)
    assert len(genes) > 100
    assert np.nanmean(correlation(result, split[1], genes)) > np.nanmean(correlation(alone, split[1], genes)) + 0.03


def test_trust_ranks_genes_by_their_correlation(split, result):
    from scipy.stats import spearmanr

    genes = known_genes(result, split[1])
    found = correlation(result, split[1], genes)
    trust = result.uns["sct"]["unmeasured"].loc[genes, "trust"].to_numpy()
    usable = ~np.isnan(found)
    assert spearmanr(trust[usable], found[usable])[0] > 0.5
    assert np.abs(trust[usable] - found[usable]).mean() < 0.12


def test_a_cell_type_that_the_reference_lacks_has_low_similarity(few, split, compact_checkpoint):
    adata, reference = few[0].copy(), split[2]
    is_myeloid = reference.obs["bulk_labels"].isin(["CD14+ Monocyte", "Dendritic"])
    sct.tl.impute(adata, "LYZ", model=compact_checkpoint, reference=reference[~is_myeloid].copy())
    lacking = adata.obs["bulk_labels"].isin(["CD14+ Monocyte", "Dendritic"])
    similarity = adata.obs["sct_similarity"]
    assert similarity[lacking].median() < similarity[~lacking].median()


def test_get_imputed_gives_the_trust(result):
    found = imputed(result, [GENE, result.var_names[0]])
    assert found.var["trust"][GENE] == result.uns["sct"]["unmeasured"].loc[GENE, "trust"]
    assert np.isnan(found.var["trust"].iloc[1])


def test_genes_that_only_one_source_knows(few, compact_checkpoint):
    adata, reference = few[0].copy(), few[2]
    known = sct.tl.impute(adata, "all", model=compact_checkpoint, reference=reference, copy=True).uns["sct"][
        "unmeasured"
    ]
    only_reference = list(known.index[known["source"] == "reference"][:5])
    only_network = list(known.index[known["source"] == "both"][:5])
    kept = [gene for gene in reference.var_names if gene not in only_network]
    sct.tl.impute(
        adata, [*only_reference, *only_network], model=compact_checkpoint, reference=reference[:, kept].copy()
    )
    table = adata.uns["sct"]["unmeasured"]
    assert (table.loc[only_reference, "source"] == "reference").all()
    assert (table.loc[only_network, "source"] == "network").all()
    assert table.loc[only_network, "reference_detection"].isna().all()
    assert np.isfinite(adata.obsm["sct_unmeasured"]).all(axis=None)
    alone = sct.tl.impute(few[0], only_reference, model=compact_checkpoint, reference=reference, copy=True)
    assert set(alone.obsm["sct_unmeasured"]) == set(only_reference)


def test_without_names_everything_is_imputed(split, compact_checkpoint):
    adata = split[0][:40].copy()
    by_default, by_name = (
        sct.tl.impute(adata, genes, model=compact_checkpoint, reference=split[2], copy=True) for genes in (None, "all")
    )
    np.testing.assert_array_equal(by_default.obsm["sct_unmeasured"], by_name.obsm["sct_unmeasured"])
    np.testing.assert_array_equal(by_default.layers["sct"], by_name.layers["sct"])
    assert set(split[1].var_names) - set(by_name.obsm["sct_unmeasured"]) == unknown_names(split[1])


def unknown_names(adata):
    from scanpy_sct.read.genes import to_ensembl

    names = np.array(adata.var_names)
    return set(names[to_ensembl(list(names)).ensembl_ids == ""])


@pytest.mark.parametrize("values", ["auto", "lognorm", "counts"])
def test_values_of_measured_and_unmeasured_genes_have_one_scale(pbmc, values):
    """A gene that is measured, and the same gene as if it were not, are near one another."""
    gene = "CST3"
    counts = pbmc[:, (np.arange(pbmc.n_vars) % 2 == 0) | (pbmc.var_names == gene)].copy()
    counts.X.data = np.rint(np.expm1(counts.X.data) / np.expm1(counts.X.data).min())
    adata = counts[:120].copy()
    sct.tl.impute(adata, gene, values=values)
    panel = counts[:120, counts.var_names != gene].copy()
    sct.tl.impute(panel, gene, reference=counts[300:450].copy(), values=values)
    measured, unmeasured = sct.get.imputed(adata, gene).X.ravel(), panel.obsm["sct_unmeasured"][gene].to_numpy()
    assert np.corrcoef(measured, unmeasured)[0, 1] > 0.7
    assert 0.5 < np.median(unmeasured[measured > np.median(measured)] / measured[measured > np.median(measured)]) < 2


def test_genes_are_written_in_the_requested_order(few, compact_checkpoint):
    genes = ["LYZ", GENE, "CST3", "S100A9"]
    forth, back = (
        sct.tl.impute(few[0], each, model=compact_checkpoint, reference=few[2], copy=True)
        for each in (genes, genes[::-1])
    )
    assert list(forth.obsm["sct_unmeasured"]) == list(forth.uns["sct"]["unmeasured"].index) == genes
    assert list(back.obsm["sct_unmeasured"]) == genes[::-1]
    np.testing.assert_array_equal(forth.obsm["sct_unmeasured"], back.obsm["sct_unmeasured"][genes])
    np.testing.assert_array_equal(forth.uns["sct"]["unmeasured"], back.uns["sct"]["unmeasured"].loc[genes])


@pytest.fixture(scope="module")
def in_blocks(few, compact_checkpoint):
    """The same in blocks of 40 cells, with 20 genes from the reference."""
    adata = few[0].copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sct.settings, "block_size", 40)
        sct.tl.impute(adata, list(few[1].var_names[:20]), model=compact_checkpoint, reference=few[2])
    return adata


def assert_same(found, expected, atol=1e-6):
    for one, other in [
        (found.obsm["sct_unmeasured"], expected.obsm["sct_unmeasured"]),
        (found.obs["sct_similarity"], expected.obs["sct_similarity"]),
        (found.uns["sct"]["unmeasured"]["trust"], expected.uns["sct"]["unmeasured"]["trust"]),
    ]:
        np.testing.assert_allclose(one, other, atol=atol)


def test_hidden_values_reach_no_prediction(few, compact_checkpoint):
    hidden = np.random.default_rng(3).random(few[0].shape) < 0.2
    other = few[0].copy()
    dense = other.X.toarray()
    dense[hidden] = np.where(dense[hidden] > 0, 0, dense.max())
    other.X = sparse.csr_matrix(dense)
    one, two = (
        sct.tl.impute(each, GENE, model=compact_checkpoint, reference=few[2], hide=hidden, copy=True)
        for each in (few[0], other)
    )
    np.testing.assert_array_equal(one.obsm["sct_unmeasured"], two.obsm["sct_unmeasured"])


def test_a_reference_of_another_tissue_is_reported(few, caplog):
    reference = few[2].copy()
    # Each cell keeps its values, and has them in other genes.
    reference.X = reference.X[:, np.random.default_rng(0).permutation(reference.n_vars)]
    sct.tl.impute(few[0].copy(), GENE, reference=reference)
    assert "The reference does not fit these data" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reference": "ref.h5ad"}, TypeError, "reference must be an AnnData, found str"),
        ({"genes": "CD3E"}, ValueError, "all requested genes are measured"),
        ({"cells": 20}, ValueError, "reference has 20 cells with counts; at least 50 are needed"),
        ({"other_genes": True}, ValueError, "reference has 0 of the .* genes that adata measured"),
        ({"reference_layer": "counts"}, KeyError, "reference_layer='counts'"),
        ({"scaled": True}, ValueError, "reference must hold counts"),
        ({"genes": [GENE, "NOGENE"]}, KeyError, "neither the model 'sct-mini' nor the reference knows"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(split, pbmc, change, error, message):
    adata, reference = split[0].copy(), split[2]
    genes = change.pop("genes", GENE)
    if genes == "CD3E":
        adata = pbmc[:300].copy()
    if "cells" in change:
        reference = reference[: change.pop("cells")].copy()
    if change.pop("other_genes", False):
        reference = split[2][:, [name for name in split[2].var_names if name not in set(adata.var_names)]].copy()
    if change.pop("scaled", False):
        reference = split[2].copy()
        reference.X.data = reference.X.data * np.random.default_rng(0).uniform(0.5, 1, reference.X.nnz).astype("f4")
    before = list(adata.obsm), list(adata.layers), list(adata.obs)
    with pytest.raises(error, match=message):
        sct.tl.impute(adata, genes, **({"reference": reference} | change))
    assert (list(adata.obsm), list(adata.layers), list(adata.obs)) == before


def test_unknown_genes_of_a_long_list_are_left_out(few, compact_checkpoint, caplog):
    adata = few[0].copy()
    genes = [*few[1].var_names[:12], "NOGENE1", "NOGENE2"]
    sct.tl.impute(adata, genes, model=compact_checkpoint, reference=few[2])
    assert "['NOGENE1', 'NOGENE2'] are left out" in caplog.text
    assert "NOGENE1" not in adata.obsm["sct_unmeasured"]
    with pytest.raises(KeyError, match="nor the reference knows"):
        sct.tl.impute(adata, [f"NOGENE{number}" for number in range(20)], reference=few[2])


def test_a_store_goes_on_with_the_same_reference_only(few, in_blocks, compact_checkpoint, tmp_path, monkeypatch):
    from scanpy_sct.impute.fields import StoreTask

    monkeypatch.setattr(sct.settings, "block_size", 40)
    genes, out = list(few[1].var_names[:20]), tmp_path / "x.zarr"
    done, whole = [], StoreTask.__call__

    def interrupted(self, number, cells, fit):
        if done:
            raise KeyboardInterrupt
        done.append(number)
        whole(self, number, cells, fit)

    monkeypatch.setattr(StoreTask, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sct.tl.impute(few[0].copy(), genes, model=compact_checkpoint, reference=few[2], out=out)
    monkeypatch.setattr(StoreTask, "__call__", whole)
    with pytest.raises(ValueError, match="reference"):
        sct.tl.impute(few[0].copy(), genes, model=compact_checkpoint, reference=few[2][:80].copy(), out=out)
    adata = few[0].copy()
    sct.tl.impute(adata, genes, model=compact_checkpoint, reference=few[2], out=out)
    for stored in (adata, ad.read_zarr(out)):
        assert_same(stored, in_blocks)


def test_cells_without_counts_change_nothing(split, compact_checkpoint):
    adata = split[0][:100].copy()
    empty = split[0][100:200].copy()
    empty.X = sparse.csr_matrix(empty.shape, dtype=np.float32)
    joined = ad.concat([adata, empty])
    options = {"model": compact_checkpoint, "reference": split[2][:150].copy(), "bags": "random"}
    alone, both = (sct.tl.impute(each, GENE, **options, copy=True) for each in (adata, joined))
    for name in ("explained", "level_error"):
        one, other = (list(each.uns["sct"]["reference"][name].values()) for each in (alone, both))
        np.testing.assert_allclose(one, other, rtol=0.2)
    one, other = (each.obsm["sct_unmeasured"][GENE].to_numpy()[:100] for each in (alone, both))
    assert abs(one.mean() / other.mean() - 1) < 0.05
    assert both.obs["sct_similarity"][100:].isna().all()


@pytest.mark.parametrize("n_cells", [1, 2, 4])
def test_a_few_cells_are_imputed_with_typical_weights(few, compact_checkpoint, n_cells, caplog):
    adata = few[0][:n_cells].copy()
    sct.tl.impute(adata, GENE, model=compact_checkpoint, reference=few[2])
    assert np.isfinite(adata.obsm["sct_unmeasured"][GENE]).all()
    assert "does not fit these data" not in caplog.text
    if n_cells < 3:
        assert np.isnan(adata.uns["sct"]["unmeasured"]["trust"][GENE])


def test_names_of_several_genes_are_those_of_the_network(split):
    """Of the genes named CD99, on X and on Y, the network knows one; so does the reference then."""
    from scanpy_sct.read.options import ReadOptions
    from scanpy_sct.read.reference import read_reference

    model = sct.load_model("sct-mini")
    reference = split[2].copy()
    reference.var_names = ["CD99", "SLC25A6", "CAST", *reference.var_names[3:]]
    cells = read_reference(reference, model.genes, model.tokens.scale, ReadOptions(owner="reference"), 0)
    assert {"CD99", "SLC25A6", "CAST"} <= set(cells.names)


def test_counts_of_measured_and_unmeasured_genes_are_expected_counts(pbmc):
    counts = pbmc[:350].copy()
    counts.X = sparse.csr_matrix(np.random.default_rng(0).poisson(counts.X.expm1().toarray()), dtype=np.float32)
    adata, reference = counts[:150].copy(), counts[150:].copy()
    on_panel = np.arange(adata.n_vars) % 2 == 0
    panel = adata[:, on_panel].copy()
    sct.tl.impute(adata, values="counts")
    sct.tl.impute(panel, list(adata.var_names[~on_panel]), reference=reference, values="counts")
    genes = [name for name in adata.var_names[adata.var["sct_imputed"]] if name in panel.obsm["sct_unmeasured"]]
    true = adata[:, genes].X.mean()
    assert 0.7 < adata[:, genes].layers["sct"].mean() / true < 1.2
    assert 0.7 < panel.obsm["sct_unmeasured"][genes].to_numpy().mean() / true < 1.2


def test_all_genes_stand_alone(split):
    with pytest.raises(ValueError, match="stands alone"):
        sct.tl.impute(split[0].copy(), ["all", "LYZ"], reference=split[2])
