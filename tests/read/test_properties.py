"""Properties of reading that hold for any data, and equality with slow and obvious ways to compute the same."""

from __future__ import annotations

from functools import cache

import anndata as ad
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scanpy_sct.read.genes import load_gene_table, match_genes, released_vocabulary, to_ensembl
from scanpy_sct.read.reader import CellReader

# The same examples in every run: a failure is a change of the code.
few = settings(max_examples=5, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
VOCABULARY = released_vocabulary()


@cache
def genes_by_name() -> tuple[dict[str, set[str]], ...]:
    """Return the genes of each symbol, of each alias, and of each other spelling."""
    symbols, aliases, spellings = {}, {}, {}
    table = load_gene_table()
    for gene, symbol, others in zip(table.index, table["symbol"], table["aliases"], strict=True):
        others = [other for other in others.split("|") if other]
        symbols.setdefault(symbol, set()).add(gene)
        for name in others:
            aliases.setdefault(name, set()).add(gene)
        for name in [*(name.upper() for name in (symbol, *others)), symbol.replace("-", ".")]:
            spellings.setdefault(name, set()).add(gene)
    return symbols, aliases, spellings


def slow_ensembl(name: str, preferred: set[str]) -> str:
    """Find the gene of a single name, which competes with no other."""
    biotype = load_gene_table()["biotype"]
    for of_kind in genes_by_name():
        fitting = of_kind.get(name, set())
        for better in (fitting & preferred, {gene for gene in fitting if biotype[gene] == "protein_coding"}, fitting):
            if better:
                return next(iter(better)) if len(better) == 1 else ""
    return ""


@settings(few, max_examples=3)
@given(seeds, st.integers(0, len(VOCABULARY)))
def test_a_name_alone_is_the_gene_that_a_search_finds(seed, n_preferred):
    rng = np.random.default_rng(seed)
    preferred = rng.choice(VOCABULARY, n_preferred, replace=False)
    names = [str(rng.choice(sorted(of_kind))) for of_kind in genes_by_name() for _ in range(2)]
    for name in [*names, "no such gene"]:
        assert to_ensembl([name], vocabulary=preferred).ensembl_ids.tolist() == [slow_ensembl(name, set(preferred))]


@few
@given(seeds, st.integers(1, 300))
def test_matched_genes_do_not_depend_on_the_order_of_columns(seed, n):
    rng = np.random.default_rng(seed)
    names = rng.choice([*genes_by_name()[0], *genes_by_name()[1]], n, replace=False)
    order = rng.permutation(n)
    totals = rng.permutation(n)
    one = match_genes(names, VOCABULARY, totals=totals)
    other = match_genes(names[order], VOCABULARY, totals=totals[order])
    assert len(set(one.gene_index.tolist())) == len(one.gene_index)
    found, again = (
        dict(zip(of[match.columns].tolist(), match.gene_index.tolist(), strict=True))
        for of, match in ((names, one), (names[order], other))
    )
    assert found == again
    assert sorted((*one.unmatched, *one.ambiguous)) == sorted((*other.unmatched, *other.ambiguous))


@st.composite
def objects(draw):
    """An AnnData of counts or of log-normalised values."""
    rng = np.random.default_rng(draw(seeds))
    n_cells, n_genes = draw(st.integers(1, 60)), draw(st.integers(60, 120))
    counts = rng.poisson(rng.gamma(0.5, 2, n_genes), (n_cells, n_genes)).astype(np.float32)
    counts[0, 0] = 3
    if draw(st.booleans()):
        counts = np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4).astype(np.float32)
    names = rng.permutation(VOCABULARY[VOCABULARY != ""])[:n_genes]
    cells = ad.AnnData(counts)
    cells.obs_names, cells.var_names = [f"cell {number}" for number in range(n_cells)], names
    return cells, rng


def read(cells: ad.AnnData):
    return CellReader(cells, VOCABULARY, "log1p_counts")


@few
@given(objects())
def test_blocks_do_not_depend_on_storage_or_the_order_of_cells_and_genes(made):
    cells, rng = made
    expected = read(cells).block()
    rows, columns = rng.permutation(cells.n_obs), rng.permutation(cells.n_vars)
    for convert in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asfortranarray, np.float64):
        other = cells[rows][:, columns].copy()
        other.X = convert(other.X)
        block = read(other).block()
        assert (block.log_values != expected.log_values[rows]).nnz == 0
        assert (block.token_values != expected.token_values[rows]).nnz == 0
        assert (block.measured == expected.measured).all()
        assert (block.name_hashes == expected.name_hashes[rows]).all()


@few
@given(objects())
def test_a_block_is_its_rows_of_all_cells(made):
    cells, rng = made
    reader = read(cells)
    rows = rng.integers(0, cells.n_obs, 10)
    part, whole = reader.block(rows), reader.block()
    assert (part.log_values != whole.log_values[rows]).nnz == 0
    assert (part.token_values != whole.token_values[rows]).nnz == 0
    dense = np.zeros((cells.n_obs, len(VOCABULARY)), dtype=np.float32)
    dense[:, reader.genes.gene_index] = cells.X[:, reader.genes.columns]
    expected = np.log1p(dense) if reader.scale == "counts" else dense
    np.testing.assert_allclose(whole.log_values.toarray(), expected, rtol=1e-6)
