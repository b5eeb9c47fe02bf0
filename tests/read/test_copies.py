from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.read.copies import copies, copies_remark


@pytest.fixture
def cells(pbmc):
    return pbmc[:60].copy()


def test_copies_are_found_with_their_originals(cells):
    matrix = sparse.vstack([cells.X, cells.X[[3, 7, 3]]]).tocsr()
    np.testing.assert_array_equal(copies(matrix), [[60, 3], [61, 7], [62, 3]])
    assert len(copies(cells.X)) == 0


def test_a_difference_in_one_value_is_none(cells):
    matrix = sparse.vstack([cells.X, cells.X[3]]).tocsr()
    matrix.data[-1] *= 1.001
    assert len(copies(matrix)) == 0


def test_cells_with_few_genes_may_be_the_same_by_chance():
    assert len(copies(sparse.csr_matrix(np.eye(100, dtype=np.float32)[[0, 0, 1]]))) == 0
    assert copies_remark(sparse.csr_matrix((3, 100), dtype=np.float32), ["a", "b", "c"], 3, "adata.X") == ""


def test_they_are_reported(cells):
    more = ad.concat([cells, cells[[5]]], index_unique="-")
    findings = str(sct.pp.check(more))
    assert "1 of 61 cells of adata.X have exactly the values of another cell" in findings
    assert "keep one of each" in findings
    assert "exactly the values" not in str(sct.pp.check(cells))


def test_those_of_a_file_are_found_among_the_cells_that_are_looked_at(cells, tmp_path):
    ad.concat([cells, cells[[5]]], index_unique="-").write_h5ad(tmp_path / "cells.h5ad")
    lazy = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert "have exactly the values" in str(sct.pp.check(lazy))
