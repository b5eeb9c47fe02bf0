from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import accuracy_score, adjusted_rand_score, f1_score

import scanpy_sct as sct


@pytest.fixture
def labelled():
    adata = AnnData(np.zeros((12, 1), dtype="float32"))
    known = ["B"] * 4 + ["A"] * 3 + ["C"] * 5
    found = ["B", "B", "B", "A", "A", "A", "unknown", "C", "C", "C", "D", "unknown"]
    adata.obs["known"] = pd.Categorical(known, categories=["B", "A", "unused", "C"])
    adata.obs["sct_label"] = pd.Categorical(found, categories=["unknown", "A", "B", "C", "D"])
    return adata


def names(ax):
    return [[tick.get_text() for tick in ticks] for ticks in (ax.get_yticklabels(), ax.get_xticklabels())]


def test_rows_are_normalised_and_cells_counted(labelled):
    ax = sct.pl.confusion(labelled, "known")
    assert names(ax) == [["B (4)", "A (3)", "C (5)"], ["B", "A", "C", "D", "unknown"]]
    counts = np.array([[3, 1, 0, 0, 0], [0, 2, 0, 0, 1], [0, 0, 3, 1, 1]])
    np.testing.assert_allclose(ax.images[0].get_array(), counts / counts.sum(1, keepdims=True))
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert written == {place: str(count) for place, count in np.ndenumerate(counts) if count}
    assert ax.images[0].get_clim() == (0, 1)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("known", "sct_label")


def test_the_title_has_what_sklearn_computes(labelled):
    known, found = (labelled.obs[name].astype(str) for name in ("known", "sct_label"))
    f1 = f1_score(known, found, labels=["A", "B", "C"], average="macro")
    title = f"12 cells, 17% unknown\naccuracy {accuracy_score(known, found):.2f}, macro-F1 {f1:.2f}"
    assert sct.pl.confusion(labelled, "known").get_title() == title


def test_an_unknown_cell_is_wrong_also_where_it_is_known_to_be_unknown(labelled):
    labelled.obs["known"] = labelled.obs["sct_label"]
    ax = sct.pl.confusion(labelled, "known")
    assert "accuracy 0.83, macro-F1 1.00" in ax.get_title()
    assert names(ax)[0][-1] == "unknown (2)"


def test_clusters_stand_beside_the_row_of_most_of_their_cells(labelled):
    labelled.obs["cluster"] = [2, 2, 2, 2, 0, 0, 0, 1, 1, 1, 1, 2]
    ax = sct.pl.confusion(labelled, "known", key="cluster")
    assert names(ax)[1] == ["2", "0", "1"]
    score = adjusted_rand_score(labelled.obs["known"], labelled.obs["cluster"])
    assert ax.get_title() == f"12 cells, no label in common\nadjusted Rand index {score:.2f}"


def test_cells_that_lack_a_label_are_left_out(labelled):
    labelled.obs.loc[labelled.obs_names[:4], "known"] = None
    labelled.obs.loc[labelled.obs_names[4], "sct_label"] = None
    ax = sct.pl.confusion(labelled, "known")
    assert names(ax) == [["A (2)", "C (5)"], ["A", "C", "D", "unknown"]]
    assert ax.get_title().startswith("7 cells")


def test_numbers_contrast_with_their_colour(labelled):
    ax = sct.pl.confusion(labelled, "known", cmap="viridis")
    colours = {text.get_text(): text.get_color() for text in ax.texts if text.get_position()[1] == 0}
    assert colours == {"3": "black", "1": "white"}


def test_own_axes_and_style(labelled):
    own = plt.subplots()[1]
    ax = sct.pl.confusion(labelled, "known", ax=own, vmax=0.5)
    assert ax is own
    assert ax.images[0].get_clim() == (0, 0.5)


def test_what_cannot_be_compared(labelled):
    with pytest.raises(KeyError, match=r"known='truth' is not a column of adata.obs; there are: 'known', 'sct_label'"):
        sct.pl.confusion(labelled, "truth")
    with pytest.raises(KeyError, match=r"key='other'"):
        sct.pl.confusion(labelled, "known", key="other")
    labelled.obs["empty"] = pd.Series([None] * 12, index=labelled.obs_names, dtype=object)
    with pytest.raises(ValueError, match=r"known='known' and key='empty': no cell has a label in both"):
        sct.pl.confusion(labelled, "known", key="empty")
