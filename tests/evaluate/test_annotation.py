from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal

import scanpy_sct as sct
from scanpy_sct.evaluate._arguments import read_strings
from scanpy_sct.evaluate.annotation import COLUMNS, annotation

PLAIN = ["logistic_regression", "knn"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def cells(pbmc):
    """Cells of four types, of six made-up donors."""
    part = pbmc[pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK", "Dendritic"])].copy()
    part.obs["donor"] = pd.Categorical(np.random.default_rng(0).integers(6, size=part.n_obs).astype(str))
    return part


def value(table, metric, method=None, split=None):
    rows = table[table["metric"] == metric]
    rows = rows if method is None else rows[rows["method"] == method]
    rows = rows if split is None else rows[rows["split"] == split]
    return rows["value"].item()


def oracle(strength=0.9):
    """A method that reads the truth from the names of the cells."""

    def method(reference, query, labels_key, rng):
        assert labels_key not in query.obs
        assert "bulk_labels" not in query.obs
        names = np.unique(reference.obs[labels_key])
        truth = query.obs_names.str.split("|").str[1]
        table = np.full((query.n_obs, len(names)), (1 - strength) / (len(names) - 1))
        for column, name in enumerate(names):
            table[truth == name, column] = strength
        table[~truth.isin(names)] = 1 / len(names)
        return pd.DataFrame(table, index=query.obs_names, columns=names)

    return method


@pytest.fixture(scope="module")
def telling(cells):
    """The same cells, whose names end in their label."""
    renamed = cells.copy()
    renamed.obs_names = [f"{n}|{label}" for n, label in enumerate(renamed.obs["bulk_labels"].astype(str))]
    return renamed


def test_methods_do_not_see_columns_that_are_not_genes(cells, with_antibodies):
    def look(reference, query, labels_key, rng):
        assert list(query.var_names) == list(reference.var_names) == list(cells.var_names)
        np.testing.assert_array_equal(query.X.toarray(), cells[query.obs_names].X.toarray())
        return pd.DataFrame(1.0, index=query.obs_names, columns=reference.obs[labels_key].unique())

    annotation(with_antibodies(cells), "bulk_labels", methods=look, model=None, n_bootstrap=2)


def test_a_method_that_knows_scores_one(telling):
    table = annotation(telling, "bulk_labels", methods=oracle(), model=None, leave_one_type_out=True, n_bootstrap=20)
    assert list(table.columns) == COLUMNS
    for metric in ("accuracy", "macro_f1", "accuracy_at_90", "accuracy_at_50"):
        assert value(table, metric) == 1
    assert value(table, "calibration_error") == pytest.approx(0.1)
    assert value(table, "unknown_auroc", split="leave one type out") == 1
    assert table["split"].str.startswith("without ").sum() == 4
    assert (table["method"] == "method").all()


def test_halves_are_stratified_and_share_no_cell(telling):
    seen = []

    def spy(reference, query, labels_key, rng):
        seen.append((set(reference.obs_names), set(query.obs_names)))
        return oracle()(reference, query, labels_key, rng)

    table = annotation(telling, "bulk_labels", methods=[spy], model=None, n_bootstrap=0)
    ((known, others),) = seen
    assert not known & others
    assert len(known | others) == telling.n_obs
    counts = [pd.Series(sorted(part)).str.split("|").str[1].value_counts() for part in (known, others)]
    assert (counts[0] - counts[1]).abs().max() <= 1
    assert set(table["split"]) == {"halves"}
    assert (table["n_cells"] == len(others)).all()
    assert table["lower"].isna().all()


def test_every_donor_is_annotated_from_the_others(telling):
    seen = []

    def spy(reference, query, labels_key, rng):
        seen.append((set(reference.obs["donor"]), set(query.obs["donor"])))
        return oracle()(reference, query, labels_key, rng)

    table = annotation(telling, "bulk_labels", donor_key="donor", methods=spy, model=None, n_bootstrap=10)
    assert len(seen) == 6
    assert all(len(query) == 1 and not reference & query for reference, query in seen)
    assert set(table["split"]) == {"held-out donors"}
    assert (table["n_cells"] == telling.n_obs).all()


def test_cells_of_types_that_the_reference_lacks_count_in_the_auroc_alone(telling):
    reference = telling[telling.obs["bulk_labels"] != "CD56+ NK"].copy()
    table = annotation(telling, "bulk_labels", reference=reference, methods=oracle(), model=None, n_bootstrap=10)
    assert set(table["split"]) == {"reference"}
    assert value(table, "accuracy") == 1
    assert (table.loc[table["metric"] == "accuracy", "n_cells"] == reference.n_obs).all()
    assert value(table, "unknown_auroc") == 1


def test_a_type_left_out_is_compared_with_known_types_alone(telling):
    """Cells of a type that the reference lacks anyway do not count."""
    labels = telling.obs["bulk_labels"]
    reference = telling[labels != "CD56+ NK"].copy()
    options = {"reference": reference, "methods": oracle(), "model": None, "n_bootstrap": 0}
    table = annotation(telling, "bulk_labels", leave_one_type_out=True, **options)
    rows = table[table["split"].str.startswith("without ")]
    assert sorted(rows["split"]) == ["without CD14+ Monocyte", "without CD19+ B", "without Dendritic"]
    assert (rows["n_cells"] == (labels != "CD56+ NK").sum()).all()


def test_baselines_annotate_most_cells_and_their_intervals_hold_the_value(cells):
    before = cells.copy()
    table = annotation(cells, "bulk_labels", methods=PLAIN, model=None, n_bootstrap=50)
    assert_equal(cells, before)
    assert (table.loc[table["metric"] == "accuracy", "value"] > 0.8).all()
    assert ((table["lower"] <= table["value"] + 1e-9) & (table["value"] <= table["upper"] + 1e-9))[
        table["metric"] != "calibration_error"
    ].all()
    again = annotation(cells, "bulk_labels", methods=PLAIN, model=None, n_bootstrap=50)
    pd.testing.assert_frame_equal(table, again)


def test_sct_takes_part(cells, tiny_checkpoint):
    options = {"methods": ["sct", "sct_markers"], "model": tiny_checkpoint, "markers": MARKERS}
    table = annotation(cells[:120].copy(), "bulk_labels", **options, n_bootstrap=10)
    assert value(table, "accuracy", "sct") > 0.8
    assert "calibration_error" not in set(table.loc[table["method"] == "sct_markers", "metric"])


MARKERS = {"CD19+ B": ["CD79A", "CD79B"], "CD14+ Monocyte": ["LYZ", "CST3"], "CD56+ NK": ["NKG7", "GNLY"]}


def test_markers_alone_need_no_labelled_cells(cells, tiny_checkpoint):
    part = cells[:20].copy()
    table = annotation(
        part, "bulk_labels", methods="sct_markers", model=tiny_checkpoint, markers=MARKERS, n_bootstrap=0
    )
    assert set(table["split"]) == {"all cells"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels_key": "x"}, KeyError, r"labels_key='x' is not a column of adata\.obs"),
        ({"donor_key": "x"}, KeyError, r"donor_key='x' is not a column of adata\.obs"),
        ({"methods": "x"}, ValueError, "found 'x'"),
        ({"methods": []}, ValueError, "found none"),
        ({"methods": ["knn", "knn"]}, ValueError, "must be different"),
        ({"methods": "sct"}, ValueError, "needs checkpoint: name a model with `model=`"),
        ({"methods": "marker_mean"}, ValueError, "give marker genes with `markers=`"),
        ({"reference": pd.DataFrame()}, TypeError, "found DataFrame"),
        ({"layer": "x"}, KeyError, "layer"),
        ({"gene_names": "x"}, KeyError, r"gene_names='x' is not a column of adata\.var"),
        ({"n_bootstrap": 1.5}, TypeError, "n_bootstrap=1.5 must be a"),
        ({"n_bootstrap": -1}, ValueError, "n_bootstrap=-1"),
        ({"rng": -1}, ValueError, "rng=-1"),
        ({"methods": lambda *_: pd.DataFrame({"a": [2.0]})}, ValueError, "must return a DataFrame"),
    ],
)
def test_errors_say_what_was_found(cells, arguments, error, message):
    with pytest.raises(error, match=message):
        annotation(cells, **({"labels_key": "bulk_labels", "model": None, "methods": "knn"} | arguments))


def test_labels_of_other_names_are_refused(cells):
    reference = cells.copy()
    reference.obs["bulk_labels"] = reference.obs["bulk_labels"].astype(str) + " x"
    with pytest.raises(ValueError, match="knows none of the labels of adata"):
        annotation(cells, "bulk_labels", reference=reference, methods="knn", model=None, n_bootstrap=0)


def as_ids(cells):
    """Copy with names that say nothing, the right ones in a column of `.var`."""
    other = cells.copy()
    other.var["symbol"] = other.var_names.to_numpy()
    other.var["gene_symbol"] = "x"  # not the column that is asked for
    other.var_names = [f"feature {number}" for number in range(other.n_vars)]
    return other


def test_genes_go_by_a_column(cells, tiny_checkpoint):
    """Also where the reference names its genes in `.var_names`, for lack of that column."""
    part = cells[:60, :600].copy()
    options = {
        "methods": [*PLAIN, "sct", "sct_markers"],
        "model": tiny_checkpoint,
        "markers": MARKERS,
        "n_bootstrap": 0,
    }
    expected = annotation(part, "bulk_labels", **options)
    found = annotation(as_ids(part), "bulk_labels", gene_names="symbol", **options)
    pd.testing.assert_frame_equal(found, expected)
    options |= {"methods": "knn"}
    expected = annotation(part, "bulk_labels", reference=cells[::2].copy(), **options)
    for reference in (cells[::2].copy(), as_ids(cells[::2])):
        found = annotation(as_ids(part), "bulk_labels", reference=reference, gene_names="symbol", **options)
        pd.testing.assert_frame_equal(found, expected)


def test_methods_that_share_no_genes_are_refused_first(cells):
    def never(*_):
        pytest.fail("computed before everything was checked")

    message = r"Methods .*'knn' need at least 2 .*found 0 \(adata: 'feature 0'.*; labelled cells: '.*`gene_names=`"
    options = {"reference": cells, "model": None}
    with pytest.raises(ValueError, match=message):
        annotation(as_ids(cells), "bulk_labels", methods=[never, "knn", "logistic_regression"], **options)


def test_cells_that_are_not_learnt_from_may_have_any_labels(cells):
    """One label alone, rare ones, and "unknown"; missing ones are refused."""
    reference = cells[::2].copy()
    query = cells[1::2][:40].copy()
    query.obs["bulk_labels"] = "CD19+ B"
    query.obs.iloc[:10, query.obs.columns.get_loc("bulk_labels")] = "unknown"
    options = {"methods": "knn", "model": None, "n_bootstrap": 0}
    table = annotation(query, "bulk_labels", reference=reference, **options)
    assert (table.loc[table["metric"] == "accuracy", "n_cells"] == 30).all()
    assert "unknown_auroc" in set(table["metric"])
    with pytest.raises(ValueError, match=r"adata\.obs\['bulk_labels'\]: 'unknown' is reserved"):
        annotation(query, "bulk_labels", **options)
    with pytest.raises(ValueError, match=r"reference\.obs\['bulk_labels'\]: 'unknown' is reserved"):
        annotation(cells, "bulk_labels", reference=query, **options)
    query.obs.iloc[:3, query.obs.columns.get_loc("bulk_labels")] = None
    with pytest.raises(ValueError, match=r"adata\.obs\['bulk_labels'\] \(labels_key\) is missing for 3 of 40"):
        annotation(query, "bulk_labels", reference=reference, **options)
    query.obs["bulk_labels"] = query.obs["bulk_labels"].astype(str)
    with pytest.raises(ValueError, match=r"is missing for 3 of 40 cells \('[a-zA-Z]+': 3\); remove these cells"):
        annotation(query, "bulk_labels", reference=reference, **options)


def test_texts_that_mean_no_label_count_as_missing(cells, caplog):
    cells = cells[:6].copy()
    cells.obs["region"] = ["a", "NaN", "", "unlabelled", "b", np.nan]
    labels = read_strings(cells, "region", "labels_key")
    assert labels.notna().tolist() == [True, False, False, False, True, False]
    assert "4 cells count as unlabelled ('NaN': 1, '': 1, 'unlabelled': 1)" in caplog.text
    assert read_strings(cells, "region", "batch_key").notna().sum() == 5


def test_markers_annotate_cells_of_one_label(cells, tiny_checkpoint):
    alone = cells[cells.obs["bulk_labels"] == "CD19+ B"][:20].copy()
    options = {"methods": "sct_markers", "model": tiny_checkpoint, "markers": MARKERS, "n_bootstrap": 0}
    assert set(annotation(alone, "bulk_labels", **options)["split"]) == {"all cells"}


def test_no_expression_at_all(cells):
    empty = cells.copy()
    empty.X = empty.X * 0
    with pytest.raises(ValueError, match="reference has no expression"):
        annotation(cells, "bulk_labels", reference=empty, methods="knn", model=None)


def test_functions_find_the_markers(cells):
    seen = {}

    def method(reference, query, labels_key, rng):
        seen["markers"] = query.uns["markers"]
        return pd.DataFrame(0.25, index=query.obs_names, columns=np.unique(reference.obs[labels_key]))

    annotation(cells, "bulk_labels", methods=method, model=None, markers=MARKERS, n_bootstrap=0)
    rows = [[label, gene] for label, genes in MARKERS.items() for gene in genes]
    assert seen["markers"].to_numpy().tolist() == rows
    assert list(seen["markers"]) == ["label", "gene"]


def test_the_label_head_takes_part_where_labels_agree(cells, tiny_checkpoint):
    part = cells[:60].copy()
    model = sct.train.fit_label_head(tiny_checkpoint, cells[60:].copy(), "bulk_labels")
    table = annotation(part, "bulk_labels", methods="sct_label_head", model=model, n_bootstrap=0)
    assert set(table["split"]) == {"all cells"}
    assert value(table, "accuracy") > 0.5
    assert "calibration_error" in set(table["metric"])
    part.obs["bulk_labels"] = part.obs["bulk_labels"].astype(str) + " x"
    with pytest.raises(ValueError, match="whose label head has some of the labels"):
        annotation(part, "bulk_labels", methods="sct_label_head", model=model)
