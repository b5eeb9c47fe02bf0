from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read import reference as module
from scanpy_sct.read.gene_table import iterate_genes
from scanpy_sct.read.genes import load_gene_table
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reference import options_for, read_reference, reference_vocabulary

TABLE = load_gene_table()
IDS = TABLE.index[TABLE["biotype"] == "protein_coding"][:120].to_numpy(str)
KNOWN = IDS[::2]
"""Vocabulary of the network: every other gene of the reference."""


@pytest.fixture
def cells():
    """60 cells x 120 genes: the first 4 cells are empty, and no cell detects the last gene."""
    counts = np.random.default_rng(0).poisson(2, (60, 120)).astype(np.float32)
    counts[:4] = 0
    counts[4:8, 1:] = 0
    counts[4:8, 0] = 1  # one count is no empty cell
    counts[:, -1] = 0
    adata = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=IDS))
    adata.obs["donor"] = "d1"
    adata.var["name"] = IDS
    return adata


def read(adata, seed=0):
    return read_reference(adata, reference_vocabulary(KNOWN), "log1p_counts", ReadOptions(owner="reference"), seed)


def test_the_vocabulary_of_the_network_comes_first():
    vocabulary = reference_vocabulary(KNOWN)
    assert vocabulary[: len(KNOWN)].tolist() == KNOWN.tolist()
    assert sorted(vocabulary) == sorted(gene_id for gene_id, *_ in iterate_genes())


def test_counts_of_detected_genes_in_cells_that_are_not_empty(cells):
    found = read(cells)
    names = found.vocabulary[found.gene_index]
    assert sorted(names) == sorted(IDS[:-1])
    assert found.names.tolist() == names.tolist()
    assert np.all(np.diff(found.gene_index) > 0)
    expected = cells[4:, names].X.toarray()
    np.testing.assert_allclose(found.counts.toarray(), expected, atol=1e-4)
    some = found.gene_index[[3, 7]]
    np.testing.assert_allclose(found.at(some).toarray(), expected[:, [3, 7]], atol=1e-4)


def test_the_fingerprint_is_that_of_counts_and_genes(cells):
    other = cells.copy()
    other.X[10, 0] += 1
    assert read(cells).digest == read(cells.copy()).digest != read(other).digest
    assert read(cells).digest != read(cells[:, :100].copy()).digest


@pytest.mark.parametrize("n_cells", [49, 50])
def test_how_many_cells_are_needed(cells, n_cells):
    few = cells[: n_cells + 4].copy()
    if n_cells == 50:
        assert read(few).counts.shape[0] == 50
        return
    with pytest.raises(ValueError, match="reference has 49 cells with counts; at least 50 are needed"):
        read(few)


def test_of_a_large_reference_some_cells_are_drawn(cells, monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 58)
    drawn = read(cells).counts
    assert 54 <= drawn.shape[0] <= 56
    assert (drawn != read(cells).counts).nnz == 0
    assert read(cells, seed=1).digest != read(cells).digest
    monkeypatch.setattr(module, "MAX_CELLS", 60)
    assert read(cells).counts.shape[0] == 56


def test_columns_named_for_the_data_are_used_where_the_reference_has_them(cells):
    options = ReadOptions(library_key="donor", owner="reference")
    found = options_for(cells, options, "name")
    assert (found.library_key, found.gene_names) == ("donor", "name")
    assert options_for(cells, options, None).gene_names is None
    assert options_for(cells, options, "other").gene_names is None
    given = ReadOptions(gene_names="other", owner="reference")
    assert options_for(cells, given, "name").gene_names == "other"
    cells.obs.loc[cells.obs_names[3], "donor"] = np.nan
    assert options_for(cells, options, None).library_key is None
    assert options_for(cells, ReadOptions(library_key="section"), None).library_key is None


def test_another_object_is_refused():
    with pytest.raises(TypeError, match="reference must be an AnnData, found DataFrame"):
        options_for(pd.DataFrame(), ReadOptions(), None)


def test_values_that_are_no_counts_are_refused(cells):
    cells.X.data = np.random.default_rng(1).uniform(0.1, 3, cells.X.nnz).astype(np.float32)
    with pytest.raises(ValueError, match=r"counts, or log-normalised values .* of counts"):
        read(cells)
