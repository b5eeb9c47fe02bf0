from __future__ import annotations

import numpy as np
import pytest

import scanpy_sct as sct


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.mark.parametrize(("source", "width"), [("auto", 16), ("cell", 16)])
def test_one_vector_per_cell(pbmc, tiny_checkpoint, source, width):
    adata = pbmc[:30].copy()
    sct.tl.embed(adata, model=tiny_checkpoint, source=source)
    assert adata.obsm["X_sct"].shape == (30, width)
    assert np.isfinite(adata.obsm["X_sct"]).all()
    assert (adata.obsm["X_sct"].std(0) > 0).all()
    assert adata.uns["X_sct"]["params"]["source"] == source


def test_unknown_source_is_refused(pbmc, tiny_checkpoint):
    with pytest.raises(ValueError, match="source='moon'"):
        sct.tl.embed(pbmc[:30].copy(), model=tiny_checkpoint, source="moon")
