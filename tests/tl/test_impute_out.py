"""`tl.impute(out=...)`: the result is collected in a zarr store, and equals that in memory."""

from __future__ import annotations

import errno

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.impute.imputer import Imputer
from scanpy_sct.settings import settings
from scanpy_sct.store import locked

HOW = {"library_key": "sample", "rng": 3}


@pytest.fixture
def cells(pbmc):
    cells = ad.AnnData(sparse.csr_matrix(pbmc.X[:90, ::6]), var=pbmc.var[[]].iloc[::6].copy())
    cells.obs["sample"] = np.tile(["a", "b"], 45)
    cells.layers["other"] = cells.X.copy()
    cells.uns["note"] = {"kept": 1}
    return cells


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(settings, "block_size", 30)
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture
def run(compact_checkpoint):
    def run(adata, genes=None, **options):
        sct.tl.impute(adata, genes, model=compact_checkpoint, **{**HOW, **options})
        return adata

    return run


def assert_same(found: ad.AnnData, expected: ad.AnnData, *layers: str) -> None:
    for name in layers:
        values = found.layers[name].compute() if hasattr(found.layers[name], "compute") else found.layers[name]
        values = values.toarray() if sparse.issparse(values) else values
        wanted = expected.layers[name]
        wanted = wanted.toarray() if sparse.issparse(wanted) else wanted
        np.testing.assert_allclose(values, wanted, atol=1e-6, equal_nan=True)
    for column in expected.var:
        if expected.var[column].dtype.kind == "f":
            np.testing.assert_allclose(found.var[column], expected.var[column], atol=1e-6)
        else:
            assert list(found.var[column]) == list(expected.var[column])


def test_the_store_is_the_object_with_the_result(cells, run, tmp_path):
    out = tmp_path / "imputed.zarr"
    cells.obs["donor"] = [None, "a", "b"] * 30
    before = cells.obs.copy()
    expected = run(cells.copy(), store_bins=True)
    found = run(cells, store_bins=True, out=out)
    layers = ("sct", "sct_bins", "sct_confidence")
    assert_same(found, expected, *layers)
    assert hasattr(found.layers["sct"], "dask")
    stored = ad.read_zarr(out)
    assert_same(stored, expected, *layers)
    assert list(tmp_path.iterdir()) == [out]
    np.testing.assert_array_equal(stored.X.toarray(), cells.X.toarray())
    np.testing.assert_array_equal(stored.layers["other"].toarray(), cells.X.toarray())
    assert stored.uns["note"] == {"kept": 1}
    assert stored.uns["sct"]["params"]["rng"] == 3
    assert list(stored.obs["sample"]) == list(cells.obs["sample"])
    assert stored.obs_names.equals(cells.obs_names)
    assert stored.obs["donor"].isna().tolist() == [True, False, False] * 30
    assert cells.obs.equals(before)


def test_few_genes_give_a_sparse_layer_and_a_table_of_the_unmeasured_ones(cells, run, open_cells, tmp_path):
    genes = list(cells.var_names[open_cells(cells).genes.columns[:3]])
    panel, out = cells[:, cells.var_names != genes[0]].copy(), tmp_path / "few.zarr"
    hidden = np.zeros(panel.shape, dtype=bool)
    hidden[::7, ::5] = True
    expected = run(panel.copy(), genes, hide=hidden)
    found = run(panel, genes, hide=hidden, out=out)
    assert sparse.issparse(found.layers["sct"].compute())
    assert np.isnan(expected.layers["sct"].data).any()
    assert_same(found, expected, "sct")
    for each in (found, ad.read_zarr(out)):
        np.testing.assert_allclose(each.obsm["sct_unmeasured"], expected.obsm["sct_unmeasured"], atol=1e-6)


def test_an_interrupted_call_goes_on_with_the_missing_blocks(cells, run, monkeypatch, tmp_path):
    out = tmp_path / "imputed.zarr"
    expected = run(cells.copy())
    computed, task = [], Imputer.task

    def interrupted(self, number, *others):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(number)
        return task(self, number, *others)

    monkeypatch.setattr(Imputer, "task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(cells, out=out)
    assert not out.exists()
    assert "sct" not in cells.layers

    def recorded(self, number, *others):
        computed.append(number)
        return task(self, number, *others)

    monkeypatch.setattr(Imputer, "task", recorded)
    monkeypatch.setattr(Imputer, "fit", lambda _: pytest.fail("fitted again"))
    run(cells, out=out)
    assert sorted(computed) == list(range(len(computed)))
    assert len(computed) > 2
    assert_same(ad.read_zarr(out), expected, "sct")


def test_another_call_does_not_go_on_with_it(cells, run, monkeypatch, tmp_path):
    out = tmp_path / "imputed.zarr"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Imputer, "task", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(cells, out=out)
    with pytest.raises(ValueError, match=r"call\.rng: 3 there, 4 now"):
        run(cells, out=out, rng=4)
    changed = cells.copy()
    changed.X.data[:] += 1
    with pytest.raises(ValueError, match="expression"):
        run(changed, out=out)


def test_errors_come_before_computing(cells, run, monkeypatch, tmp_path):
    monkeypatch.setattr(Imputer, "fit", lambda _: pytest.fail("computed"))
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(ValueError, match="already exists"):
        run(cells, out=tmp_path / "there.zarr")
    with pytest.raises(ValueError, match="must end with"):
        run(cells, out=tmp_path / "imputed.h5ad")
    with pytest.raises(OSError, match="cannot be written"):
        run(cells, out=tmp_path / "missing" / "imputed.zarr")
    assert "sct" not in cells.layers


def test_what_the_store_does_not_hold_is_found_before_computing(cells, run, monkeypatch, tmp_path):
    monkeypatch.setattr(Imputer, "fit", lambda _: pytest.fail("computed"))
    cells.obs["G1/S"], cells.layers["SCT"] = 1.0, cells.X
    before = cells.copy()
    with pytest.raises(
        ValueError, match=r"(?s)imputed\.zarr' cannot be written.*G1/S.*layers\['SCT'\].*key_added='sct_2'"
    ):
        run(cells, out=tmp_path / "imputed.zarr")
    assert list(tmp_path.iterdir()) == []
    assert cells.obs.equals(before.obs)
    assert set(cells.layers) == set(before.layers)
    assert cells.uns == before.uns


def test_the_same_output_is_not_written_by_two_calls(cells, run, tmp_path):
    with locked(tmp_path / "imputed.zarr"), pytest.raises(BlockingIOError, match="by another call"):
        run(cells, out=tmp_path / "imputed.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_the_call_goes_on(cells, run, monkeypatch, tmp_path):
    out, save = tmp_path / "imputed.zarr", np.save
    # Of the system, and of an older NumPy.
    for error in (OSError(errno.ENOSPC, "No space left"), OSError("1000 requested and 12 written")):
        calls = []

        def full(path, array, calls=calls, error=error):
            calls.append(path)
            if len(calls) == 4:
                raise error
            save(path, array)

        with monkeypatch.context() as patched, pytest.raises(OSError, match=r"disk is full.*repeat the call") as found:
            patched.setattr(np, "save", full)
            run(cells, out=out)
        assert found.value.errno == errno.ENOSPC
        assert [path.name for path in tmp_path.iterdir()] == ["imputed.zarr.partial"]
        assert (tmp_path / "imputed.zarr.partial" / "part-000000").is_dir()
        monkeypatch.setattr(Imputer, "fit", lambda _: pytest.fail("fitted again"))
    run(cells, out=out)
    assert list(tmp_path.iterdir()) == [out]
