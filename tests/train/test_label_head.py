from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scanpy_sct as sct
from scanpy_sct.annotate.classifier import fit_embedding_head, make_folds
from scanpy_sct.annotate.expression import fit_expression_head
from scanpy_sct.checkpoints import read_checkpoint, save_checkpoint
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.train.label_head import fit_label_head
from scanpy_sct.workflow import open_cells

TYPES = ["CD19+ B", "CD14+ Monocyte", "CD56+ NK"]
NAMES = {"CD19+ B": "lymphocyte", "CD14+ Monocyte": "monocyte", "CD56+ NK": "lymphocyte", "not here": 7}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture
def cells(pbmc):
    chosen = pbmc.obs["bulk_labels"].isin(TYPES)
    return pbmc[chosen][:120].copy()


@pytest.fixture
def fitted(monkeypatch):
    """Record what the classifiers are fitted to."""
    found = {}

    def embedding(features, labels, folds):
        found.update(features=features, labels=labels, folds=folds)
        return fit_embedding_head(features, labels, folds)

    def expression(cells, genes, labels, donors, folds):
        found.update(cells=cells, genes=genes, labels=labels, groups=donors, folds=folds)
        return fit_expression_head(cells, genes, labels, donors, folds)

    monkeypatch.setattr("scanpy_sct.train.label_head.fit_embedding_head", embedding)
    monkeypatch.setattr("scanpy_sct.train.label_head.fit_expression_head", expression)
    return found


def head_of(vectors, labels, groups=None):
    """Fit a head to embeddings."""
    return fit_embedding_head(vectors, labels, make_folds(np.unique(labels, return_inverse=True)[1], groups, 0))


def embedded(checkpoint, adata, library_key=None):
    """Return the embedding of one object, relative to the training data."""
    cells = open_cells(adata, checkpoint, ReadOptions(library_key=library_key))[1].block()
    return embed_cells(checkpoint, cells, ComputeOptions(bags="random"), "training")


def assert_same_head(one, other):
    assert one.labels == other.labels
    assert one.temperature == other.temperature
    assert one.classifier.reads == other.classifier.reads
    for name in one.classifier.ARRAYS:
        np.testing.assert_array_equal(getattr(one.classifier, name), getattr(other.classifier, name))


@pytest.mark.parametrize("reads", ["expression", "embedding"])
def test_a_fitted_head_labels_cells_also_after_a_file(cells, tiny_checkpoint, tmp_path, reads):
    before = cells.copy()
    model = fit_label_head(tiny_checkpoint, cells, "bulk_labels", reads=reads)
    assert model.label_head.classifier.reads == reads
    assert (cells.X != before.X).nnz == 0
    assert list(cells.obs) == list(before.obs)
    assert tiny_checkpoint.label_head is None
    assert model.network is tiny_checkpoint.network
    assert set(model.label_head.labels) == set(cells.obs["bulk_labels"].unique())
    sct.tl.annotate(cells, model=model, threshold=0)
    # Even a random network keeps enough of the expression for monocytes and lymphocytes.
    assert (cells.obs["sct_label"].astype(str) == cells.obs["bulk_labels"].astype(str)).mean() > 0.7
    stored = read_checkpoint(save_checkpoint(tmp_path / "with_head", model, dtype="float32"))
    other = sct.tl.annotate(before, model=stored, threshold=0, copy=True)
    np.testing.assert_allclose(other.obsm["sct_label_probs"], cells.obsm["sct_label_probs"], atol=1e-5)


def test_a_head_keeps_what_it_was_fitted_to(cells, tiny_checkpoint):
    cells.obs["tissue"] = "blood"
    home = fit_label_head(tiny_checkpoint, [cells[:70], cells[70:]], "bulk_labels").label_head.home
    assert home.sources == ("blood",)
    assert home.n_cells == tuple(cells.obs["bulk_labels"].astype(str).value_counts().sort_index())
    assert home.profiles.shape == (3, len(tiny_checkpoint.genes))
    assert (np.diff(home.distances, axis=1) > 0).all()
    named = fit_label_head(tiny_checkpoint, cells, "bulk_labels", sources=["10x v1", "a"]).label_head.home
    assert named.sources == ("10x v1", "a")
    for sources in ("blood", [1]):
        with pytest.raises(TypeError, match="sources must be a list of strings"):
            fit_label_head(tiny_checkpoint, cells, "bulk_labels", sources=sources)


