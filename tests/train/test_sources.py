from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.train.sources import open_source


@pytest.fixture
def vocabulary(genes):
    return np.array([*genes[::-1], ""], dtype=str)


def written(adata, tmp_path, kind):
    path = tmp_path / f"cells.{kind}"
    getattr(adata, f"write_{kind}")(path)
    return path


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("storage", ["csr", "dense", "integers"])
def test_blocks_are_what_the_whole_file_holds(files, vocabulary, tmp_path, kind, storage):
    adata = ad.read_h5ad(files[1])
    if storage != "csr":
        adata.X = adata.X.toarray().astype(np.int32 if storage == "integers" else np.float32)
    source = open_source(written(adata, tmp_path, kind), vocabulary)
    whole = CellReader(adata, vocabulary, "log1p_counts", ReadOptions(library_key="sample")).block()
    blocks = sparse.vstack([source.read(start, min(start + 30, 80)) for start in range(0, 80, 30)])
    np.testing.assert_array_equal(blocks.toarray(), whole.token_values.toarray())
    np.testing.assert_array_equal(source.measured, whole.measured)
    np.testing.assert_array_equal(source.samples, whole.samples)
    np.testing.assert_array_equal(source.coordinates, whole.coordinates)


def test_columns_that_are_not_genes_are_left_out(files, vocabulary, tmp_path, with_antibodies):
    source = open_source(files[1], vocabulary)
    adata = with_antibodies(ad.read_h5ad(files[1]))
    adata.X[:, :3] *= 0.3  # may be anything
    found = open_source(written(adata, tmp_path, "h5ad"), vocabulary)
    np.testing.assert_array_equal(found.read(0, 30).toarray(), source.read(0, 30).toarray())


def test_only_the_block_is_read(files, vocabulary):
    source = open_source(files[0], vocabulary)
    assert not sparse.issparse(source.matrix)
    assert source.read(10, 15).shape == (5, 121)


def test_values_that_are_not_counts_are_refused(files, vocabulary, tmp_path):
    adata = ad.read_h5ad(files[0])
    adata.X.data[adata.X.indptr[60] :] += 0.3
    source = open_source(written(adata[[*range(50), *range(50)] * 25].copy(), tmp_path, "h5ad"), vocabulary)
    assert source.read(0, 100).shape == (100, 121)
    (tmp_path / "late").mkdir()
    late = ad.concat([adata[:50]] * 41 + [adata[60:]], index_unique="-")
    source = open_source(written(late, tmp_path / "late", "h5ad"), vocabulary)
    with pytest.raises(ValueError, match=r"does not have counts \(integers\) in cells 2040 to 2070"):
        source.read(2040, 2070)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="X does not have counts"):
        open_source(written(adata[60:].copy(), tmp_path / "none", "h5ad"), vocabulary)


def test_a_file_without_a_sample_column_is_one_sample(files, vocabulary, tmp_path):
    adata = ad.read_h5ad(files[0])
    del adata.obs["sample"]
    assert set(open_source(written(adata, tmp_path, "h5ad"), vocabulary).samples) == {0}


def test_files_that_cannot_be_read_are_refused(files, vocabulary, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5ad does not exist"):
        open_source(tmp_path / "nowhere.h5ad", vocabulary)
    adata = ad.read_h5ad(files[0])
    adata.X = adata.X.tocsc()
    with pytest.raises(ValueError, match="stored by genes"):
        open_source(written(adata, tmp_path, "h5ad"), vocabulary)
    adata = ad.read_h5ad(files[1])
    adata.obsm["spatial"][3] = np.nan
    (tmp_path / "part").mkdir()
    with pytest.raises(ValueError, match=r"part.*cells\.h5ad: obsm\['spatial'\] is NaN or infinite for 1 of 80 cells"):
        open_source(written(adata, tmp_path / "part", "h5ad"), vocabulary)
    other = ad.AnnData(np.ones((3, 2), np.float32), var=pd.DataFrame(index=["x", "y"]))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="Only 0 of 2 names"):
        open_source(written(other, tmp_path / "other", "h5ad"), vocabulary)
