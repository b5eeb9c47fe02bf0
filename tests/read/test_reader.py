from __future__ import annotations

import pickle
import re
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.findings import _warn_once
from scanpy_sct.read.genes import load_gene_table, released_vocabulary
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.scale import sampled_rows

VOCABULARY = released_vocabulary()


@pytest.fixture
def genes():
    """120 coding genes with unique symbols."""
    table = load_gene_table()
    table = table[(table["sct_position"] >= 0) & ~table["symbol"].duplicated(keep=False)]
    return table.iloc[100:220]


@pytest.fixture
def adata(genes):
    """30 cells x 124 columns: known genes, then three unknown ones and a non-coding one; cell 4 is empty."""
    rng = np.random.default_rng(0)
    values = rng.poisson(0.7, size=(30, 124)).astype(np.float32)
    values[4] = 0
    names = [*genes["symbol"], "no_gene", "spike", "barcode", "XIST"]
    result = ad.AnnData(sparse.csr_matrix(values), var=pd.DataFrame(index=names))
    result.var["gene_ids"] = [f"{name}.3" for name in [*genes.index, "x1", "x2", "x3", "ENSG00000229807"]]
    result.obs["section"] = ["s1"] * 10 + ["s2"] * 20
    result.obsm["spatial"] = rng.random((30, 2))
    return result


def open_reader(adata, *, vocabulary=VOCABULARY, token_scale="log1p_counts", min_genes=50, **options):
    return CellReader(adata, vocabulary, token_scale, ReadOptions(**options), min_genes=min_genes)


def read(adata, **arguments):
    """All cells, beside what the reader knows of them."""
    reader = open_reader(adata, **arguments)
    facts = {name: getattr(reader, name) for name in ("genes", "scale", "sample_names")}
    return SimpleNamespace(**vars(reader.block()), **facts)


def same(a, b):
    for field in ("log_values", "token_values"):
        x, y = getattr(a, field), getattr(b, field)
        np.testing.assert_array_equal(x.indices, y.indices)
        np.testing.assert_array_equal(x.indptr, y.indptr)
        np.testing.assert_array_equal(x.data, y.data)
    np.testing.assert_array_equal(a.measured, b.measured)


def test_values_are_at_the_index_of_their_genes(adata, genes):
    cells = read(adata, library_key="section")
    assert cells.log_values.shape == (30, 19_968)
    np.testing.assert_array_equal(
        cells.log_values[:, genes["sct_position"].to_numpy()].toarray(), np.log1p(adata.X[:, :120].toarray())
    )
    assert cells.log_values.nnz == adata.X[:, :120].nnz
    assert cells.log_values.has_sorted_indices
    assert cells.token_values.has_sorted_indices
    assert sorted(np.flatnonzero(cells.measured)) == sorted(genes["sct_position"])
    assert cells.samples.tolist() == [0] * 10 + [1] * 20
    assert cells.sample_names == ("s1", "s2")
    assert cells.coordinates.shape == (30, 2)
    assert cells.scale == "counts"
    assert cells.genes.unmatched == ("no_gene", "spike", "barcode", "XIST")


def test_normalised_values(adata, genes):
    """Counts per 10,000 of all columns, and the value of one count in each cell; tokens stay those of counts."""
    assert open_reader(adata).log_scale == "counts"
    assert open_reader(adata).block().units is None
    reader = open_reader(adata, normalise=True)
    assert reader.log_scale == "log"
    cells, totals = reader.block(), adata.X.sum(axis=1).A1
    units = 1e4 / np.maximum(totals, 1)
    units[4] = 1  # no counts
    np.testing.assert_allclose(cells.units, units, rtol=1e-4)
    found, counts = cells.log_values[:, genes["sct_position"].to_numpy()].toarray(), adata.X[:, :120].toarray()
    np.testing.assert_allclose(found, np.log1p(counts * units[:, None]), rtol=1e-5)
    np.testing.assert_array_equal(cells.token_values.data, open_reader(adata).block().token_values.data)


def test_a_measured_gene_without_counts_is_measured(adata):
    adata.X = adata.X.toarray()
    adata.X[:, 0] = 0
    cells = read(adata)
    position = cells.genes.gene_index[0]
    assert cells.measured[position]
    assert cells.log_values[:, position].nnz == 0


def test_empty_cells_keep_their_row(adata):
    cells = read(adata)
    assert cells.log_values[4].nnz == 0
    assert cells.log_values.shape[0] == 30


