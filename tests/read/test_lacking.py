from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.genes import load_gene_table, released_vocabulary
from scanpy_sct.read.lacking import (
    LackingTest,
    _rates,
    _relative_depth,
    count_all,
    count_detected,
    kinds_of_cells,
    lacking_genes,
)
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader

N_CELLS, N_GENES = 400, 300


def simulated(seed=0, n_cells=N_CELLS):
    """Counts of two kinds of cells: the first 40 genes are of the first kind only, the next 40 of the second."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(1, 1, size=N_GENES) + 0.1
    kind = rng.integers(0, 2, n_cells)
    mean = np.tile(rates, (n_cells, 1))
    mean[kind == 1, :40] = 0
    mean[kind == 0, 40:80] = 0
    return rng.poisson(mean).astype(np.float32), kind


def gene_ids():
    table = load_gene_table()
    return table.index[(table["sct_position"] >= 0) & (table["biotype"] == "protein_coding")][:N_GENES].to_numpy(str)


@pytest.fixture
def joined():
    """Two samples, of which the second has no counts of 30 genes."""
    counts, _ = simulated()
    second = np.arange(N_CELLS) % 2 == 1
    lacking = np.zeros(N_GENES, dtype=bool)
    lacking[100:130] = True
    counts[np.ix_(second, lacking)] = 0
    adata = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=gene_ids()))
    adata.obs["origin"] = np.where(second, "b", "a")
    return adata, second, lacking


def open_reader(adata, **options):
    return CellReader(adata, released_vocabulary(), "log1p_counts", ReadOptions(**options))


def test_genes_of_a_join_are_hidden_where_they_lack(joined):
    adata, second, lacking = joined
    reader = open_reader(adata, library_key="origin")
    assert reader.lacking == {"b": 30}
    hidden = reader.hidden_columns().toarray()
    np.testing.assert_array_equal(hidden, np.outer(second, lacking))
    block = reader.block(np.array([1, 0, 3]))
    np.testing.assert_array_equal(block.hidden.getnnz(axis=1), [30, 0, 30])
    assert reader.partly_measured.sum() == 30
    assert "'b' (30)" in reader.findings[0]
    assert "not measured" in reader.findings[0]


def test_hidden_by_user_and_by_sample(joined):
    adata, second, lacking = joined
    hide = np.zeros(adata.shape, dtype=bool)
    hide[0, 5] = hide[1, 110] = True
    hidden = open_reader(adata, library_key="origin", hide=hide).hidden_columns()
    np.testing.assert_array_equal(hidden.toarray(), np.outer(second, lacking) | hide)
    assert hidden.dtype == bool


def test_without_library_key_a_column_is_suspected(joined):
    adata, _, _ = joined
    adata.obs["depth"] = np.linspace(0, 1, N_CELLS)
    adata.obs["cell"] = [f"cell {n}" for n in range(N_CELLS)]
    reader = open_reader(adata)
    assert reader.lacking == {}
    assert reader.hidden_columns() is None
    assert reader.partly_measured.sum() == 30
    (finding,) = [text for text in reader.findings if "join" in text]
    assert "adata.obs['origin']" in finding
    assert "library_key='origin'" in finding
    assert "reference.obs['origin']" in open_reader(adata, owner="reference").findings[-1]


def test_genes_of_one_kind_of_cells_are_no_evidence():
    counts, kind = simulated()
    adata = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=gene_ids()))
    # One sample has cells of the first kind only: it has no count of 40 genes that others detect often.
    kept = (kind == 0) | (np.arange(N_CELLS) % 2 == 0)
    adata.obs["sample"] = np.where(np.arange(N_CELLS) % 2 == 0, "both", "one")
    adata = adata[kept].copy()
    test = LackingTest(adata.X, gene_ids())
    assert test._lacking(
        (adata.obs["sample"] == "one").to_numpy().astype(int), np.zeros(adata.n_obs, dtype=int), False
    ) == [1]
    reader = open_reader(adata, library_key="sample")
    assert reader.lacking == {}
    assert reader.findings == []


def test_sex_linked_genes_are_no_evidence(joined):
    adata, _, _ = joined
    table = load_gene_table()
    linked = table.index[table["symbol"].isin(["RPS4Y1", "DDX3Y", "EIF1AY", "UTY", "KDM5D", "USP9Y", "ZFY", "XIST"])]
    names = adata.var_names.to_numpy(dtype=str)
    counts = adata.X.toarray()
    counts[:, 108:130] = 1
    names[100:108] = linked
    adata = ad.AnnData(sparse.csr_matrix(counts), obs=adata.obs, var=pd.DataFrame(index=names))
    assert open_reader(adata, library_key="origin").lacking == {}


@pytest.mark.parametrize(
    ("n_genes", "n_lacking", "is_found"), [(60, 5, True), (60, 4, False), (400, 16, True), (400, 15, False)]
)
def test_how_many_genes_a_sample_must_lack(n_genes, n_lacking, is_found):
    counts = np.random.default_rng(0).poisson(3, (60, n_genes))
    counts[::2, :n_lacking] = 0
    table = load_gene_table()
    ids = table.index[table["biotype"] == "protein_coding"][:n_genes].to_numpy(str)
    found = LackingTest(sparse.csr_matrix(counts), ids).samples_that_lack(np.arange(60) % 2)
    assert found == ([0] if is_found else [])


@pytest.mark.parametrize(
    ("n_here", "n_others", "is_found"), [(40, 20, True), (40, 19, False), (5, 40, True), (4, 40, False)]
)
def test_how_many_cells_are_compared(n_here, n_others, is_found):
    counts = np.random.default_rng(0).poisson(4, (n_here + n_others, 60))
    counts[:n_here, :20] = 0
    samples = np.repeat([0, 1], [n_here, n_others])
    assert LackingTest(sparse.csr_matrix(counts), gene_ids()[:60]).samples_that_lack(samples) == (
        [0] if is_found else []
    )


def detecting(*numbers):
    """45 cells, of which the first ``numbers[gene]`` detect a gene; two such samples are too few cells for kinds."""
    return np.arange(45)[:, None] < np.concatenate(numbers)


def samples_that_lack(*samples, **options):
    matrix = sparse.csr_matrix(np.vstack(samples), dtype=np.float32)
    numbers = np.repeat(np.arange(len(samples)), [len(each) for each in samples])
    return LackingTest(matrix, gene_ids()[: matrix.shape[1]]).samples_that_lack(numbers, **options)


@pytest.mark.parametrize(("n_others", "is_found"), [(9, True), (8, False)])
def test_a_gene_must_be_expected_in_ten_cells_to_be_tested(n_others, is_found):
    """A gene that nine of 45 other cells detect is expected in 10.04 cells, one that eight detect in 8.8."""
    found = samples_that_lack(detecting([0] * 5, [20] * 20), detecting([n_others] * 5, [20] * 20))
    assert found == ([0] if is_found else [])


def test_genes_too_rare_to_be_tested_do_not_count():
    """Five genes are lacking, of 25 that can be tested, or of 125."""
    assert samples_that_lack(detecting([0] * 5, [20] * 20, [7] * 100), detecting([20] * 25, [7] * 100)) == [0]
    assert samples_that_lack(detecting([0] * 5, [20] * 20, [9] * 100), detecting([20] * 25, [9] * 100)) == []


@pytest.mark.parametrize(("n_others", "is_found"), [(20, True), (15, False)])
def test_less_is_expected_of_a_sample_of_less_depth(n_others, is_found):
    """A sample with rates of 0.48 of those of the others: 12.6 cells are expected, or 8.7."""
    found = samples_that_lack(detecting([0] * 5, [11] * 20), detecting([n_others] * 5, [20] * 20))
    assert found == ([0] if is_found else [])


def test_kinds_of_cells_of_their_own_lack_nothing():
    rng = np.random.default_rng(0)
    first, second = (rng.poisson(np.repeat(rates, [40, 40, 30]), (60, 110)) for rates in ([4, 0.5, 0], [0.5, 4, 2]))
    assert samples_that_lack(first, second) == [0]
    assert samples_that_lack(first, second, same_kinds=True) == []


def test_a_gene_must_be_expected_in_five_cells():
    """A sample of 100 cells beside one of 1,000, of which the first is half as deep in the second case."""
    n_cells = np.array([1000, 100])
    of_others = np.array([48, 52, 105, *[600] * 20])
    rate = -np.log1p(-0.6)
    for depth, expected in ((1, [False, True, True]), (0.5, [False, False, True])):
        here = np.array([0, 0, 0, *[round(-100 * np.expm1(-rate * depth))] * 20])
        found = lacking_genes(n_cells, np.array([of_others, here]), [1])
        assert found[1, :3].tolist() == expected
        assert found.sum() == sum(expected)


def test_at_most_eight_kinds():
    counts = np.random.default_rng(0).poisson(1, (500, 40))
    assert len(np.unique(kinds_of_cells(sparse.csr_matrix(counts)))) == 8


def test_kinds_have_fifty_cells():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1, (100, 40)))
    assert len(np.unique(kinds_of_cells(counts))) == 2
    assert kinds_of_cells(counts[:99]).tolist() == [0] * 99
    assert len(np.unique(kinds_of_cells(counts[:, :2]))) == 2
    assert kinds_of_cells(counts[:, :1]).tolist() == [0] * 100


def test_kinds_come_from_the_thousand_most_variable_genes():
    counts = np.random.default_rng(0).poisson(0.7, (100, 1000))
    in_some, in_all = (np.where(np.arange(100) < 20, 10_000, least)[:, None] for least in (0, 1))
    found = kinds_of_cells(sparse.csr_matrix(np.hstack([in_some, in_all, counts])))
    np.testing.assert_array_equal(found, kinds_of_cells(sparse.csr_matrix(counts)))
    assert found[:20].min() != found[:20].max()
    found = kinds_of_cells(sparse.csr_matrix(np.hstack([in_some, counts[:, 1:]])))
    assert found[:20].min() == found[:20].max()


def test_a_gene_that_two_of_three_samples_lack():
    counts, _ = simulated(n_cells=600)
    sample = np.arange(600) % 3
    for n in (1, 2):
        counts[np.ix_(sample == n, np.arange(100, 130))] = 0
    n_cells, detected = count_detected(sparse.csr_matrix(counts), sample, 3)
    found = lacking_genes(n_cells, detected, [1, 2])
    np.testing.assert_array_equal(np.flatnonzero(found[1]), np.arange(100, 130))
    np.testing.assert_array_equal(found[1], found[2])
    assert not found[0].any()


def test_samples_that_lack_a_gene_do_not_dilute_its_rate():
    detected = np.full((3, 51), 50)
    detected[:, 50] = 0, 0, 6  # six are expected in each of the others, three if both others counted
    found = lacking_genes(np.array([100, 100, 100]), detected, [0, 1])
    assert found[:2, 50].all()
    assert found.sum() == 2


def test_all_cells_are_counted_before_a_gene_is_hidden(joined, monkeypatch):
    adata, second, _ = joined
    # Rows that are looked at first do not show the only count of gene 100 in the second sample.
    monkeypatch.setattr("scanpy_sct.read.scale.N_SAMPLED_ROWS", 200)
    monkeypatch.setattr("scanpy_sct.read.scale.N_RUNS", 4)
    counts = adata.X.toarray()
    from scanpy_sct.read.scale import sampled_rows

    unseen = np.setdiff1d(np.flatnonzero(second), sampled_rows(N_CELLS))[0]
    counts[unseen, 100] = 1
    adata.X = sparse.csr_matrix(counts)
    assert open_reader(adata, library_key="origin").lacking == {"b": 29}


def test_count_detected():
    matrix = sparse.csr_matrix(np.array([[1, 0, 2], [0, 0, 1], [3, 0, 0]], dtype=np.float32))
    n_cells, detected = count_detected(matrix, np.array([1, 1, 0]), 3)
    np.testing.assert_array_equal(n_cells, [1, 2, 0])
    np.testing.assert_array_equal(detected, [[1, 0, 0], [1, 0, 2], [0, 0, 0]])


def test_count_all_samples_over_parts():
    first = sparse.csr_matrix(np.array([[1.0, 0], [1, 1]]))
    n_cells, detected = count_all([(first, np.array([1, 0])), (first[:1], np.array([2])), (first, np.array([0, 0]))])
    np.testing.assert_array_equal(n_cells, [3, 1, 1])
    np.testing.assert_array_equal(detected, [[3, 2], [1, 0], [1, 0]])


def test_rates():
    """A gene that all cells detect has the rate at which half a cell would not."""
    np.testing.assert_allclose(_rates(np.array([0, 5, 10]), 10), -np.log([1, 0.5, 0.05]))
    np.testing.assert_allclose(_rates(np.array([0, 2]), np.array([0, 4])), -np.log([1, 0.5]))


def test_kinds_of_cells():
    counts, kind = simulated()
    found = kinds_of_cells(sparse.csr_matrix(counts))
    # Every kind that is found has cells of one simulated kind only.
    assert all(len(np.unique(kind[found == each])) == 1 for each in np.unique(found))
    assert kinds_of_cells(sparse.csr_matrix(counts[:10])).max() == 0


def test_cells_that_are_all_the_same_have_kinds_without_a_warning():
    assert kinds_of_cells(sparse.csr_matrix(np.ones((120, 30)))).tolist() == [0] * 120


def test_two_kinds_of_few_cells():
    counts, kind = simulated(n_cells=120)
    found = kinds_of_cells(sparse.csr_matrix(counts))
    assert sorted(np.unique(found)) == [0, 1]
    assert all(len(np.unique(kind[found == each])) == 1 for each in (0, 1))


def test_relative_depth_comes_from_genes_that_both_detect_often():
    others = np.array([10, 10, 10, 500, 550, 600, 0, 0, 0, 0, *[600] * 5])
    # Half as deep where genes are detected often, and something else in rare genes and in those of one side only.
    rate = -np.log1p(-others / 1000) / 2
    here = np.rint(1000 * -np.expm1(-rate)).astype(int)
    here[:3], here[6:10], here[10:] = 200, 300, 0
    assert _relative_depth(here, 1000, others, 1000) == pytest.approx(0.5, abs=0.01)
    assert _relative_depth(here * 0, 1000, others, 1000) == 0


def test_clusters_lack_nothing(pbmc):
    """Louvain clusters of a few hundred variable genes: many have no count of genes of the others."""
    for column in ("louvain", "bulk_labels", "phase"):
        adata = pbmc.copy()
        adata.obs = adata.obs[[column]]
        assert open_reader(adata).findings == []


@pytest.mark.parametrize("name", ["dev/heart_dev_ST_CN73", "train/pbmc_sorted_14k", "train/blood_hao_v3"])
def test_no_false_alarm_on_real_samples(data_dir, name):
    """Sections of one organ, sorted blood cells (one type a sample), donors."""
    adata = ad.read_h5ad(data_dir / f"{name}.h5ad")
    assert open_reader(adata, library_key="sample").lacking == {}


def test_dense_join_names_the_way_out():
    counts, _ = simulated()
    ids = gene_ids()
    parts = [ad.AnnData(counts[:200], var=pd.DataFrame(index=ids)), ad.AnnData(counts[200:, 30:].copy())]
    parts[1].var_names = ids[30:]
    joined = ad.concat(parts, join="outer", index_unique="-")
    with pytest.raises(ValueError, match=r"200 cells have no value of the same 30.*fill_value=0.*library_key"):
        open_reader(joined)
    single = parts[0].copy()
    single.X[3, 4] = np.nan
    with pytest.raises(ValueError, match="row 3") as error:
        open_reader(single)
    assert "concat" not in str(error.value)
