from __future__ import annotations

import logging
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal
from sklearn.metrics import roc_auc_score

import scanpy_sct as sct
from scanpy_sct.checkpoints import LabelHead
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier
from scanpy_sct.embed.vectors import cell_vectors
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.workflow import open_cells

MARKERS = {
    "B": ["CD79A", "CD79B", "MS4A1"],
    "Myeloid": ["LYZ", "CST3", "FCER1G"],
    "NK": ["NKG7", "GNLY", "GZMB"],
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def halves(pbmc):
    """Labelled cells of four types, and others to annotate."""
    cells = pbmc[pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK", "CD34+"])]
    order = np.random.default_rng(0).permutation(cells.n_obs)
    return cells[order[:120]].copy(), cells[order[120:]].copy()


@pytest.fixture
def reference(halves):
    return halves[0].copy()


@pytest.fixture
def query(halves):
    return halves[1].copy()


@pytest.fixture
def quick_embedding(monkeypatch):
    """A random projection instead of the network."""

    def embed(checkpoint, cells, options):
        values = (cells if isinstance(cells, CellBlock) else cells.block()).log_values
        return values @ np.random.default_rng(0).normal(size=(values.shape[1], 8)).astype(np.float32)

    monkeypatch.setattr("scanpy_sct.annotate.reference.cell_vectors", embed)


@pytest.fixture
def no_computing(monkeypatch):
    for name in ("label_head.embed_cells", "reference.cell_vectors", "markers.impute_cells"):
        monkeypatch.setattr(f"scanpy_sct.annotate.{name}", pytest.fail)


def by_reference(query, reference, model, **options):
    return sct.tl.annotate(query, reference=reference, labels_key="bulk_labels", model=model, **options)


def accuracy(query, key="sct_label"):
    return (query.obs[key].astype(str) == query.obs["bulk_labels"].astype(str)).mean()


def test_a_reference_labels_cells_and_nothing_else_changes(query, reference, tiny_checkpoint):
    query = query[:60].copy()
    before, known = query.copy(), reference.copy()
    assert by_reference(query, reference, tiny_checkpoint) is None
    assert_equal(reference, known)
    assert accuracy(query) > 0.85
    probabilities = query.obsm["sct_label_probs"]
    assert list(probabilities) == sorted(known.obs["bulk_labels"].unique())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    novelty = query.obs["sct_label_novelty"]
    assert novelty.between(0, 1).all()
    np.testing.assert_allclose(query.obs["sct_label_score"], probabilities.max(axis=1) * (1 - novelty), rtol=1e-5)
    best = probabilities.idxmax(axis=1).to_numpy()
    labelled = (query.obs["sct_label"] != "unknown").to_numpy()
    assert labelled.tolist() == (query.obs["sct_label_score"] >= 0.5).tolist()
    assert query.obs["sct_label"].astype(str).to_numpy()[labelled].tolist() == best[labelled].tolist()
    assert query.uns["sct_label"]["params"]["labels_key"] == "bulk_labels"
    assert query.uns["sct_label"]["reference"]["cells"] == reference.n_obs
    del (
        query.obs["sct_label"],
        query.obs["sct_label_score"],
        query.obs["sct_label_novelty"],
        query.obsm["sct_label_probs"],
        query.uns["sct_label"],
    )
    assert_equal(query, before)


@pytest.mark.usefixtures("quick_embedding")
def test_threshold_copy_and_key(query, reference, tiny_checkpoint):
    before = query.copy()
    strict = by_reference(query, reference, tiny_checkpoint, threshold=0.95, key_added="type", copy=True)
    assert_equal(query, before)
    assert ((strict.obs["type"] == "unknown") == (strict.obs["type_score"] < 0.95)).all()
    assert (strict.obs["type"] == "unknown").any()
    lenient = by_reference(query, reference, tiny_checkpoint, threshold=0, copy=True)
    assert "unknown" not in lenient.obs["sct_label"].cat.categories


def test_the_same_seed_gives_the_same_numbers_for_any_batch_size(query, reference, tiny_checkpoint):
    query, reference = query[:40].copy(), reference[:60].copy()
    one = by_reference(query, reference, tiny_checkpoint, batch_size=1, copy=True)
    other = by_reference(query, reference, tiny_checkpoint, batch_size=3, copy=True)
    assert one.uns["sct_label"]["reference"]["embedding"]
    np.testing.assert_allclose(one.obsm["sct_label_probs"], other.obsm["sct_label_probs"], atol=1e-4)


@pytest.mark.usefixtures("quick_embedding")
def test_a_result_with_slashes_survives_a_file(query, reference, tiny_checkpoint, tmp_path):
    reference.obs["bulk_labels"] = reference.obs["bulk_labels"].astype(str).replace({"CD34+": "CD34+/stem"})
    by_reference(query, reference, tiny_checkpoint)
    query.write_h5ad(tmp_path / "annotated.h5ad")
    stored = ad.read_h5ad(tmp_path / "annotated.h5ad")
    assert "CD34+/stem" in stored.obs["sct_label"].cat.categories
    assert "CD34+|stem" in stored.obsm["sct_label_probs"]
    np.testing.assert_array_equal(stored.obsm["sct_label_probs"], query.obsm["sct_label_probs"])
    assert stored.uns["sct_label"]["source"] == "reference"


@pytest.mark.usefixtures("quick_embedding")
def test_empty_cells_are_unknown_and_not_used_in_the_fit(query, reference, tiny_checkpoint):
    query.X = query.X.toarray()
    query.X[3] = 0
    reference.X = reference.X.toarray()
    reference.X[5] = 0
    by_reference(query, reference, tiny_checkpoint, threshold=0)
    assert query.obs["sct_label"].iloc[3] == "unknown"
    assert query.obs["sct_label_score"].iloc[3] == pytest.approx(0.25)
    assert np.flatnonzero(query.obs["sct_label_novelty"].isna()).tolist() == [3]
    assert query.uns["sct_label"]["reference"]["cells"] == reference.n_obs - 1


@pytest.mark.usefixtures("quick_embedding")
def test_a_type_that_the_reference_lacks_stands_out(query, reference, tiny_checkpoint):
    reference = reference[reference.obs["bulk_labels"] != "CD14+ Monocyte"].copy()
    by_reference(query, reference, tiny_checkpoint)
    is_new = (query.obs["bulk_labels"] == "CD14+ Monocyte").to_numpy()
    assert roc_auc_score(is_new, query.obs["sct_label_novelty"]) > 0.9
    assert roc_auc_score(is_new, -query.obs["sct_label_score"]) > 0.9
    unknown = (query.obs["sct_label"] == "unknown").to_numpy()
    assert unknown[~is_new].mean() < 0.1


@pytest.mark.usefixtures("quick_embedding")
def test_novelty_needs_enough_cells_and_that_of_an_earlier_result_is_removed(query, reference, tiny_checkpoint):
    by_reference(query, reference, tiny_checkpoint)
    few = query[:40].copy()
    assert "sct_label_novelty" in few.obs
    by_reference(few, reference, tiny_checkpoint)
    assert "sct_label_novelty" not in few.obs
    np.testing.assert_allclose(few.obs["sct_label_score"], few.obsm["sct_label_probs"].max(axis=1))


@pytest.mark.usefixtures("quick_embedding")
def test_rare_labels_are_left_out(query, reference, tiny_checkpoint, caplog):
    labels = reference.obs["bulk_labels"].astype(str)
    labels.iloc[:2] = "rare"
    reference.obs["bulk_labels"] = labels
    with caplog.at_level(logging.WARNING):
        by_reference(query, reference, tiny_checkpoint)
    assert "rare" in caplog.text
    assert "rare" not in query.obsm["sct_label_probs"]


def test_markers_label_cells_without_any_reference(query, tiny_checkpoint):
    query = query[:16].copy()
    before = query.copy()
    sct.tl.annotate(query, markers=MARKERS, model=tiny_checkpoint)
    assert list(query.obsm["sct_label_probs"]) == list(MARKERS)
    np.testing.assert_allclose(query.obsm["sct_label_probs"].sum(axis=1), 1, atol=1e-5)
    assert query.uns["sct_label"]["markers"]["measured"] == [3, 3, 3]
    assert (query.X != before.X).nnz == 0


def test_markers_may_be_unmeasured_and_types_without_any_are_left_out(query, tiny_checkpoint, caplog):
    query = query[:8, ~query.var_names.isin(MARKERS["B"])].copy()
    with caplog.at_level(logging.WARNING):
        sct.tl.annotate(query, markers=MARKERS | {"Unknown genes": ["NOSUCHGENE"]}, model=tiny_checkpoint)
    assert "Unknown genes" in caplog.text
    assert list(query.obsm["sct_label_probs"]) == list(MARKERS)
    assert query.uns["sct_label"]["markers"]["measured"] == [0, 3, 3]
    assert query.uns["sct_label"]["markers"]["unused"] == ["Unknown genes: NOSUCHGENE"]


def test_label_head(query, tiny_checkpoint):
    query = query[:16].copy()
    width = cell_vectors(tiny_checkpoint, open_cells(query, tiny_checkpoint)[1]).shape[1]
    zeros = np.zeros((2, width), dtype=np.float32)
    bias = np.array([0, np.log(3)], dtype=np.float32)
    classifier = EmbeddingClassifier(zeros, bias, np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32))
    head = LabelHead(("a", "b"), classifier)
    sct.tl.annotate(query, model=replace(tiny_checkpoint, label_head=head))
    np.testing.assert_allclose(query.obsm["sct_label_probs"], [[0.25, 0.75]] * query.n_obs, atol=1e-6)
    assert (query.obs["sct_label"] == "b").all()
    assert query.uns["sct_label"]["source"] == "label_head"


@pytest.mark.usefixtures("no_computing")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "has no label head"),
        ({"markers": MARKERS, "reference": "given", "labels_key": "bulk_labels"}, ValueError, "both given"),
        ({"reference": "given"}, ValueError, "reference is given without labels_key"),
        ({"labels_key": "bulk_labels"}, ValueError, "labels_key is given without reference"),
        (
            {"reference": "given", "labels_key": "x"},
            KeyError,
            r"not a column of reference\.obs; there are: 'bulk_labels'",
        ),
        ({"reference": pd.DataFrame(), "labels_key": "x"}, TypeError, "found DataFrame"),
        ({"markers": {}}, ValueError, "markers is empty"),
        ({"markers": ["CD79A"]}, TypeError, "markers must be a dict"),
        ({"markers": "markers.csv"}, TypeError, "Read a file first"),
        ({"markers": {"B": ["CD79A", "CD3-"], "NK": ["NKG7"]}}, ValueError, "CD3- .of B. are markers that cells lack"),
        (
            {"reference": "given", "labels_key": "bulk_labels", "reference_gene_names": "x"},
            KeyError,
            "gene_names='x' is not a column of",
        ),
        ({"reference": "given", "labels_key": "bulk_labels", "reference_gene_names": 1}, TypeError, "must be a string"),
        ({"markers": {"B": ["NOSUCHGENE"], "NK": ["NKG7"]}}, ValueError, "1 of 2 types"),
        ({"markers": {"unknown": ["CD79A"], "NK": ["NKG7"]}}, ValueError, "'unknown' is reserved"),
        ({"markers": {"a/b": ["CD79A"], "a|b": ["CD3D"]}}, ValueError, "would become the same"),
        ({"markers": pd.DataFrame({"gene": ["CD79A"]})}, ValueError, "give a table with two columns"),
        ({"markers": MARKERS, "threshold": 1.5}, ValueError, r"threshold=1\.5"),
        ({"markers": MARKERS, "key_added": "a/b"}, ValueError, "key_added"),
        ({"markers": MARKERS, "rng": -1}, ValueError, "rng=-1"),
        ({"markers": MARKERS, "layer": "x"}, KeyError, "layer"),
        ({"reference": "given", "labels_key": "bulk_labels", "bags": "x"}, ValueError, "bags='x'"),
        ({"reference": "given", "labels_key": "bulk_labels", "batch_size": 0}, ValueError, "batch_size=0"),
        ({"reference": "given", "labels_key": "bulk_labels", "reference_layer": "x"}, KeyError, "layer"),
        ({"markers": MARKERS, "bags": "spatial"}, ValueError, "needs coordinates"),
        ({"markers": MARKERS, "precision": "half"}, ValueError, "precision='half'"),
        ({"reference": "given", "labels_key": "bulk_labels", "device": "cuda:99"}, ValueError, "device='cuda:99'"),
    ],
)
def test_errors_come_before_computing(query, reference, tiny_checkpoint, arguments, error, message):
    reference.obs = reference.obs[["bulk_labels"]]
    if isinstance(arguments.get("reference"), str):
        arguments = arguments | {"reference": reference}
    before = query.copy()
    with pytest.raises(error, match=message):
        sct.tl.annotate(query, model=tiny_checkpoint, **arguments)
    assert_equal(query, before)