def test_no_expression_at_all(adata):
    with pytest.raises(ValueError, match=r"adata\.X has no positive value: all 1 x 124 are zero.*layer="):
        read(adata[[4]])
    adata.layers["zero"] = adata.X * 0
    with pytest.raises(ValueError, match=r"adata\.layers\['zero'\] has no positive value"):
        read(adata, layer="zero")
    # What is hidden may well be everything.
    assert read(adata, hide=(adata.X > 0)).log_values.nnz == 0


def test_several_samples_read_as_one_are_mentioned_once(adata, caplog):
    adata.obs["slide"] = ["only here"] * 15 + ["and here"] * 15
    del adata.obs["section"]
    _warn_once.cache_clear()
    read(adata, library_key="slide")
    assert not caplog.records
    read(adata)
    read(adata)
    assert caplog.text.count("library_key='slide'") == 1


def test_symbols_ids_and_columns_give_the_same(adata):
    expected = read(adata)
    same(read(adata, gene_names="gene_ids"), expected)
    by_id = adata.copy()
    by_id.var["symbol"] = pd.Categorical(by_id.var_names)
    by_id.var_names = by_id.var.pop("gene_ids")
    same(read(by_id), expected)
    same(read(by_id, gene_names="symbol"), expected)
    assert read(by_id).genes.id_type == "ensembl"


@pytest.mark.parametrize("token_scale", ["log1p_counts", "log1p_cp10k"])
def test_every_storage_gives_the_same(adata, token_scale, tmp_path):
    expected = read(adata, token_scale=token_scale)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    same(read(backed, token_scale=token_scale), expected)
    for make in (sparse.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(np.int64), lambda x: x.astype(float)):
        other = adata.copy()
        other.X = make(adata.X)
        same(read(other, token_scale=token_scale), expected)
    wider = ad.concat([adata, adata], index_unique="-")
    same(read(wider[:30], token_scale=token_scale), expected)


@pytest.mark.parametrize("token_scale", ["log1p_counts", "log1p_cp10k"])
def test_counts_and_log_normalised_values_give_the_same_tokens(adata, token_scale):
    expected = read(adata, token_scale=token_scale).token_values
    adata.layers["counts"] = adata.X.copy()
    # what scanpy's normalize_total (to the median) and log1p do
    totals = adata.X.sum(axis=1).A1
    factors = np.divide(np.median(totals[totals > 0]), totals, out=np.zeros_like(totals), where=totals > 0)
    adata.X.data = np.log1p(adata.X.data * np.repeat(factors, np.diff(adata.X.indptr))).astype(np.float32)
    found = read(adata, token_scale=token_scale)
    assert found.scale == "log"
    np.testing.assert_array_equal(found.token_values.data, expected.data)
    np.testing.assert_array_equal(found.token_values.indices, expected.indices)
    np.testing.assert_allclose(found.log_values.sum(), adata.X[:, :120].sum(), rtol=1e-5)
    assert read(adata, token_scale=token_scale, layer="counts").scale == "counts"


def test_the_object_is_left_alone(adata):
    before = adata.copy()
    read(adata, library_key="section")
    assert (adata.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert not adata.uns
    view = adata[5:9]
    read(view)
    assert view.is_view


def test_duplicated_names(adata):
    names = adata.var_names.to_numpy().copy()
    names[1] = names[0]
    adata.X = adata.X.toarray()
    adata.X[:, 1] = 9  # the larger one
    del adata.var["gene_ids"]  # which would decide
    adata.var_names = names
    cells = read(adata)
    assert cells.genes.duplicates == (names[0],)
    assert 0 not in cells.genes.columns
    assert cells.log_values[:, cells.genes.gene_index[0]].nnz == 30


@pytest.fixture
def stained(adata, genes):
    """The cells with antibodies before the genes, named as four of these, or by aliases; ids are the other names."""
    names = [*genes["symbol"][:4], "CD45", "CD56"]
    values = sparse.csr_matrix(np.random.default_rng(1).poisson(50, size=(30, 6)).astype(np.float32))
    result = ad.AnnData(sparse.hstack([values, adata.X]).tocsr(), obs=adata.obs.copy(), obsm=adata.obsm)
    result.var_names = [*names, *adata.var["gene_ids"]]
    result.var["symbol"] = [*names, *adata.var_names]
    result.var["feature_types"] = pd.Categorical(["Antibody Capture"] * 6 + ["Gene Expression"] * 124)
    return result


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("storage", "token_scale"),
    [
        ("csr", "log1p_counts"),
        ("backed dense", "log1p_cp10k"),
        ("lazy zarr", "log1p_counts"),
        ("dask csr", "log1p_cp10k"),
    ],
    indirect=["storage"],
)
def test_antibodies_do_not_influence_anything(adata, stained, storage, token_scale):
    expected = read(adata, token_scale=token_scale)
    for gene_names in (None, "symbol"):
        found = read(storage(stained), token_scale=token_scale, gene_names=gene_names)
        same(found, expected)
        assert found.genes.not_genes == tuple(stained.var_names[:6])
        assert found.genes.duplicates == ()


