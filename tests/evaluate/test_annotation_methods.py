from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from scanpy_sct.annotate.annotators import ANNOTATORS
from scanpy_sct.annotate.marker_table import marker_table
from scanpy_sct.checkpoints import LabelHead, load_model
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier
from scanpy_sct.evaluate import annotation_methods as methods
from scanpy_sct.evaluate import registry
from scanpy_sct.evaluate.annotation_methods import (
    Context,
    choose,
    knn,
    logistic_regression,
    marker_columns,
    marker_mean,
)

MARKERS = {"CD19+ B": ["CD79A", "CD79B"], "CD14+ Monocyte": ["LYZ", "CST3"], "CD56+ NK": ["NKG7", "GNLY"]}


@pytest.fixture(scope="module")
def cells(pbmc):
    """Cells of four types."""
    part = pbmc[pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK", "Dendritic"])].copy()
    part.obs["label"] = part.obs["bulk_labels"].astype(str)
    return part


@pytest.fixture(scope="module")
def context(cells, tiny_checkpoint):
    names = cells.var_names
    return Context(tiny_checkpoint, markers=MARKERS, labels=frozenset(cells.obs["label"]), var_names=names)


def with_head(checkpoint, *labels):
    zeros = np.zeros((len(labels), 16), dtype=np.float32)
    bias, ones = np.zeros(len(labels), dtype=np.float32), np.ones(16, dtype=np.float32)
    return replace(checkpoint, label_head=LabelHead(labels, EmbeddingClassifier(zeros, bias, 0 * ones, ones)))


def test_every_annotator_of_the_package_is_a_method(context):
    known = methods.sct_methods(context)
    for annotator in ANNOTATORS.values():
        method = known["sct" if annotator.name == "reference" else f"sct_{annotator.name}"]
        assert methods.learns(method) == annotator.learns
        assert methods.is_calibrated(method) == annotator.calibrated


def test_all_methods_whose_needs_are_met_are_the_default(context, tiny_checkpoint):
    def names(context):
        return [method.name for method in choose(None, context)]

    assert names(Context()) == ["logistic_regression", "knn"]
    everything = ["sct", "sct_markers", "logistic_regression", "knn", "marker_mean"]
    assert names(context) == everything
    assert names(replace(context, var_names=pd.Index(["CD79A", "x"]))) == everything[:-1]  # markers of one type
    fitting = replace(context, checkpoint=with_head(tiny_checkpoint, "CD19+ B", "other"))
    assert names(fitting) == [*everything[:2], "sct_label_head", *everything[2:]]
    assert names(replace(context, checkpoint=with_head(tiny_checkpoint, "B cell", "other"))) == everything


def test_a_label_head_is_no_default_where_its_genes_are_lacking():
    mini = load_model("sct-mini")
    genes = pd.Index(mini.genes[mini.genes != ""])
    is_marker = genes.isin(mini.genes[mini.label_head.classifier.marker_index])
    for names, fits in [(genes, True), (genes[~is_marker], False), (genes[is_marker][:20], False)]:
        context = Context(mini, labels=frozenset(["B cell", "x"]), var_names=names)
        assert ("sct_label_head" in [method.name for method in choose(None, context)]) == fits


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("x", "found 'x'"),
        ([], "found none"),
        (["knn", "knn"], "must be different"),
        ("sct", "needs checkpoint: name a model with `model=`"),
        (["knn", "sct_markers"], "needs checkpoint, markers: .*`model=`.*`markers=`"),
        ("marker_mean", "'marker_mean' of `methods` needs .* markers of at least two types"),
        ("sct_label_head", "needs .* whose label head"),
        (3, "not iterable"),
    ],
)
def test_methods_that_cannot_be_used(requested, message):
    with pytest.raises((ValueError, TypeError), match=message):
        choose(requested, Context())


