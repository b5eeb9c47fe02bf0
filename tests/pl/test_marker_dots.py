from __future__ import annotations

import logging

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scanpy_sct as sct
from scanpy_sct.write import write_annotation, write_imputation

GENES = ["CD3D", "CD3E", "MS4A1", "LYZ", "spike"]
MARKERS = {"B": ["CD20"], "T": ["CD3D", "CD3E"]}


@pytest.fixture
def annotated():
    """Counts of five columns in three T cells, two B cells and one unknown cell; cells have a total of 10."""
    counts = [[5, 3, 0, 0, 2], [8, 0, 0, 0, 2], [4, 4, 1, 1, 0], [0, 0, 9, 0, 1], [0, 1, 8, 0, 1], [0, 0, 0, 10, 0]]
    adata = AnnData(np.array(counts, dtype="float32"), var=pd.DataFrame(index=GENES))
    adata.obs_names = [f"c{number}" for number in range(6)]
    labels = pd.Categorical(["T", "T", "T", "B", "B", "unknown"])
    score = np.array([0.6, 0.7, 0.8, 0.95, 0.9, 0.3])
    probabilities = pd.DataFrame({"B": 1 - score, "T": score}, index=adata.obs_names)
    write_annotation(
        adata, labels=labels, score=score, probabilities=probabilities, params={}, details={"scale": "counts"}
    )
    return adata


@pytest.fixture
def imputed(annotated):
    layer = np.arange(30, dtype="float32").reshape(6, 5) / 10
    table = pd.DataFrame({"CD19": np.linspace(0, 1, 6)}, index=annotated.obs_names)
    write_imputation(
        annotated, "sct", layer=layer, imputed=np.ones(5, bool), recovery=np.ones(5), params={}, unmeasured=table
    )
    return annotated


def names(ax):
    return [[tick.get_text() for tick in ticks] for ticks in (ax.get_yticklabels(), ax.get_xticklabels())]


def dots(ax):
    """Colours of the dots relative to the colour map, and their sizes, (labels, genes)."""
    points, shape = ax.collections[-1], tuple(map(len, names(ax)))
    assert [tuple(place) for place in points.get_offsets()] == [(x + 0.5, y + 0.5) for y, x in np.ndindex(shape)]
    return points.get_facecolor().reshape(*shape, 4), np.asarray(points.get_sizes()).reshape(shape)


def test_dots_are_observed_means_and_fractions(annotated):
    (ax,) = sct.pl.marker_dots(annotated, MARKERS, vmin=0, vmax=10)
    assert names(ax) == [["B", "T", "unknown"], ["MS4A1", "CD3D", "CD3E"]]
    colours, sizes = dots(ax)
    kinds = annotated.obs["sct_label"].to_numpy()
    values = pd.DataFrame(np.log1p(annotated.X * 1000), columns=GENES).groupby(kinds, observed=True)
    means = values.mean().loc[["B", "T", "unknown"], ["MS4A1", "CD3D", "CD3E"]]
    np.testing.assert_allclose(colours, plt.get_cmap("Blues")(means.to_numpy() / 10), atol=0.02)
    fractions = np.array([[1, 0, 1 / 2], [1 / 3, 1, 2 / 3], [0, 0, 0]])
    np.testing.assert_allclose(sizes, sizes.max() * fractions**1.5, rtol=1e-5)  # scanpy's exponent


def test_sizes_mean_the_same_in_all_pictures(annotated):
    sizes = dots(sct.pl.marker_dots(annotated, MARKERS)[0])[1]
    few = dots(sct.pl.marker_dots(annotated, {"a": ["CD3E"]})[0])[1]
    np.testing.assert_allclose(few[:, 0], sizes[[0, 1, 2], 2])


def test_labels_have_the_order_of_the_markers(annotated):
    (ax,) = sct.pl.marker_dots(annotated, {"T": ["CD3D"], "B": ["MS4A1"]})
    assert names(ax)[0] == ["T", "B", "unknown"]