def test_an_id_wins_over_an_antibody_without_types(adata, stained):
    del stained.var["feature_types"]
    reader = open_reader(stained)
    assert reader.genes.kept == tuple(stained.var_names[6:10])
    assert "2 have symbols ('CD45', 'CD56') and are read as these genes" in reader.findings[0]
    stained.var_names, stained.var["id"] = stained.var["symbol"], stained.var_names
    stained.var_names_make_unique()  # the genes become "NAME-1"
    reader = open_reader(stained)
    assert reader.genes.kept == tuple(stained.var_names[6:10])
    assert set(reader.measured.nonzero()[0]) > set(open_reader(adata).measured.nonzero()[0])


def test_values_of_columns_that_are_not_genes_may_be_anything(adata, stained):
    dense = stained.X.toarray()
    dense[:, :6] -= 50  # centred
    dense[3, 0], dense[4, 1] = np.nan, 0.5
    for values in (dense, pytest.importorskip("dask.array").from_array(dense, chunks=(7, 130))):
        stained.X = values
        reader = open_reader(stained)
        same(reader.block(), read(adata))
        kept = reader.columns_of(reader.rows()).toarray()
        np.testing.assert_allclose(kept[:, 6:], np.log1p(adata.X.toarray()), rtol=1e-6)
        expected = np.where(dense > 0, np.log1p(np.maximum(dense, 0)), dense)
        np.testing.assert_allclose(kept[:, :6], expected[:, :6], rtol=1e-6)
    del stained.var["feature_types"]
    with pytest.raises(ValueError, match="1 NaN"):
        open_reader(stained)


def test_without_coordinates_and_samples(adata):
    del adata.obsm["spatial"]
    cells = read(adata)
    assert cells.coordinates is None
    assert cells.sample_names == ("all",)


def mouse(genes):
    return [symbol.title() for symbol in genes["symbol"]]


def test_mouse_symbols(adata, genes):
    adata.var_names = [*mouse(genes), "a", "b", "c", "d"]
    with pytest.raises(ValueError, match=r"look like genes of mouse.*orthologues"):
        read(adata)


def test_mouse_symbols_with_chance_matches(adata, genes):
    # more matches than min_genes do not make a mouse human
    adata.var_names = [*genes["symbol"][:20], *mouse(genes)[20:], "a", "b", "c", "d"]
    with pytest.raises(ValueError, match="look like genes of mouse"):
        read(adata, min_genes=10)


def test_mouse_ids(adata):
    adata.var_names = [f"ENSMUSG{number:011d}" for number in range(124)]
    with pytest.raises(ValueError, match="mouse Ensembl ids"):
        read(adata)


def test_human_and_mouse_reads_side_by_side(adata, genes):
    names = [f"GRCh38_{name}" for name in genes.index[:50]] + [f"mm10___ENSMUSG{n:011d}" for n in range(74)]
    adata.var_names = names
    assert read(adata).measured.sum() == 50


def test_too_few_genes_names_the_better_column(adata):
    adata.var_names = [str(number) for number in range(124)]
    with pytest.raises(ValueError, match=r"Only 0 of 124 names in adata.var_names \('0', '1'.*gene_names='gene_ids'"):
        read(adata)
    assert read(adata, gene_names="gene_ids").measured.sum() == 120


def test_too_few_genes_names_the_index(adata):
    adata.var["code"] = "x"
    with pytest.raises(ValueError, match=r"Only 0 of 124 names in adata.var\['code'\].*gene_names='gene_ids'"):
        read(adata, gene_names="code")
    del adata.var["gene_ids"]
    with pytest.raises(ValueError, match=r"120 names in adata.var_names would match: use gene_names=None"):
        read(adata, gene_names="code")


