from __future__ import annotations

import numpy as np
import pytest

import scanpy_sct as sct
from scanpy_sct.checkpoints import read_checkpoint, save_checkpoint
from scanpy_sct.train.label_head import fit_label_head


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture
def cells(pbmc):
    chosen = pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK"])
    return pbmc[chosen][:120].copy()


def test_a_fitted_head_names_cells_also_after_a_file(cells, tiny_checkpoint, tmp_path):
    before = cells.copy()
    model = fit_label_head(tiny_checkpoint, cells, "bulk_labels")
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


def test_errors_come_before_computing(cells, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("scanpy_sct.train.label_head.predict_embedding", pytest.fail)
    with pytest.raises(KeyError, match=r"'nothing' is not a column of adata\.obs"):
        fit_label_head(tiny_checkpoint, cells, "nothing")
    cells.obs["one"] = "B"
    with pytest.raises(ValueError, match="at least two labels"):
        fit_label_head(tiny_checkpoint, cells, "one")