def test_novelty_lowers_the_probabilities_of_sct(cells, context, monkeypatch):
    seen = {}

    def annotate(query, **options):
        seen.update(options)
        query.obsm["label_probs"] = pd.DataFrame({"a|b": [0.75], "c": 0.25}, index=query.obs_names)
        query.obs["label_novelty"] = 0.5
        return query

    monkeypatch.setattr("scanpy_sct.tl.annotate", annotate)
    reference, query = cells[:2].copy(), cells[:1].copy()
    reference.obs["label"] = ["a/b", "c"]
    table = methods.sct_methods(context)["sct"].function(reference, query, "label", 3)
    assert table.to_numpy().tolist() == [[0.375, 0.125]]
    assert list(table) == ["a/b", "c"]
    assert seen["rng"] == 3
    assert seen["labels_key"] == "label"
    assert seen["library_key"] is None
    reference.obs["donor"] = query.obs["donor"] = "x"
    with_donors = replace(context, library_key="donor")
    methods.sct_methods(with_donors)["sct"].function(reference, query, "label", 3)
    assert seen["library_key"] == "donor"
    query.uns |= {"markers": marker_table({"a/b": ["CD79A"], "c": ["LYZ"]})}
    seen.clear()
    assert list(methods.sct_methods(context)["sct_markers"].function(cells, query, "label", 3)) == ["a/b", "c"]
    assert seen["markers"] == MARKERS
    assert "reference" not in seen


def test_baselines_are_those_of_scikit_learn(cells):
    reference, query = cells[::2].copy(), cells[1::2].copy()
    known, others = methods.shared_components(reference, query, 0)
    assert known.shape == (reference.n_obs, 50)
    model = LogisticRegression(max_iter=1000).fit(known, reference.obs["label"])
    table = logistic_regression(reference, query, "label", 0)
    np.testing.assert_allclose(table, model.predict_proba(others), atol=1e-6)
    for method in (logistic_regression, knn):
        table = method(reference, query, "label", 0)
        assert (table.idxmax(axis=1) == query.obs["label"]).mean() > 0.8
    nearest = np.linalg.norm(known - others[0], axis=1).argsort()[:15]
    votes = reference.obs["label"].iloc[nearest].value_counts(normalize=True)
    assert table.iloc[0].to_dict() == pytest.approx({label: votes.get(label, 0) for label in table})


def test_marker_mean(cells):
    query = cells[cells.obs["label"].isin(list(MARKERS))].copy()
    query.uns |= {"markers": marker_table(MARKERS)}
    table = marker_mean(query, query, "label", 0)
    assert list(table) == list(MARKERS)
    assert (table.idxmax(axis=1) == query.obs["label"]).mean() > 0.8
    assert (table.sum(axis=1) < 1).all()  # "none of these" takes part


def test_markers_are_found_by_name_or_id():
    markers = pd.DataFrame({"label": ["B", "B", "B", "NK", "x"], "gene": ["CD79A", "mine", "CD79A", "GNLY", "?"]})
    names = pd.Index(["ENSG00000105369", "mine", "GNLY", "GNLY", ""])  # the id is that of CD79A
    found = marker_columns(markers, names)
    assert {label: columns.tolist() for label, columns in found.items()} == {"B": [0, 1], "NK": [2]}


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_of_genes_with_one_name_the_first_is_taken(cells):
    twice = ad.concat([cells, cells[:, :5].copy()], axis=1, merge="first")
    twice.X = twice.X.tocsr()
    twice.X.data[twice.X.indices >= cells.n_vars] += 1
    once = methods.shared_components(cells, cells, 0)
    for found, expected in zip(methods.shared_components(twice, cells, 0), once, strict=True):
        np.testing.assert_allclose(found, expected)


def test_log_normalised_values_and_counts_become_the_same():
    counts = np.random.default_rng(0).poisson(2, size=(60, 30)).astype(np.float32)
    total = counts.sum(1, keepdims=True)
    one, other = ad.AnnData(counts), ad.AnnData(np.log1p(counts / total * 1e4))
    np.testing.assert_allclose(methods.log_values(one).toarray(), methods.log_values(other).toarray(), rtol=1e-4)


def test_registered_methods_take_part(context, monkeypatch):
    monkeypatch.setattr("scanpy_sct.evaluate.registry._registered", dict(registry._registered))

    @registry.method("mine", task="annotation", needs="markers")
    def mine(reference, query, labels_key, rng):
        raise NotImplementedError

    assert "mine" not in [method.name for method in choose(None, Context())]
    (found,) = choose("mine", context)
    assert found.function is mine
    assert not methods.learns(found)
    assert not methods.is_calibrated(found)
    assert found in choose(None, context)
