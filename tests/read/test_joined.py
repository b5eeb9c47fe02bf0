from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.genes import load_gene_table, released_vocabulary
from scanpy_sct.read.joined import JoinedCells, find_lacking
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader


@pytest.fixture
def joined():
    """240 cells x 200 genes, of which the last 160 cells have no counts of 30."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1, 1, size=200) + 0.2, size=(240, 200)).astype(np.float32)
    counts[80:, 100:130] = 0
    table = load_gene_table()
    ids = table.index[(table["sct_position"] >= 0) & (table["biotype"] == "protein_coding")][:200]
    names = [f"cell{n}-{'a' if n < 80 else 'b'}" for n in range(240)]
    return ad.AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=ids))


def two_kinds(n_first=60, n_second=60):
    """Two samples, each of cells of its own kind, of which the first has no counts of 30 genes."""
    rng = np.random.default_rng(0)
    first, second = (np.repeat(rates, [40, 40, 30]) for rates in ([4, 0.5, 0], [0.5, 4, 2]))
    counts = np.vstack([rng.poisson(first, (n_first, 110)), rng.poisson(second, (n_second, 110))])
    table = load_gene_table()
    ids = table.index[(table["sct_position"] >= 0) & (table["biotype"] == "protein_coding")][:110]
    obs = pd.DataFrame(index=[f"cell{n}" for n in range(n_first + n_second)])
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs, pd.DataFrame(index=ids))


def findings(adata, **options):
    reader = CellReader(adata, released_vocabulary(), "log1p_counts", ReadOptions(**options))
    assert 25 <= reader.partly_measured.sum() <= 30
    return " ".join(reader.findings)


def test_names_of_cells_tell_samples_apart(joined):
    assert "names start or end alike" in findings(joined)
    joined.obs_names = [f"{name[-1]}_{n}" for n, name in enumerate(joined.obs_names)]
    assert "names start or end alike" in findings(joined)


def test_rows_tell_samples_apart(joined):
    joined.obs_names = [f"cell{n}" for n in range(240)]
    found = findings(joined)
    assert "some runs of rows of adata" in found
    assert "in a column of adata.obs and pass it as library_key=" in found


def test_a_fifth_of_the_rows(joined):
    joined.obs_names = [f"cell{n}" for n in range(240)]
    counts = np.random.default_rng(0).poisson(2, (240, 200)).astype(np.float32)
    counts[48:96, 100:130] = 0
    joined.X = counts
    assert "some runs of rows" in findings(joined)


def test_kinds_of_cells_are_not_suspected():
    assert CellReader(two_kinds(60, 240), released_vocabulary(), "log1p_counts").findings == []  # a run of rows
    cells = two_kinds()
    cells.obs["cluster"] = np.repeat(["one", "other"], 60)
    reader = CellReader(cells, released_vocabulary(), "log1p_counts")
    assert reader.findings == []
    assert not reader.partly_measured.any()


def test_names_of_cells_and_samples_are_no_kinds():
    cells = two_kinds()
    cells.obs_names = [f"cell{n}-{'ab'[n // 60]}" for n in range(120)]
    assert "names start or end alike" in findings(cells)
    cells.obs["sample"] = np.repeat(["one", "other"], 60)
    assert "library_key='sample', so that they count as not measured" in findings(cells)
    reader = CellReader(cells, released_vocabulary(), "log1p_counts", ReadOptions(library_key="sample"))
    assert reader.lacking == {"one": 30}


def test_nothing_is_lacking_if_all_cells_tell_so():
    """A sample seemed to lack genes in the cells that were looked at first."""
    looked_at = SimpleNamespace(samples_that_lack=lambda samples, *, same_kinds: [0])
    counts = np.array([40, 40]), np.full((2, 8), 20)
    cells = JoinedCells(looked_at, np.arange(80), lambda _: counts)
    assert cells.lacking(np.repeat([0, 1], 40)) is None
    counts[1][0, 3] = 0
    np.testing.assert_array_equal(np.argwhere(cells.lacking(np.repeat([0, 1], 40))), [[0, 3]])


def test_a_column_is_suspected_before_names(joined):
    joined.obs["protocol"] = np.where(np.arange(240) < 80, "v2", "v3")
    assert "pass library_key='protocol'" in findings(joined)


def test_another_column_than_the_samples(joined):
    joined.obs["donor"] = np.resize(["d1", "d2"], 240)
    joined.obs["protocol"] = np.where(np.arange(240) < 80, "v2", "v3")
    assert "pass library_key='protocol'" in findings(joined, library_key="donor")


@pytest.mark.parametrize("n_values", [100, 101])
def test_a_column_of_too_many_values_is_passed_over(joined, n_values):
    values = np.arange(240)
    values[n_values - 1 :] = 999  # the last cells, all of which lack genes
    joined.obs["protocol"] = values.astype(str)
    assert ("library_key='protocol'" in findings(joined)) == (n_values == 100)


def test_a_column_with_missing_values_is_passed_over(joined):
    joined.obs["protocol"] = [None] * 40 + ["v2"] * 40 + ["v3"] * 160
    assert "names start or end alike" in findings(joined)


@pytest.mark.parametrize("n_samples", [5, 6])
def test_the_samples_that_lack_genes_are_named(n_samples):
    lacking = np.zeros((n_samples + 1, 8), dtype=bool)
    lacking[1:, :3] = True
    names = [f"s{number}" for number in range(n_samples + 1)]
    found = find_lacking(SimpleNamespace(lacking=lambda _: lacking), np.arange(n_samples + 1), names)
    assert "'s1' (3), 's2' (3), 's3' (3), 's4' (3), 's5' (3)" in found.finding
    assert ("and 1 more." in found.finding) == (" more." in found.finding) == (n_samples == 6)
    assert "s0" not in found.finding
    assert found.partly.tolist() == [True] * 3 + [False] * 5


def test_columns_that_cannot_divide_the_cells_are_passed_over(joined):
    joined.obs["batch"] = [["a", "b"]] * 240
    joined.obs["arrays"] = [np.arange(2)] * 240
    joined.obs["twice"] = "x"
    joined.obs = pd.concat([joined.obs, joined.obs[["twice"]]], axis=1)
    joined.obs["protocol"] = np.where(np.arange(240) < 80, "v2", "v3")
    assert "pass library_key='protocol'" in findings(joined)
