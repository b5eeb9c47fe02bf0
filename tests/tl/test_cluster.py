"""The functions on the workers of a dask cluster give the numbers that they give in memory."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scanpy_sct as sct
from scanpy_sct.settings import settings

HOW = {"library_key": "sample", "rng": 3, "precision": "float32"}
"""Each worker chooses its precision, if it may."""


@pytest.fixture
def cells(pbmc):
    """Cells of two samples in turn, so that blocks are scattered over the object."""
    kept = (np.arange(pbmc.n_vars) % 4 == 0) | pbmc.var_names.isin(["CD79A", "CD79B", "NKG7", "GNLY"])
    cells = ad.AnnData(pbmc.X[:120, kept].copy(), var=pbmc.var.loc[kept, []].copy())
    cells.obs["sample"] = np.tile(["a", "b"], 60)
    return cells


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(settings, "block_size", 40)
    monkeypatch.setattr(settings, "progress", False)


def test_impute(cells, client, compact_checkpoint):
    here = cells.copy()
    sct.tl.impute(here, model=compact_checkpoint, **HOW)
    sct.tl.impute(cells, model=compact_checkpoint, client=client, **HOW)
    layer = cells.layers["sct"]
    assert layer.shape == cells.shape
    assert layer.npartitions > 1
    np.testing.assert_allclose(client.compute(layer).result(), here.layers["sct"], atol=1e-5)
    for column in here.var:
        if here.var[column].dtype.kind == "f":
            np.testing.assert_allclose(cells.var[column], here.var[column], atol=1e-5)


def test_the_active_client_is_used(cells, client, compact_checkpoint):
    with client.as_current():
        sct.tl.impute(cells, model=compact_checkpoint, **HOW)
    assert hasattr(cells.layers["sct"], "dask")


def test_unmeasured_genes(cells, client, compact_checkpoint, open_cells):
    known = open_cells(cells).genes.columns
    genes = list(cells.var_names[known[:2]])
    panel = cells[:, cells.var_names != genes[0]].copy()
    here = panel.copy()
    sct.tl.impute(here, genes, model=compact_checkpoint, **HOW)
    sct.tl.impute(panel, genes, model=compact_checkpoint, client=client, **HOW)
    np.testing.assert_allclose(panel.obsm["sct_unmeasured"], here.obsm["sct_unmeasured"], atol=1e-5)


@pytest.mark.parametrize("kind", ["compact_checkpoint", "released_checkpoint"])
def test_embed(cells, client, kind, request):
    model = request.getfixturevalue(kind)
    here = cells.copy()
    sct.tl.embed(here, model=model, **HOW)
    sct.tl.embed(cells, model=model, client=client, **HOW)
    np.testing.assert_allclose(cells.obsm["X_sct"], here.obsm["X_sct"], atol=1e-5)


@pytest.mark.parametrize("source", ["reference", "markers"])
def test_annotate(cells, client, compact_checkpoint, pbmc, source):
    reference = pbmc[120:220].copy()
    how = {
        "reference": {"reference": reference, "labels_key": "bulk_labels"},
        "markers": {"markers": {"B": ["CD79A", "CD79B"], "NK": ["NKG7", "GNLY"]}},
    }[source]
    here = cells.copy()
    sct.tl.annotate(here, model=compact_checkpoint, **how, **HOW)
    sct.tl.annotate(cells, model=compact_checkpoint, client=client, **how, **HOW)
    assert list(cells.obs["sct_label"]) == list(here.obs["sct_label"])
    np.testing.assert_allclose(cells.obsm["sct_label_probs"], here.obsm["sct_label_probs"], atol=1e-5)