def test_cells_of_the_fit_are_not_new_and_shuffled_ones_are(cells, tiny_checkpoint, caplog):
    model = fit_label_head(tiny_checkpoint, cells, "bulk_labels")
    found = sct.tl.annotate(cells, model=model, copy=True)
    assert found.obs["sct_label_novelty"].median() < 0.1
    assert "are unlike" not in caplog.text
    other = cells.copy()
    other.var_names = np.random.default_rng(0).permutation(other.var_names)
    sct.tl.annotate(other, model=model)
    assert (other.obs["sct_label"] == "unknown").mean() > 0.9
    assert "are unlike all cells that the label head of 'tiny' was fitted to" in caplog.text


def test_one_object_is_fitted(cells, tiny_checkpoint):
    labels = cells.obs["bulk_labels"].to_numpy().astype(str)
    expected = head_of(embedded(tiny_checkpoint, cells), labels)
    for data in (cells, [cells]):
        found = fit_label_head(tiny_checkpoint, data, "bulk_labels", reads="embedding").label_head
        assert_same_head(found, expected)
    one, other = (fit_label_head(tiny_checkpoint, data, "bulk_labels").label_head for data in (cells, [cells]))
    assert_same_head(one, other)
    assert one.labels == expected.labels


def test_only_genes_of_all_samples_are_read(cells, tiny_checkpoint, fitted):
    """Of both objects, and of both donors of the second."""
    cells.obs["donor"] = np.tile(["x", "y"], 60)
    lacking = cells.var_names[::3]
    second = cells[70:, 30:].copy()
    of_y = (second.obs["donor"] == "y").to_numpy()
    second.X = second.X.multiply(~(of_y[:, None] & second.var_names.isin(lacking))).tocsr()
    second.X.eliminate_zeros()
    model = fit_label_head(tiny_checkpoint, [cells[:70], second], "bulk_labels", donor_key="donor")
    head = model.label_head.classifier
    read = set(tiny_checkpoint.genes[fitted["genes"]])
    known = {gene for gene in tiny_checkpoint.genes if gene}
    assert set(tiny_checkpoint.genes[head.gene_index]) <= read <= known
    rare = np.isin(cells.var_names, second.var_names) & ~np.isin(cells.var_names, lacking)
    assert 0 < len(read) <= rare.sum() + 5


def test_too_few_genes_in_common(cells, tiny_checkpoint):
    halves = [cells[:70, :400].copy(), cells[70:, 370:].copy()]
    with pytest.raises(ValueError, match=r"All samples of data share \d+ genes .* least 50 .* reads=\"embedding\""):
        fit_label_head(tiny_checkpoint, halves, "bulk_labels")
    assert fit_label_head(tiny_checkpoint, halves, "bulk_labels", reads="embedding").label_head is not None
    with pytest.raises(ValueError, match="reads='genes' must be one of"):
        fit_label_head(tiny_checkpoint, cells, "bulk_labels", reads="genes")


def test_a_label_does_not_depend_on_the_other_cells(cells, tiny_checkpoint):
    model = fit_label_head(tiny_checkpoint, cells, "bulk_labels")
    together = sct.tl.annotate(cells, model=model, copy=True).obsm["sct_label_probs"]
    alone = sct.tl.annotate(cells[:20].copy(), model=model, copy=True).obsm["sct_label_probs"]
    np.testing.assert_allclose(alone, together[:20], atol=1e-5)


def test_several_objects_are_embedded_separately_and_left_out_in_turn(cells, tiny_checkpoint, fitted):
    # The second has other genes, in another order.
    parts = [cells[:70], cells[70:, ::-1][:, 30:].copy()]
    head = fit_label_head(tiny_checkpoint, parts, "bulk_labels", reads="embedding").label_head
    vectors = np.concatenate([embedded(tiny_checkpoint, part) for part in parts])
    labels = cells.obs["bulk_labels"].to_numpy().astype(str)
    np.testing.assert_array_equal(fitted["features"], vectors)
    np.testing.assert_array_equal(fitted["labels"], labels)
    assert_same_head(head, head_of(vectors, labels, np.repeat([0, 1], [70, 50])))


def test_a_label_is_rare_or_not_over_all_objects(cells, tiny_checkpoint, fitted):
    rare = np.full(120, "b", dtype=object)
    rare[[3, 5, 80]] = "a"
    rare[90:] = "c"
    cells.obs["labels"] = rare
    fit_label_head(tiny_checkpoint, [cells[:70], cells[70:]], "labels")
    assert fitted["labels"].tolist() == rare.tolist()
    rare[80] = "b"
    cells.obs["labels"] = rare
    fit_label_head(tiny_checkpoint, [cells[:70], cells[70:]], "labels")
    assert fitted["labels"].tolist() == [label for label in rare if label != "a"]
    assert np.bincount(fitted["groups"]).tolist() == [68, 50]


