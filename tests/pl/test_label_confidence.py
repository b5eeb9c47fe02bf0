from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scanpy_sct as sct
from scanpy_sct.write import write_annotation


@pytest.fixture
def annotated():
    adata = AnnData(np.zeros((6, 1), dtype="float32"))
    labels = pd.Categorical(["a", "a", "a", "b", "b", "unknown"], categories=["a", "b", "c", "unknown"])
    score = np.array([0.6, 0.7, 0.8, 0.95, 0.9, 0.3])
    probabilities = pd.DataFrame({"a": score, "b": 1 - score}, index=adata.obs_names)
    write_annotation(adata, labels=labels, score=score, probabilities=probabilities, params={"threshold": 0.5})
    return adata


def test_one_box_per_label_the_highest_median_on_top(annotated):
    ax = sct.pl.label_confidence(annotated)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["unknown (1)", "a (3)", "b (2)"]
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_color() == "black" and len(line.get_xdata()) == 2]
    assert {round(float(median), 3) for median in medians} >= {0.3, 0.7, 0.925}
    assert any(line.get_linestyle() == ":" and line.get_xdata()[0] == 0.5 for line in ax.lines)


def test_cells_without_a_label_are_left_out(annotated):
    annotated.obs.loc[annotated.obs_names[0], ["sct_label", "sct_label_score"]] = [None, np.nan]
    ax = sct.pl.label_confidence(annotated)
    assert "a (2)" in [tick.get_text() for tick in ax.get_yticklabels()]


def test_own_axes_and_no_threshold(annotated):
    del annotated.uns["sct_label"]
    own = plt.subplots()[1]
    ax = sct.pl.label_confidence(annotated, ax=own)
    assert ax is own
    assert not any(line.get_linestyle() == ":" for line in ax.lines)


def test_without_a_result(annotated):
    with pytest.raises(KeyError, match=r"key='other'.*available: 'sct_label'.*sct.tl.annotate"):
        sct.pl.label_confidence(annotated, key="other")


def test_an_integer_threshold_is_plotted(annotated):
    annotated.uns["sct_label"]["params"]["threshold"] = 1
    ax = sct.pl.label_confidence(annotated)
    assert any(line.get_linestyle() == ":" and line.get_xdata()[0] == 1 for line in ax.lines)