def test_other_columns_can_be_used_and_cells_without_a_label_are_left_out(annotated):
    annotated.obs["known"] = ["x", "x", "y", "y", None, None]
    (ax,) = sct.pl.marker_dots(annotated, MARKERS, groupby="known")
    assert names(ax)[0] == ["x", "y"]
    sizes = dots(ax)[1]
    np.testing.assert_allclose(sizes / sizes.max(), np.array([[0, 1, 0.5], [1, 0.5, 0.5]]) ** 1.5, rtol=1e-5)


def test_imputed_values_stand_below_also_those_of_unmeasured_genes(imputed):
    observed, below = sct.pl.marker_dots(imputed, {**MARKERS, "B": ["MS4A1", "CD19"]}, imputed="sct")
    expected = ["MS4A1", "CD19 (not measured)", "CD3D", "CD3E"]
    assert names(observed)[1] == names(below)[1] == expected
    assert (dots(observed)[1][:, 1] == 0).all()
    means = np.asarray(below.collections[0].get_array()).reshape(3, 4)
    np.testing.assert_allclose(means[:, 1], [0.7, 0.2, 1.0], rtol=1e-5)
    np.testing.assert_allclose(means[:, 2], [1.75, 0.5, 2.5], rtol=1e-5)


def test_what_is_not_plotted_is_named(annotated, caplog):
    with caplog.at_level(logging.WARNING):
        (ax,) = sct.pl.marker_dots(annotated, {"B": ["MS4A1", "CD19"], "T": ["CD3D", "nonsense"]})
    assert names(ax)[1] == ["MS4A1", "CD3D"]
    assert "not plotted, as they were not measured or not known: CD19, nonsense. imputed= plots" in caplog.text


def test_a_column_that_is_no_known_gene_can_be_a_marker(annotated):
    (ax,) = sct.pl.marker_dots(annotated, {"B": ["MS4A1"], "T": ["spike"]})
    assert names(ax)[1] == ["MS4A1", "spike"]


def test_a_name_of_several_genes_shows_all_that_were_measured(annotated):
    (ax,) = sct.pl.marker_dots(annotated, {"B": ["CD20"], "T": ["CD3"]})
    assert names(ax)[1] == ["MS4A1", "CD3D", "CD3E"]


def test_units_are_on_the_colour_bars(annotated):
    (ax,) = sct.pl.marker_dots(annotated, MARKERS)
    assert "log(1 + counts\nper 10,000), mean" in [other.get_title() for other in ax.figure.axes]
    annotated.uns["sct_label"]["scale"] = "log"
    (ax,) = sct.pl.marker_dots(annotated, MARKERS)
    assert "expression, mean\n(log scale)" in [other.get_title() for other in ax.figure.axes]


def test_what_cannot_be_plotted(annotated):
    with pytest.raises(KeyError, match=r"key='other' is not an annotation.*available: 'sct_label'"):
        sct.pl.marker_dots(annotated, MARKERS, key="other")
    with pytest.raises(KeyError, match=r"groupby='kind' is not a column"):
        sct.pl.marker_dots(annotated, MARKERS, groupby="kind")
    with pytest.raises(KeyError, match=r"key='sct' is not an imputation"):
        sct.pl.marker_dots(annotated, MARKERS, imputed="sct")
    with pytest.raises(ValueError, match=r"none of CD19, CD8A was measured in adata"):
        sct.pl.marker_dots(annotated, {"B": ["CD19"], "T": ["CD8A"]})
    with pytest.raises(ValueError, match=r"axes has 2 axes; expected 1"):
        sct.pl.marker_dots(annotated, MARKERS, axes=plt.subplots(1, 2)[1])


def test_own_axes(annotated):
    figure, own = plt.subplots()
    (ax,) = sct.pl.marker_dots(annotated, MARKERS, axes=own)
    assert ax.figure is figure
