from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scanpy_sct as sct
from scanpy_sct.train import CensusCells, pretrain
from scanpy_sct.train.sources import open_sources

tiledbsoma = pytest.importorskip("tiledbsoma")
tiledbsoma_io = pytest.importorskip("tiledbsoma.io")
pa = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def cells(files, genes):
    """Both files as one object: the second data set lacks the first genes."""
    parts = [ad.read_h5ad(file) for file in files]
    joined = ad.concat(parts, join="outer", label="dataset_id", keys=["d0", "d1"], index_unique="-", fill_value=0)
    joined = joined[:, genes].copy()
    joined.obs = joined.obs.rename(columns={"sample": "donor_id"}).astype(str)
    joined.obs["is_primary_data"] = np.arange(160) % 4 != 0
    joined.obsm.clear()
    joined.var["feature_id"] = joined.var_names.astype(str)
    if None in joined.layers:
        pytest.skip("tiledbsoma 2 cannot write objects of anndata 0.13 or newer, which list X among the layers")
    return joined


@pytest.fixture(scope="module")
def experiment(cells, tmp_path_factory):
    """A SOMA experiment on disk."""
    uri = (tmp_path_factory.mktemp("soma") / "experiment").as_posix()
    tiledbsoma_io.from_anndata(uri, cells, measurement_name="RNA", X_layer_name="raw")
    return uri


@pytest.fixture(scope="module")
def census(cells, tmp_path_factory):
    """A small Census: as the experiment, with a table of data sets, and which genes they measured."""
    uri = (tmp_path_factory.mktemp("soma") / "census").as_posix()
    tiledbsoma.Collection.create(uri).close()
    with tiledbsoma.open(uri, "w") as opened:
        info = opened.add_new_collection("census_info")
        ids = pd.DataFrame({"soma_joinid": [0, 1], "dataset_id": ["d1", "d0"]})  # not in the order of the names
        schema = pa.Schema.from_pandas(ids, preserve_index=False)
        table = info.add_new_dataframe("datasets", schema=schema, index_column_names=["soma_joinid"], domain=[(0, 1)])
        table.write(pa.Table.from_pandas(ids, preserve_index=False))
        opened.add_new_collection("census_data")
    inside = f"{uri}/census_data/homo_sapiens"
    tiledbsoma_io.from_anndata(inside, cells, measurement_name="RNA", X_layer_name="raw")
    with tiledbsoma.open(f"{uri}/census_data", "w") as data:
        data["homo_sapiens"] = tiledbsoma.open(inside)
    with tiledbsoma.open(f"{inside}/ms/RNA", "w") as measurement:
        presence = measurement.add_new_sparse_ndarray(
            "feature_dataset_presence_matrix", type=pa.bool_(), shape=(2, cells.n_vars)
        )
        rows, columns = np.repeat([0, 1], [100, 120]), np.concatenate([np.arange(20, 120), np.arange(120)])
        presence.write(pa.Table.from_pydict({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": [True] * 220}))
    return uri


def test_blocks_are_the_cells_of_the_filter(experiment, cells, genes):
    sources = CensusCells(uri=experiment).open(genes)
    assert [source.name for source in sources] == ["d0", "d1"]
    for source in sources:
        expected = cells[(cells.obs["dataset_id"] == source.name) & cells.obs["is_primary_data"]]
        blocks = [source.read(0, 23).toarray(), source.read(23, 60).toarray()]
        np.testing.assert_allclose(np.concatenate(blocks), np.log1p(expected.X.toarray()), rtol=1e-6)
        assert len(source.samples) == 60
        donors = expected.obs["donor_id"].to_numpy()
        assert ((source.samples[:, None] == source.samples) == (donors[:, None] == donors)).all()


def test_genes_that_a_data_set_lacks_are_unmeasured(census, experiment, genes):
    first, second = CensusCells(uri=census).open(genes)
    assert (first.name, second.name) == ("d0", "d1")
    assert first.measured.all()
    np.testing.assert_array_equal(second.measured, np.arange(120) >= 20)
    assert all(source.measured.all() for source in CensusCells(uri=experiment).open(genes))


def test_other_columns_and_all_cells(experiment, genes):
    (first, _) = CensusCells(None, uri=experiment, sample_columns=("missing",)).open(genes)
    assert set(first.samples) == {0}
    assert len(first.samples) == 80


def test_a_filter_without_cells_is_refused(experiment, genes):
    with pytest.raises(ValueError, match="leaves none of the 160 cells"):
        CensusCells("dataset_id == 'd7'", uri=experiment).open(genes)
    with pytest.raises(ValueError, match="None of the 120 genes"):
        CensusCells(uri=experiment).open(np.array(["ENSG00000000000"]))


def test_census_and_files_train_together(census, files, config, genes, tmp_path):
    data = [CensusCells(uri=census), files[0]]
    assert [source.name for source in open_sources(data, genes)] == ["d0", "d1", "file0"]
    folder = pretrain(data, replace(config, steps=3), tmp_path / "mine", vocabulary=genes, device="cpu")
    assert sct.load_model(folder).name == "sct"
