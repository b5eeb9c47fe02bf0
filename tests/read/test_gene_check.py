"""How many names must be those of genes, and of how many it is said that they are not."""

from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct.read.gene_check import check_match, symbols_among_ids
from scanpy_sct.read.genes import load_gene_table, match_genes, released_vocabulary

VOCABULARY = released_vocabulary()
TABLE = load_gene_table()
GENES = TABLE[(TABLE["sct_position"] >= 0) & ~TABLE["symbol"].duplicated(keep=False)].iloc[100:200]
IDS, SYMBOLS = GENES.index.tolist(), GENES["symbol"].tolist()


def check(names, min_genes=10, **columns):
    var = pd.DataFrame(columns, index=names)
    adata = ad.AnnData(np.ones((1, len(names)), dtype=np.float32), var=var)
    match = match_genes(names, VOCABULARY)
    check_match(match, pd.Series(names), VOCABULARY, adata, None, min_genes)


def names_of(n_mouse, n_human, n_other):
    mouse = [f"ENSMUSG{number:011d}" for number in range(n_mouse)]
    return [*mouse, *IDS[:n_human], *(f"no_gene_{number}" for number in range(n_other))]


@pytest.mark.parametrize(("n_mouse", "n_human", "is_mouse"), [(51, 0, True), (50, 0, False), (60, 9, True)])
def test_ids_of_mouse(n_mouse, n_human, is_mouse):
    with pytest.raises(ValueError, match="at least 10 are needed" if not is_mouse else "mouse Ensembl ids"):
        check(names_of(n_mouse, n_human, 100 - n_mouse - n_human))


def test_less_than_a_tenth_of_human_genes_beside_mouse():
    with pytest.raises(ValueError, match="mouse Ensembl ids"):
        check(names_of(100, 10, 0), min_genes=11)  # a tenth of 110 is 11


def test_a_tenth_of_human_genes_is_enough_beside_mouse():
    check(names_of(60, 10, 30))
    with pytest.raises(ValueError, match="Only 9 of"):
        check(names_of(0, 9, 0))


@pytest.mark.parametrize(
    ("n_lower", "n_human", "is_mouse"), [(11, 0, True), (10, 0, False), (7, 6, True), (6, 6, False)]
)
def test_symbols_of_another_case(n_lower, n_human, is_mouse):
    symbols = [symbol for symbol in SYMBOLS if symbol.isupper() and symbol.isalpha()]
    names = [*symbols[:n_human], *(symbol.title() for symbol in symbols[n_human : n_human + n_lower])]
    with pytest.raises(ValueError, match=f"In upper case {n_lower + n_human}" if is_mouse else "at least 20"):
        check([*names, *(f"no_gene_{number}" for number in range(5))], 20)


def test_symbols_of_another_case_beside_less_than_half_of_human_ones():
    symbols = [symbol for symbol in SYMBOLS if symbol.isupper() and symbol.isalpha()][:13]
    with pytest.raises(ValueError, match="In upper case 13"):
        check([*symbols[:6], *(symbol.title() for symbol in symbols[6:])], 20)


def test_five_names_are_examples():
    with pytest.raises(ValueError, match=r"\('no_gene_0', .*'no_gene_4', \.\.\.; read as symbols\)"):
        check(names_of(0, 0, 20))


@pytest.mark.parametrize(("n_needed", "is_said"), [(4, True), (5, False)])
def test_a_transposed_object(n_needed, is_said):
    names = [f"cell{number}" for number in range(6)]
    adata = ad.AnnData(np.ones((4, 6), dtype=np.float32), pd.DataFrame(index=IDS[:4]), pd.DataFrame(index=names))
    with pytest.raises(ValueError, match=f"at least {n_needed}") as found:
        check_match(match_genes(names, VOCABULARY), pd.Series(names), VOCABULARY, adata, None, n_needed)
    assert ("4 names in adata.obs_names would match: the object looks transposed" in str(found.value)) == is_said


def test_only_columns_whose_name_is_a_string_are_named():
    names = [f"no_gene_{number}" for number in range(4)]
    var = pd.DataFrame({0: IDS[:4]}, index=names)
    adata = SimpleNamespace(var=var, obs=pd.DataFrame(index=["cell"]))
    with pytest.raises(ValueError, match="at least 4") as found:
        check_match(match_genes(names, VOCABULARY), pd.Series(names), VOCABULARY, adata, None, 4)
    assert "would match" not in str(found.value)


def test_a_column_with_more_genes_is_named_only_where_it_is_enough():
    names = [*IDS[:3], *(f"no_gene_{number}" for number in range(7))]
    with pytest.raises(ValueError, match=r"4 names in adata.var\['id'\] would match: use gene_names='id'"):
        check(names, 4, id=[*IDS[:4], *["x"] * 6])
    with pytest.raises(ValueError, match="at least 4 are needed") as found:
        check(names, 4, id=[*IDS[:3], *["x"] * 7])
    assert "would match" not in str(found.value)


@pytest.mark.parametrize(("n_symbols", "is_said"), [(20, True), (21, False), (0, False)])
def test_some_symbols_among_ids_may_be_antibodies_but_not_many(n_symbols, is_said):
    genes = SimpleNamespace(symbols_among_ids=tuple(SYMBOLS[:n_symbols]), columns=np.arange(100))
    found = symbols_among_ids(genes, pd.DataFrame())
    assert bool(found) == is_said
    assert symbols_among_ids(genes, pd.DataFrame({"feature_types": []})) == ""


def test_five_of_these_are_named():
    for n, end in ((5, f"{SYMBOLS[4]!r}) and"), (6, f"{SYMBOLS[4]!r}, ...) and")):
        genes = SimpleNamespace(symbols_among_ids=tuple(SYMBOLS[:n]), columns=np.arange(100))
        assert end in symbols_among_ids(genes, pd.DataFrame())