def test_a_column_that_would_not_do_is_not_named(adata):
    adata.obs_names = adata.var_names[:30]
    adata.var_names = [str(number) for number in range(124)]
    adata.var["cell_type"] = ["CD4", *["B cell"] * 123]
    del adata.var["gene_ids"]
    with pytest.raises(ValueError, match=r"Only 0 of 124") as error:
        read(adata)
    assert "cell_type" not in str(error.value)


def test_a_transposed_object(adata):
    turned = adata.T.copy()
    turned.var["cell_type"] = ["CD4", *["B cell"] * 29]
    with pytest.raises(ValueError, match=r"120 names in adata\.obs_names would match: .*transposed, use adata\.T"):
        read(turned)


def test_min_genes(adata):
    few = adata[:, :40].copy()
    with pytest.raises(ValueError, match=r"Only 40 of 40 names.*at least 50 are needed"):
        read(few)
    assert read(few, min_genes=40).measured.sum() == 40
    assert CellReader(adata[:, :50].copy(), VOCABULARY, "log1p_counts").measured.sum() == 50
    with pytest.raises(ValueError, match="at least 50 are needed"):
        CellReader(adata[:, :49].copy(), VOCABULARY, "log1p_counts")


def test_wrong_arguments(adata):
    with pytest.raises(KeyError, match=r"gene_names='symbol' is not a column of adata.var; there are: 'gene_ids'"):
        read(adata, gene_names="symbol")
    with pytest.raises(KeyError, match="layer='x'"):
        read(adata, layer="x")
    with pytest.raises(KeyError, match="library_key='x'"):
        read(adata, library_key="x")
    with pytest.raises(TypeError, match="layer=3"):
        read(adata, layer=3)
    with pytest.raises(TypeError, match=r"gene_names=\['gene_ids'\]"):
        read(adata, gene_names=["gene_ids"])
    with pytest.raises(ValueError, match="0 cells"):
        read(adata[:0])
    with pytest.raises(ValueError, match="0 genes"):
        read(adata[:, :0])
    with pytest.raises(ValueError, match="target must be"):
        read(adata, token_scale="cpm")


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        (pd.DataFrame(), r"found DataFrame.*anndata\.AnnData\(df\)"),
        (np.zeros((3, 2)), r"found ndarray.*anndata\.AnnData\(matrix\)"),
        ("cells.h5ad", r"found str.*scanpy\.read_h5ad\('cells\.h5ad'\)"),
        ({}, "found dict.*with scanpy first"),
    ],
)
def test_other_objects(found, hint):
    with pytest.raises(TypeError, match=f"adata must be an AnnData, {hint}"):
        read(found)


def test_scaled_data(adata):
    adata.X = adata.X.toarray() - 0.7
    with pytest.raises(ValueError, match=r"scaled or centred.*before scaling"):
        read(adata)


def spoiled(adata, how):
    """Return the cells with something that cannot be read."""
    other, options = adata.copy(), {}
    match how:
        case "not an AnnData":
            return other.X, options
        case "no cells":
            other = other[:0]
        case "no layer":
            options = {"layer": "x"}
        case "layer of numbers":
            options = {"layer": 3}
        case "no X":
            other.X = None
        case "NaN":
            other.X.data[0] = np.nan
        case "negative":
            other.raw, other.layers["a"] = adata, adata.X
            other.X = other.X.toarray() - 0.7
        case "subtracted":
            other.X = other.X.toarray() - 1
        case "empty":
            other.X = other.X * 0
        case "two scales":
            other = ad.concat([adata] * 80, index_unique="-")
            other.X[np.setdiff1d(np.arange(2400), sampled_rows(2400))[0], 0] = 0.5
            other.X = pytest.importorskip("dask.array").from_array(other.X.toarray(), chunks=(100, 124))
        case "no genes":
            other.var_names = [str(number) for number in range(124)]
            other.var["symbol"] = adata.var_names.to_numpy()
        case "mouse":
            other.var_names = adata.var_names.str.title()
        case "transposed":
            del other.var["gene_ids"]
            other = other.T.copy()
        case "peaks":
            other.var["feature_types"] = "Peaks"
        case "no column":
            options = {"gene_names": "x"}
        case "number":
            options = {"gene_names": 3}
        case "no samples":
            options = {"library_key": "x"}
        case "missing samples":
            other.obs["section"] = [None] * 30
            options = {"library_key": "section"}
        case "coordinates":
            other.obsm["spatial"] = np.ones((30, 1))
    return other, options