@pytest.mark.usefixtures("no_computing")
def test_a_reference_that_cannot_be_used(query, reference, tiny_checkpoint):
    half = (query[:, :100].copy(), reference[:, 100:].copy())
    with pytest.raises(ValueError, match="share 0 genes"):
        by_reference(*half, tiny_checkpoint)
    reference.obs["bulk_labels"] = reference.obs["bulk_labels"].where(np.arange(reference.n_obs) > 3)
    with pytest.raises(ValueError, match="4 of 120 cells have no label"):
        by_reference(query, reference, tiny_checkpoint)
    reference.obs["bulk_labels"] = reference.obs["bulk_labels"].astype(str)
    with pytest.raises(ValueError, match=r"4 of 120 cells have no label \('nan': 4\)"):
        by_reference(query, reference, tiny_checkpoint)


def test_an_error_about_the_reference_says_so(query, reference, tiny_checkpoint):
    reference.X.data[0] = -1
    with pytest.raises(ValueError, match=r"reference\.X holds negative"):
        by_reference(query, reference, tiny_checkpoint)


@pytest.mark.usefixtures("quick_embedding")
def test_the_reference_may_have_gene_names_of_its_own(query, reference, tiny_checkpoint):
    expected = by_reference(query, reference, tiny_checkpoint, copy=True)
    reference.var["symbol"] = reference.var_names.to_numpy()
    reference.var_names = [str(number) for number in range(reference.n_vars)]
    with pytest.raises(ValueError, match="at least 50 are needed") as found:
        by_reference(query, reference, tiny_checkpoint)
    assert "reference" in " ".join([str(found.value), *getattr(found.value, "__notes__", [])])
    same = by_reference(query, reference, tiny_checkpoint, reference_gene_names="symbol", copy=True)
    pd.testing.assert_frame_equal(same.obs, expected.obs)
    assert same.uns["sct_label"]["params"]["reference_gene_names"] == "symbol"
    query.var["symbol"] = "not a gene"
    same = by_reference(query, reference, tiny_checkpoint, reference_gene_names="symbol", copy=True)
    pd.testing.assert_frame_equal(same.obs, expected.obs)


