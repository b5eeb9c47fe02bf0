"""Every function gives the same numbers for every storage and for any chunks, with blocks that cross chunks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scanpy_sct as sct
from scanpy_sct.plan.blocks import plan_blocks

MARKERS = {"B": ["CD79A", "CD79B", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}


@pytest.fixture(autouse=True)
def quiet(monkeypatch, small_blocks):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def cells(pbmc):
    """200 cells of three samples in no order, the largest of which needs several blocks."""
    rng = np.random.default_rng(0)
    result = pbmc[rng.permutation(pbmc.n_obs)[:200]].copy()
    result.obs["donor"] = pd.Categorical(
        rng.choice(["z", "b", "c"], 200, p=[0.6, 0.3, 0.1]), categories=["z", "b", "c"]
    )
    result.obsm["spatial"] = rng.random((200, 2))
    del result.raw
    return result


FUNCTIONS = {
    "impute": lambda adata, model, _: sct.tl.impute(adata, model=model, library_key="donor"),
    "embed": lambda adata, model, _: sct.tl.embed(adata, model=model, library_key="donor"),
    "annotate": lambda adata, model, reference: sct.tl.annotate(
        adata, model=model, library_key="donor", reference=reference, labels_key="bulk_labels"
    ),
    "markers": lambda adata, model, _: sct.tl.annotate(adata, model=model, library_key="donor", markers=MARKERS),
}
CACHE = {}


def numbers(adata):
    """All numbers and labels that a function has written."""
    found = {name: adata.layers[name] for name in adata.layers if name.startswith("sct")}
    found |= {name: adata.obsm[name] for name in adata.obsm if "sct" in name}
    for table in (adata.obs, adata.var):
        found |= {name: table[name] for name in table if name.startswith("sct")}
    return {name: np.asarray(values) for name, values in found.items()}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_storage_gives_the_same(cells, pbmc, function, storage, compact_checkpoint):
    reference = pbmc[:60]
    if function not in CACHE:
        known = cells.copy()
        FUNCTIONS[function](known, compact_checkpoint, reference)
        CACHE[function] = numbers(known)
        assert CACHE[function]
    adata = storage(cells)
    FUNCTIONS[function](adata, compact_checkpoint, reference)
    found = numbers(adata)
    assert found.keys() == CACHE[function].keys()
    for name, expected in CACHE[function].items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
    assert adata.uns.keys() >= {"sct", "X_sct", "sct_label"} & set(CACHE[function])


def test_blocks_cross_chunks_and_samples(cells):
    """What the test above relies on."""
    samples = cells.obs["donor"].cat.codes.to_numpy()
    blocks = plan_blocks(samples, cells.obsm["spatial"], 0, max_cells=80)
    assert len(blocks) >= 3
    assert all(len(np.unique(block.rows // 37)) > 3 for block in blocks)
    assert max(len(np.unique(samples[block.rows])) for block in blocks) > 1


def test_a_released_network_reads_blocks(cells, storage, released_checkpoint):
    results = []
    for adata in (cells.copy(), storage(cells)):
        sct.tl.embed(adata, model=released_checkpoint, library_key="donor", bags="spatial")
        results.append(adata.obsm["X_sct"])
    np.testing.assert_allclose(*results, atol=1e-5)