@pytest.mark.parametrize(
    "how",
    [
        *("not an AnnData", "no cells", "no layer", "layer of numbers", "no X", "NaN", "negative", "subtracted"),
        *("empty", "two scales", "no genes", "mouse", "transposed", "peaks", "no column", "number", "no samples"),
        *("missing samples", "coordinates"),
    ],
)
def test_messages_name_the_object(adata, how):
    found, options = spoiled(adata, how)
    with pytest.raises((KeyError, TypeError, ValueError)) as of_query:
        open_reader(found, **options).block()
    with pytest.raises(of_query.type) as error:
        open_reader(found, owner="reference", **options).block()
    text = str(error.value)
    assert "reference" in text or "library_key" in text
    assert "adata." not in text.replace("adata.AnnData", "").replace("anndata.", "")
    assert not re.search(r"(?<!reference_)\b(layer|gene_names|scale)=", text)
    of_query = str(of_query.value)
    for name in ("layer", "gene_names", "scale"):
        text = text.replace(f"reference_{name}", name)
    assert text.replace("reference", "adata") == of_query


def test_findings_name_the_object(adata):
    adata.obsm["spatial"][:] = np.nan
    adata.var_names = ["CD45", *adata.var["gene_ids"][1:]]
    findings = open_reader(adata, owner="reference").findings
    assert len(findings) == 3
    assert all("reference" in text and "adata" not in text for text in findings)


def test_a_vocabulary_of_its_own(adata, genes):
    vocabulary = np.array(["", *genes.index[::-1], ""])
    cells = read(adata, vocabulary=vocabulary)
    assert cells.measured.tolist() == [False] + [True] * 120 + [False]
    np.testing.assert_array_equal(cells.log_values[:, 1:-1].toarray(), np.log1p(adata.X[:, :120].toarray()[:, ::-1]))


@pytest.mark.parametrize("file", ["dev/heart_dev_ST_CN73.h5ad", "train/midbrain_ipsc_lamanno.h5ad"])
def test_real_data_by_symbol_and_by_id(data_dir, file):
    adata = ad.read_h5ad(data_dir / file)
    by_id, by_symbol = read(adata), read(adata, gene_names="gene_symbol")
    both = by_id.measured & by_symbol.measured
    assert both.sum() > 0.999 * by_id.measured.sum()
    totals = [np.asarray(e.log_values.sum(axis=0, dtype=float)).ravel()[both] for e in (by_id, by_symbol)]
    assert np.isclose(*totals).mean() > 0.999


def test_a_block_of_cells_is_the_same_rows_of_all_cells(adata):
    hide = np.random.default_rng(0).random(adata.shape) < 0.1
    for scale in ("log1p_counts", "log1p_cp10k"):
        reader = open_reader(adata, token_scale=scale, library_key="section", hide=hide)
        whole, rows = reader.block(), np.array([21, 3, 4, 17])
        for part in (reader.block(rows), whole.block(rows)):
            for name in ("log_values", "token_values", "hidden"):
                np.testing.assert_array_equal(getattr(part, name).toarray(), getattr(whole, name)[rows].toarray())
            for name in ("samples", "coordinates", "name_hashes"):
                np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
            np.testing.assert_array_equal(part.rows, rows)


def test_hidden_entries_are_read_as_nothing(adata):
    hide = np.random.default_rng(0).random(adata.shape) < 0.3
    changed = adata.copy()
    dense = changed.X.toarray()
    dense[hide] = 7
    changed.X = sparse.csr_matrix(dense)
    same(read(adata, hide=hide), read(changed, hide=sparse.csr_matrix(hide)))
    adata.layers["hide"] = hide
    same(read(adata, hide=hide), read(adata, hide="hide"))


def test_some_genes_of_a_block(adata, genes):
    block = open_reader(adata).block()
    chosen = np.sort(genes["sct_position"].to_numpy()[:7])
    part = block.at_genes(np.append(chosen, 19_960))
    np.testing.assert_array_equal(part.log_values[:, :7].toarray(), block.log_values[:, chosen].toarray())
    assert part.measured.tolist() == [True] * 7 + [False]


def test_names_decide_the_hash_and_not_the_order(adata):
    hashes = open_reader(adata).name_hashes
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(open_reader(adata[order]).name_hashes, hashes[order])
    assert len(set(hashes)) == 30


