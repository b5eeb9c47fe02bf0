"""Every function gives the same numbers for every storage and for any chunks, with blocks that cross chunks."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.plan.blocks import plan_blocks

MARKERS = {"B": ["CD79A", "CD79B", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}


@pytest.fixture(autouse=True)
def quiet(monkeypatch, small_blocks):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def cells(pbmc):
    """200 cells of three samples in no order, the largest of which needs several blocks; GNLY is not measured."""
    rng = np.random.default_rng(0)
    markers = [gene for genes in MARKERS.values() for gene in genes]
    kept = (np.arange(pbmc.n_vars) % 3 == 0) | pbmc.var_names.isin(markers)
    result = pbmc[rng.permutation(pbmc.n_obs)[:200], kept & (pbmc.var_names != "GNLY")].copy()
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
    found = {name: adata.layers[name] for name in adata.layers if name and name.startswith("sct")}
    found |= {name: adata.obsm[name] for name in adata.obsm if "sct" in name}
    for table in (adata.obs, adata.var):
        found |= {name: table[name] for name in table if name.startswith("sct")}
    return {name: np.asarray(values) for name, values in found.items()}


# The three functions read in the same way, see tests/read: together they are run on every storage.
@pytest.mark.parametrize(
    "storage",
    ["dense", "backed csr", "backed csc", "zarr csr", "zarr dense", "lazy h5ad dense", "dask csr", "dask dense"],
    indirect=True,
)
def test_imputation(cells, pbmc, storage, compact_checkpoint):
    assert_same_as_in_memory("impute", cells, storage, compact_checkpoint, pbmc[:60])


@pytest.mark.parametrize("storage", ["csc", "backed csr", "lazy zarr", "dask uneven csc"], indirect=True)
def test_embedding(cells, pbmc, storage, compact_checkpoint):
    assert_same_as_in_memory("embed", cells, storage, compact_checkpoint, pbmc[:60])


@pytest.mark.parametrize(
    ("function", "storage"),
    [("annotate", "backed dense"), ("annotate", "lazy h5ad"), ("annotate", "dask csr"), ("markers", "backed csr")],
    indirect=["storage"],
)
def test_annotation(cells, pbmc, function, storage, compact_checkpoint):
    assert_same_as_in_memory(function, cells, storage, compact_checkpoint, pbmc[:60])


def assert_same_as_in_memory(function, cells, storage, model, reference):
    if function not in CACHE:
        known = cells.copy()
        FUNCTIONS[function](known, model, reference)
        CACHE[function] = numbers(known)
        assert CACHE[function]
    adata = storage(cells)
    FUNCTIONS[function](adata, model, reference)
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


@pytest.mark.parametrize("storage", ["backed csr", "dask csr"], indirect=True)
def test_a_released_network_reads_blocks(cells, storage, released_checkpoint):
    results = []
    for adata in (cells.copy(), storage(cells)):
        sct.tl.embed(adata, model=released_checkpoint, library_key="donor", bags="spatial")
        results.append(adata.obsm["X_sct"])
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_bad_value_in_a_late_block_leaves_the_object_as_it_was(cells, pbmc, function, compact_checkpoint, tmp_path):
    bad = cells.copy()
    bad.X.data[bad.X.indptr[137]] = np.nan
    bad.write_h5ad(tmp_path / "bad.h5ad")
    adata = ad.read_h5ad(tmp_path / "bad.h5ad", backed="r")
    before = str(adata)
    with pytest.raises(ValueError, match=r"adata\.X holds 1 NaN .* in row 137\. "):
        FUNCTIONS[function](adata, compact_checkpoint, pbmc[:60])
    assert str(adata) == before


def test_an_embedding_reads_each_chunk_only_when_it_is_needed(cells, compact_checkpoint):
    """Some for the properties of the data, then each once for the profiles of all samples and once for the vectors."""
    da = pytest.importorskip("dask.array")
    import dask

    loaded = []

    def load(block_info=None):
        (start, stop), _ = block_info[None]["array-location"]
        loaded.append(start)
        return cells.X[start:stop]

    adata = cells.copy()
    adata.X = da.map_blocks(load, chunks=((8,) * 25, (cells.n_vars,)), dtype=np.float32, meta=sparse.csr_matrix((0, 0)))
    loaded.clear()
    with dask.config.set(scheduler="sync"):
        sct.tl.embed(adata, model=compact_checkpoint, library_key="donor")
    # At most 8 runs of 10 cells; the drawn cells are read in two parts, which may share a chunk.
    assert len(loaded) <= 24 + (25 + 1) + 25
    # The last time block by block: 64 cells, eight chunks.
    assert len(set(loaded[-25:])) == 25
    assert (np.diff(np.array(loaded[-25:]) // 64) >= 0).all()


def test_results_in_lazy_objects(cells, compact_checkpoint, tmp_path):
    """Views, copies, results that are replaced, and files that are written from them."""
    read_lazy = pytest.importorskip("anndata.experimental").read_lazy
    pytest.importorskip("xarray")
    cells.write_zarr(tmp_path / "cells.zarr")
    adata = read_lazy(tmp_path / "cells.zarr")
    copied = sct.tl.embed(adata, model=compact_checkpoint, copy=True)
    assert "X_sct" in copied.obsm
    assert "X_sct" not in adata.obsm
    view = adata[:120]
    with pytest.warns(ad.ImplicitModificationWarning):
        sct.tl.annotate(view, model=compact_checkpoint, markers=MARKERS)
    assert view.to_memory().obs["sct_label"].dtype == "category"
    assert "sct_label" not in adata.obs
    sct.tl.impute(adata, model=compact_checkpoint, genes=["CD79B", "GNLY"], store_bins=True)
    assert "sct_unmeasured" in adata.obsm
    sct.tl.impute(adata, model=compact_checkpoint, blend=False)
    assert "sct_unmeasured" not in adata.obsm
    assert "sct_source" not in adata.var
    result = adata.to_memory()
    assert result.layers["sct"].shape == cells.shape
    result.write_zarr(tmp_path / "result.zarr")
    again = read_lazy(tmp_path / "result.zarr")
    np.testing.assert_array_equal(sct.get.imputed(again, ["CD79B"]).X, sct.get.imputed(result, ["CD79B"]).X)


def test_an_object_without_the_names_of_its_cells_is_refused(cells, compact_checkpoint, tmp_path):
    read_lazy = pytest.importorskip("anndata.experimental").read_lazy
    pytest.importorskip("xarray")
    cells.write_zarr(tmp_path / "cells.zarr")
    adata = read_lazy(tmp_path / "cells.zarr", load_annotation_index=False)
    with pytest.raises(ValueError, match="load_annotation_index=False"):
        sct.tl.embed(adata, model=compact_checkpoint)


@pytest.mark.parametrize("storage", ["backed csr", "dask csr"], indirect=True)
def test_reports(cells, storage, compact_checkpoint):
    adata = storage(cells)
    report = sct.pp.check(adata, model=compact_checkpoint)
    expected = sct.pp.check(cells, model=compact_checkpoint)
    for name in ("scale", "has_counts", "n_empty_cells", "samples", "samples_note", "genes_unmatched"):
        assert getattr(report, name) == getattr(expected, name)


@pytest.mark.parametrize("storage", ["lazy zarr"], indirect=True)
def test_plots(cells, storage, compact_checkpoint):
    results = []
    for each in (storage(cells), cells.copy()):
        sct.tl.impute(each, model=compact_checkpoint, genes=["CD79B", "LYZ", "GNLY"])
        axes = sct.pl.imputed(each, ["CD79B", "GNLY"], basis="umap")
        shown = [panel.collections[0].get_array() for panel in axes.ravel()]
        points = sct.pl.recovery(each).collections[0].get_offsets()
        results.append((sct.get.imputed(each, ["GNLY", "LYZ"]).X, points, *(x for x in shown if x is not None)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
