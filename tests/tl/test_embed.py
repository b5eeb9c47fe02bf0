from __future__ import annotations

import numpy as np
import pytest

import scanpy_sct as sct


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.mark.parametrize(("kind", "width"), [("compact_checkpoint", 16), ("released_checkpoint", 32)])
def test_one_vector_per_cell(pbmc, kind, width, request):
    adata = pbmc[:30].copy()
    model = request.getfixturevalue(kind)
    assert sct.tl.embed(adata, model=model) is None
    assert adata.obsm["X_sct"].shape == (30, width)
    assert adata.obsm["X_sct"].dtype == np.float32
    assert np.isfinite(adata.obsm["X_sct"]).all()
    assert (adata.obsm["X_sct"].std(0) > 0).all()
    assert adata.uns["X_sct"]["model"]["name"] == model.name


def test_functions_record_the_same(pbmc, compact_checkpoint):
    adata = pbmc[:30].copy()
    sct.tl.embed(adata, model=compact_checkpoint, rng=4)
    sct.tl.impute(adata, model=compact_checkpoint, rng=4)
    of_embed, of_impute = adata.uns["X_sct"], adata.uns["sct"]
    assert set(of_embed) <= set(of_impute)
    assert set(of_embed["params"]) <= set(of_impute["params"])
    for name in ("model", "genes", "scale", "versions"):
        assert of_embed[name] == of_impute[name]
    assert of_embed["params"] | {"key_added": "sct", "bags": "auto"} == {
        name: of_impute["params"][name] for name in of_embed["params"]
    }
