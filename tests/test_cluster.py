"""Blocks of cells on the workers of a dask cluster, and that the functions give the same numbers there as in memory."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import scanpy_sct as sct
from scanpy_sct.run.blocks import find_client, run_blocks
from scanpy_sct.run.collect import collect_rows, lazy_rows
from scanpy_sct.settings import settings

HOW = {"library_key": "sample", "rng": 3, "precision": "float32"}
"""Each worker chooses its precision, if it may."""


@pytest.fixture(scope="module")
def client():
    """Client of a dask cluster of two processes on this machine, which does not become the active one."""
    # Processes that wait are to take no time from other tests.
    quiet = {"distributed.admin.tick.interval": "1s", "distributed.worker.profile.enabled": False}
    with (
        dask.config.set(quiet),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def totals_and_process():
    """Return a task; a function inside another is sent to workers as it is, without an import."""

    def task(number, cells, factor=1):
        return number, cells.rows, np.asarray(cells.matrix.sum(axis=1)).ravel() * factor, os.getpid()

    return task


def test_blocks_on_workers(ninety_cells, three_blocks, client):
    here = dict(run_blocks(totals_and_process(), ninety_cells, three_blocks))
    there = dict(run_blocks(totals_and_process(), ninety_cells, three_blocks, client=client))
    assert there.keys() == here.keys()
    for number, (_, rows, totals, process) in there.items():
        assert process != os.getpid()
        np.testing.assert_array_equal(rows, three_blocks[number])
        np.testing.assert_array_equal(totals, here[number][2])


def test_every_worker_does_its_part(ninety_cells, client):
    def slow(number, cells):
        import os
        import time

        time.sleep(0.2)
        return os.getpid()

    blocks = np.array_split(np.arange(90), 6)
    processes = [process for _, process in run_blocks(slow, ninety_cells, blocks, client=client)]
    assert len(set(processes)) == 2


def test_a_killed_worker_costs_a_retry(ninety_cells, three_blocks, client, tmp_path):
    def deadly(number, cells, flag):
        """Kill the worker that computes block 1, once."""
        import os
        import time

        if number == 1 and not os.path.exists(flag):
            open(flag, "w").close()
            os._exit(1)
        time.sleep(0.1)
        return cells.matrix.nnz

    flag = tmp_path / "killed"
    found = dict(run_blocks(deadly, ninety_cells, three_blocks, str(flag), client=client))
    assert flag.exists()
    assert found == {number: ninety_cells.rows(rows).nnz for number, rows in enumerate(three_blocks)}


def test_an_error_of_a_task_is_raised_here(ninety_cells, three_blocks, client):
    def wrong(number, cells):
        msg = f"block {number} is wrong"
        raise ValueError(msg)

    for where in (None, client):
        with pytest.raises(ValueError, match="is wrong"):
            list(run_blocks(wrong, ninety_cells, three_blocks, client=where))


def test_a_client_is_found_if_it_is_active(client):
    assert find_client() is None
    assert find_client(client) is client
    with client.as_current():
        assert find_client() is client
    with pytest.raises(TypeError, match="client must be"):
        find_client(Path("cluster"))


@pytest.mark.parametrize("is_sparse", [False, True])
def test_rows_come_back_in_the_order_of_the_object(ninety_cells, three_blocks, client, is_sparse):
    def tables(number, cells, is_sparse):
        matrix = cells.matrix
        return {"all": matrix if is_sparse else matrix.toarray(), "some": matrix[:, :3].toarray()}

    expected = ninety_cells.rows().toarray()
    here = collect_rows(
        ((three_blocks[number], part) for number, part in run_blocks(tables, ninety_cells, three_blocks, is_sparse)),
        ninety_cells.n_cells,
    )
    found = sorted(
        run_blocks(tables, ninety_cells, three_blocks, is_sparse, client=client, keep=True), key=lambda item: item[0]
    )
    lazy = lazy_rows([future for _, future in found], three_blocks, client)
    computed = {name: client.compute(table).result() for name, table in lazy.items()}
    for tables in (here, computed):
        assert hasattr(tables["all"], "toarray") == is_sparse
        np.testing.assert_array_equal(tables["all"].toarray() if is_sparse else tables["all"], expected)
        np.testing.assert_array_equal(tables["some"], expected[:, :3])
    assert lazy["all"].shape == expected.shape


def _cells(pbmc):
    """Cells of two samples in turn, so that blocks are scattered over the object."""
    kept = (np.arange(pbmc.n_vars) % 4 == 0) | pbmc.var_names.isin(["CD79A", "CD79B", "NKG7", "GNLY"])
    cells = ad.AnnData(pbmc.X[:120, kept].copy(), var=pbmc.var.loc[kept, []].copy())
    cells.obs["sample"] = np.tile(["a", "b"], 60)
    return cells


@pytest.fixture
def cells(pbmc):
    return _cells(pbmc)


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "block_size", 40)
        patch.setattr(settings, "progress", False)
        yield


@pytest.fixture(scope="module")
def imputed_here(pbmc, compact_checkpoint, small_blocks):
    cells = _cells(pbmc)
    sct.tl.impute(cells, model=compact_checkpoint, **HOW)
    return cells


@pytest.mark.parametrize("to_store", [False, True])
def test_impute(cells, imputed_here, client, compact_checkpoint, to_store, tmp_path):
    here, out = imputed_here, tmp_path / "imputed.zarr" if to_store else None
    sct.tl.impute(cells, model=compact_checkpoint, client=client, out=out, **HOW)
    layer = cells.layers["sct"]
    assert layer.shape == cells.shape
    assert to_store or layer.npartitions > 1
    np.testing.assert_allclose(client.compute(layer).result(), here.layers["sct"], atol=1e-5)
    for column in here.var:
        if here.var[column].dtype.kind == "f":
            np.testing.assert_allclose(cells.var[column], here.var[column], atol=1e-5)


def test_unmeasured_genes_from_a_reference(cells, client, compact_checkpoint, pbmc):
    reference, genes = pbmc[120:220].copy(), list(pbmc.var_names[~pbmc.var_names.isin(cells.var_names)][:20])
    here = cells.copy()
    sct.tl.impute(here, genes, model=compact_checkpoint, reference=reference, **HOW)
    sct.tl.impute(cells, genes, model=compact_checkpoint, reference=reference, client=client, **HOW)
    for found, expected in (
        (cells.obsm["sct_unmeasured"], here.obsm["sct_unmeasured"]),
        (cells.obs["sct_similarity"], here.obs["sct_similarity"]),
        (cells.uns["sct"]["unmeasured"]["trust"], here.uns["sct"]["unmeasured"]["trust"]),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


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