@pytest.fixture
def large(adata):
    """300 cells of counts, on 80 of which properties are found."""
    result = ad.concat([adata] * 10, index_unique="-", merge="same")
    result.obs["section"] = pd.Categorical(result.obs["section"], categories=["s2", "s1"])
    return result


def facts(reader):
    return {
        "genes": reader.genes.columns.tolist(),
        "scale": reader.scale,
        "tokens": reader._to_tokens,
        "samples": (reader.sample_names, reader.samples.tolist()),
        "holds_counts": reader.holds_counts,
    }


@pytest.mark.usefixtures("small_blocks")
def test_facts_and_blocks_do_not_depend_on_the_storage(large, storage):
    check_facts_and_blocks(large, storage)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("storage", ["dense", "backed csr", "dask dense"], indirect=True)
def test_facts_and_blocks_of_logarithms(large, storage):
    counts = large.X.toarray()
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    large.X = sparse.csr_matrix(np.log1p(1e4 * counts / totals).astype(np.float32))
    check_facts_and_blocks(large, storage)


def check_facts_and_blocks(large, storage):
    hide = np.random.default_rng(0).random(large.shape) < 0.1
    expected = open_reader(large, hide=hide, library_key="section")
    reader = open_reader(storage(large), hide=hide, library_key="section")
    assert facts(reader) == facts(expected)
    rows = np.random.default_rng(1).permutation(300)[:70]
    same(reader.block(rows), expected.block(rows))
    same(reader.sample, expected.sample)
    light = pickle.loads(pickle.dumps(reader.without_matrix()))
    assert light.holds_counts == reader.holds_counts
    lazy = reader.lazy_rows(rows)
    assert (lazy is None) == reader.is_in_memory
    matrix = reader.rows(rows) if lazy is None else lazy.compute()
    sent = light.to_block(matrix, rows, reader.hidden_columns(rows))
    same(sent, expected.block(rows))
    np.testing.assert_array_equal(sent.hidden.toarray(), expected.block(rows).hidden.toarray())
    assert sum(block.n_cells for block in reader.blocks()) == 300


@pytest.mark.usefixtures("small_blocks")
def test_only_the_sampled_rows_are_read_when_the_reader_is_made(large):
    da = pytest.importorskip("dask.array")
    loaded = []

    def load(block_info=None):
        (start, stop), _ = block_info[None]["array-location"]
        loaded.append(start)
        return large.X[start:stop]

    lazy = large.copy()
    lazy.X = da.map_blocks(load, chunks=((5,) * 60, (124,)), dtype=np.float32, meta=sparse.csr_matrix((0, 0)))
    loaded.clear()
    reader = open_reader(lazy)
    assert len(loaded) == len(set(loaded)) <= 24  # 8 runs of 10 rows in chunks of 5
    loaded.clear()
    reader.block(np.arange(40, 80))
    assert sorted(loaded) == list(range(40, 80, 5))


def test_a_hidden_layer_may_be_lazy(adata):
    da = pytest.importorskip("dask.array")
    hide = np.random.default_rng(0).random(adata.shape) < 0.1
    adata.layers["hide"] = da.from_array(hide, chunks=(7, 124))
    same(read(adata, hide="hide"), read(adata, hide=hide))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize(
    ("as_log", "bad", "expected"),
    [(False, 0.5, r"not integers \(such as 0\.5\) in row 262, .* counts"), (True, 31.0, r"above 20 .* in row 262, ")],
)
def test_a_value_of_another_scale_than_that_of_the_cells_looked_at_first(large, is_lazy, as_log, bad, expected):
    values = large.X.toarray()
    values = np.log1p(values) if as_log else values
    values[262, 3] = bad
    large.X = sparse.csr_matrix(values)
    if is_lazy:
        large.X = pytest.importorskip("dask.array").from_array(values, chunks=(70, 124))
    with pytest.raises(ValueError, match=expected):
        open_reader(large).block(np.arange(258, 270))


def test_a_reader_of_some_genes(adata):
    reader = open_reader(adata)
    chosen = reader.genes.gene_index[::3]
    part, whole = reader.with_genes(chosen).block(), reader.block()
    assert np.flatnonzero(part.measured).tolist() == sorted(chosen)
    np.testing.assert_array_equal(part.log_values[:, chosen].toarray(), whole.log_values[:, chosen].toarray())
    assert part.log_values.nnz == whole.log_values[:, chosen].nnz
    assert reader.measured.sum() == 120