def test_donors_are_left_out_and_not_mixed_in_bags(cells, tiny_checkpoint, fitted):
    cells.obs["donor"] = pd.Categorical(np.tile(["x", "y", "z"], 40))
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", donor_key="donor")
    assert np.unique(fitted["groups"]).size == 3
    assert (pd.crosstab(fitted["groups"], cells.obs["donor"].to_numpy()) > 0).to_numpy().sum() == 3
    assert len(fitted["folds"]) == 3
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", donor_key="donor", reads="embedding")
    np.testing.assert_array_equal(fitted["features"], embedded(tiny_checkpoint, cells, "donor"))
    cells.obs["all"] = 1
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", donor_key="donor", library_key="all", reads="embedding")
    np.testing.assert_array_equal(fitted["features"], embedded(tiny_checkpoint, cells))


def test_donors_of_different_objects_are_different(cells, tiny_checkpoint, fitted):
    cells.obs["donor"] = np.tile([1, 2], 60)
    fit_label_head(tiny_checkpoint, [cells[:70], cells[70:]], "bulk_labels", donor_key="donor")
    assert np.bincount(fitted["groups"]).tolist() == [35, 35, 25, 25]


def test_labels_of_one_donor_are_learnt_and_logged(cells, tiny_checkpoint, caplog):
    cells.obs["donor"] = np.tile(["x", "y"], 60)
    cells = cells[(cells.obs["bulk_labels"] != "CD56+ NK") | (cells.obs["donor"] == "x")].copy()
    with caplog.at_level(logging.WARNING):
        head = fit_label_head(tiny_checkpoint, cells, "bulk_labels", donor_key="donor").label_head
    assert set(head.labels) == set(TYPES)
    assert [record.message for record in caplog.records if record.name.endswith("labelled")] == [
        "Labels that other donors lack are not part of the calibration: CD56+ NK."
    ]


def test_labels_are_merged_renamed_and_left_out(cells, tiny_checkpoint, fitted):
    before = cells.copy()
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", names=NAMES)
    assert fitted["labels"].tolist() == [NAMES[label] for label in cells.obs["bulk_labels"]]
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", names=NAMES | {"CD56+ NK": None})
    others = cells[cells.obs["bulk_labels"] != "CD56+ NK"]
    assert fitted["labels"].tolist() == [NAMES[label] for label in others.obs["bulk_labels"]]
    # These cells are in no bag either.
    names = NAMES | {"CD56+ NK": None}
    fit_label_head(tiny_checkpoint, cells, "bulk_labels", names=names, reads="embedding")
    np.testing.assert_array_equal(fitted["features"], embedded(tiny_checkpoint, others.copy()))


def test_cells_without_counts_are_not_learnt_from(cells, tiny_checkpoint, fitted):
    empty = np.isin(np.arange(120), [50, 119])
    cells.X = cells.X.multiply(~empty[:, None]).tocsr()
    cells.X.eliminate_zeros()
    fit_label_head(tiny_checkpoint, [cells[:70], cells[70:]], "bulk_labels", names=NAMES | {"CD56+ NK": None})
    kept = cells[~empty & (cells.obs["bulk_labels"] != "CD56+ NK").to_numpy()]
    assert fitted["labels"].tolist() == [NAMES[label] for label in kept.obs["bulk_labels"]]
    assert fitted["groups"].tolist() == [int(name in cells.obs_names[70:]) for name in kept.obs_names]


def test_numbers_are_renamed_and_unknown_is_left_out(cells, tiny_checkpoint):
    cells.obs["numbers"] = cells.obs["bulk_labels"].map(dict(zip(TYPES, [1, 2, 3], strict=True))).astype(int)
    head = fit_label_head(tiny_checkpoint, cells, "numbers", names={1: "B", 2: "M", 3: "NK"}).label_head
    assert head.labels == ("B", "M", "NK")
    cells.obs["text"] = cells.obs["bulk_labels"].astype(str).replace("CD56+ NK", "Unknown")
    names = {"CD19+ B": "B", "CD14+ Monocyte": "M", "Unknown": None}
    assert fit_label_head(tiny_checkpoint, cells, "text", names=names).label_head.labels == ("B", "M")