@pytest.mark.usefixtures("quick_embedding")
def test_one_cell_is_annotated_without_talk_of_another_tissue(query, reference, tiny_checkpoint, caplog):
    query = query[:1].copy()
    by_reference(query, reference, tiny_checkpoint)
    assert accuracy(query) == 1
    assert "Too few cells to compare" in caplog.text
    assert "another" not in caplog.text
    assert np.isnan(query.uns["sct_label"]["reference"]["difference"])


@pytest.mark.usefixtures("quick_embedding")
def test_the_reference_may_be_the_query(query, tiny_checkpoint):
    by_reference(query, query, tiny_checkpoint)
    assert accuracy(query) > 0.95
    assert query.uns["sct_label"]["reference"]["embedding"]


@pytest.mark.usefixtures("quick_embedding")
def test_arguments_are_recorded(query, reference, tiny_checkpoint):
    reference.layers["other"] = reference.X
    by_reference(query, reference, tiny_checkpoint, reference_layer="other", rng=3, threshold=0.4)
    params = query.uns["sct_label"]["params"]
    assert params["reference_layer"] == "other"
    assert params["rng"] == 3
    assert params["threshold"] == 0.4
    assert params["bags"] == "random"
    assert query.uns["sct_label"]["model"]["name"] == "tiny"


@pytest.mark.usefixtures("quick_embedding")
def test_columns_are_used_in_the_reference_where_it_has_them(query, reference, tiny_checkpoint):
    query.var["symbol"], reference.var["symbol"] = query.var_names.to_numpy(), reference.var_names.to_numpy()
    query.obs["donor"], reference.obs["donor"] = "other", pd.Categorical(np.arange(reference.n_obs) % 3)
    options = {"library_key": "donor", "gene_names": "symbol", "copy": True}
    found = by_reference(query, reference, tiny_checkpoint, **options)
    assert found.uns["sct_label"]["reference"]["calibrated_on"] == "samples"
    renamed = reference.copy()
    renamed.var_names = [f"gene {number}" for number in range(renamed.n_vars)]
    same = by_reference(query, renamed, tiny_checkpoint, **options)
    pd.testing.assert_frame_equal(same.obs, found.obs)
    del reference.obs["donor"], reference.var["symbol"]
    found = by_reference(query, reference, tiny_checkpoint, **options)
    assert found.uns["sct_label"]["reference"]["calibrated_on"] == "cells"