def test_errors_come_before_computing(cells, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("scanpy_sct.train.label_head.embed_cells", pytest.fail)
    with pytest.raises(KeyError, match=r"'nothing' is not a column of data\.obs"):
        fit_label_head(tiny_checkpoint, cells, "nothing")
    cells.obs["one"] = "B"
    with pytest.raises(ValueError, match="at least two labels"):
        fit_label_head(tiny_checkpoint, cells, "one")
    with pytest.raises(KeyError, match=r"donor_key='person' is not a column of data\[0\]\.obs; there are: 'bulk"):
        fit_label_head(tiny_checkpoint, [cells, cells], "bulk_labels", donor_key="person")


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"CD19+ B": "B"}, ValueError, r"lacks 2 of the 3 labels .*'bulk_labels': \['CD14\+ Monocyte', 'CD56\+ NK'\]"),
        (NAMES | {"CD19+ B": ""}, ValueError, r"must give strings, or None .*\{'CD19\+ B': ''\}"),
        (NAMES | {"CD19+ B": 3}, ValueError, r"must give strings, or None"),
        (NAMES | {"CD19+ B": "unknown"}, ValueError, r"'unknown' is reserved"),
        (NAMES | {"CD14+ Monocyte": None}, ValueError, "at least two labels .* found lymphocyte"),
        (dict.fromkeys(TYPES), ValueError, "at least two labels"),
        ("cell_ontology", TypeError, "must be a mapping from labels to new names; found str"),
        (pd.Series(NAMES), TypeError, r"found Series.*to_dict"),
    ],
)
def test_names_that_cannot_be_used(cells, tiny_checkpoint, monkeypatch, names, error, message):
    monkeypatch.setattr("scanpy_sct.train.label_head.embed_cells", pytest.fail)
    with pytest.raises(error, match=message):
        fit_label_head(tiny_checkpoint, cells, "bulk_labels", names=names)


def test_cells_without_a_label_are_refused_also_with_names(cells, tiny_checkpoint):
    cells.obs.loc[cells.obs_names[:4], "bulk_labels"] = np.nan
    with pytest.raises(ValueError, match="4 of 120 cells have no label"):
        fit_label_head(tiny_checkpoint, cells, "bulk_labels", names=NAMES)


@pytest.mark.parametrize(
    ("donors", "message"),
    [
        (["x"] * 120, "donor_key='donor': all cells to learn from are of one donor; .* leave donor_key out"),
        (["x"] * 118 + [None, np.nan], r"donor_key='donor': 2 of 120 cells of data have no donor"),
        (None, "no label remains when its donor is left out; harmonise labels with names="),
    ],
)
def test_donors_that_cannot_be_used(cells, tiny_checkpoint, monkeypatch, donors, message):
    monkeypatch.setattr("scanpy_sct.train.label_head.embed_cells", pytest.fail)
    cells.obs["donor"] = cells.obs["bulk_labels"].astype(str) if donors is None else donors
    with pytest.raises(ValueError, match=message):
        fit_label_head(tiny_checkpoint, cells, "bulk_labels", donor_key="donor")


def test_objects_that_cannot_be_used(cells, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("scanpy_sct.train.label_head.embed_cells", pytest.fail)
    for data, error, message in [
        ([], ValueError, "data is empty"),
        ("cells.h5ad", TypeError, r"data must be an AnnData, found str\. Read the file first"),
        ([cells, cells.obs], TypeError, r"data\[1\] must be an AnnData, found DataFrame"),
    ]:
        with pytest.raises(error, match=message):
            fit_label_head(tiny_checkpoint, data, "bulk_labels")
    halves = [cells[:60], cells[60:].copy()]
    halves[1].obs["bulk_labels"] = "rest"
    with pytest.raises(ValueError, match=r"every object is a donor, .* of one donor.*anndata\.concat"):
        fit_label_head(tiny_checkpoint, halves, "bulk_labels", names=dict.fromkeys(["rest"]) | {k: k for k in TYPES})
    broken = ad.AnnData(cells.X[:60], cells.obs[:60], pd.DataFrame(index=[f"g{i}" for i in range(cells.n_vars)]))
    with pytest.raises(ValueError) as raised:
        fit_label_head(tiny_checkpoint, [cells, broken], "bulk_labels")
    assert "This is about data[1]." in raised.value.__notes__
    with pytest.raises(ValueError, match="needs coordinates"):
        fit_label_head(tiny_checkpoint, [cells, cells], "bulk_labels", bags="spatial")
