from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.genes import (
    ids_beside,
    load_gene_table,
    match_genes,
    pick_genes,
    released_vocabulary,
    to_ensembl,
)
from scanpy_sct.read.symbols import Evidence

ACTB, TP53, PTPRC, SARS1, MARCHF1 = (
    "ENSG00000075624",
    "ENSG00000141510",
    "ENSG00000081237",
    "ENSG00000031698",
    "ENSG00000145416",
)


@pytest.mark.parametrize(
    "name",
    [
        "ACTB",
        " ACTB ",
        ACTB,
        f"{ACTB}.17",
        f"{ACTB}.17_PAR_Y",
        f"GRCh38_{ACTB}",
        "GRCh38______ACTB",
        "hg19_ACTB",
        f"ACTB_{ACTB}",
        np.str_("ACTB"),
    ],
)
def test_one_gene_written_in_many_ways(name):
    assert to_ensembl([name]).ensembl_ids.tolist() == [ACTB]


def test_aliases_and_spellings():
    names = ["CD45", "MARCH1", "C1ORF112", "HLA.A", "MT.CO1", "C1orf112"]
    genes = to_ensembl(names)
    symbols = load_gene_table()["symbol"]
    assert genes.ensembl_ids[0] == PTPRC
    assert genes.ensembl_ids[1] == MARCHF1
    assert symbols[genes.ensembl_ids[3]] == "HLA-A"
    assert symbols[genes.ensembl_ids[4]] == "MT-CO1"
    assert genes.ensembl_ids[2] == genes.ensembl_ids[5] != ""
    assert genes.evidence[0] == 1
    assert genes.evidence[3] == 2


def test_a_current_symbol_wins_over_an_alias():
    # every gene's own symbol means this gene, whatever it is an alias of (8 symbols belong to two genes)
    table = load_gene_table()
    table = table[table["sct_position"] >= 0]
    genes = to_ensembl(table["symbol"])
    wrong = genes.ensembl_ids != table.index.to_numpy(dtype=str)
    assert sorted(set(table["symbol"][wrong])) == sorted(set(genes.ambiguous))
    assert set(genes.ambiguous) == {"MATR3", "PDE8B", "PINX1", "HERC3", "C4orf36", "KYAT1", "POLR2J3", "PDE4C"}
    assert (genes.ensembl_ids[wrong] == "").all()


def test_an_ambiguous_alias_is_settled_by_elimination():
    alone = to_ensembl(["SARS", "ACTB"])
    assert alone.ambiguous == ("SARS",)
    assert alone.ensembl_ids.tolist() == ["", ACTB]
    beside = to_ensembl(["SARS", "SARS2"])
    assert beside.ambiguous == ()
    assert beside.ensembl_ids[0] == SARS1


def test_aliases_of_genes_without_a_symbol():
    table = load_gene_table()
    nameless = table[(table["symbol"] == table.index) & (table["aliases"] != "")]
    genes = to_ensembl(["RPL23AP21", "LOC101928626"])
    assert set(genes.ensembl_ids) <= set(nameless.index)
    every = [alias for aliases in nameless["aliases"] for alias in aliases.split("|")]
    assert (to_ensembl(every, one_data_set=False).evidence < Evidence.UNKNOWN).all()


def test_case_matters():
    assert to_ensembl(["Actb", "actb", "Ptprc"]).ensembl_ids.tolist() == ["", "", ""]


def test_unknown_and_missing_names():
    genes = to_ensembl(["no_gene", "", None, np.nan, "ENSMUSG00000029580", "1"])
    assert genes.ensembl_ids.tolist() == [""] * 6
    assert genes.ambiguous == ()


@pytest.mark.parametrize("names", [[], np.array([], dtype=str), pd.Index([])])
def test_no_names(names):
    genes = to_ensembl(names)
    assert genes.ensembl_ids.shape == (0,)
    assert len(match_genes(names, released_vocabulary()).columns) == 0


def test_id_type():
    assert to_ensembl([ACTB, TP53, "ACTB"]).id_type == "ensembl"
    assert to_ensembl(["ACTB", "TP53", ACTB]).id_type == "symbol"


def test_ids_and_symbols_mixed():
    # GENCODE annotations name nameless genes by their id
    assert to_ensembl(["TP53", ACTB, "GAPDH"]).ensembl_ids.tolist() == [TP53, ACTB, "ENSG00000111640"]


def test_an_id_unknown_to_the_table_is_kept():
    genes = to_ensembl(["ENSG99999999999.3"])
    assert genes.ensembl_ids.tolist() == ["ENSG99999999999"]
    assert match_genes(["ENSG99999999999.3"], np.array(["", "ENSG99999999999"])).gene_index.tolist() == [1]


def test_a_vocabulary_decides_between_genes_of_one_symbol():
    both = load_gene_table().query("symbol == 'MATR3' and sct_position >= 0").index
    for ensembl_id in both:
        assert match_genes(["MATR3"], np.array([ensembl_id])).gene_index.tolist() == [0]


def test_match_reports_gene_indices_and_the_rest():
    vocabulary = np.array(["", TP53, ACTB, ""])
    match = match_genes(["no_gene", "ACTB", "XIST", "TP53", "MATR3", ""], vocabulary)
    assert match.columns.tolist() == [1, 3]
    assert match.gene_index.tolist() == [2, 1]
    assert match.unmatched == ("no_gene", "XIST", "")
    assert match.ambiguous == ("MATR3",)
    assert match.duplicates == ()
    assert match.id_type == "symbol"


def test_of_duplicates_the_larger_total_wins():
    vocabulary = np.array([TP53, ACTB])
    names = ["ACTB", "TP53", "ACTB"]
    match = match_genes(names, vocabulary, totals=np.array([1.0, 5.0, 2.0]))
    assert match.columns.tolist() == [1, 2]
    assert match.gene_index.tolist() == [0, 1]
    assert (match.duplicates, match.kept) == (("ACTB",), ("column 2",))
    assert match_genes(names, vocabulary).columns.tolist() == [0, 1]  # without totals the first


def test_of_duplicates_the_symbol_wins_over_an_alias():
    match = match_genes(["CD45", "PTPRC"], np.array([PTPRC]), totals=np.array([100.0, 1.0]))
    assert match.columns.tolist() == [1]
    assert (match.duplicates, match.kept) == (("CD45",), ("PTPRC",))


def test_of_duplicates_the_id_wins_over_a_symbol():
    totals = np.array([100.0, 1.0, 1.0])
    match = match_genes(["ACTB", ACTB, PTPRC], np.array([ACTB, PTPRC]), totals=totals)
    assert match.columns.tolist() == [1, 2]
    assert (match.duplicates, match.kept, match.symbols_among_ids) == (("ACTB",), (ACTB,), ())
    # The ids may stand beside the names.
    ids = np.array(["", ACTB, PTPRC])
    match = match_genes(["ACTB", "ACTB-1", "CD45"], np.array([ACTB, PTPRC]), totals=totals, ids=ids)
    assert match.columns.tolist() == [1, 2]


def test_symbols_among_ids_are_listed():
    match = match_genes(["CD45", ACTB, TP53], np.array([ACTB, PTPRC, TP53]))
    assert match.symbols_among_ids == ("CD45",)
    assert match_genes(["CD45", "ACTB", TP53], np.array([ACTB, PTPRC, TP53])).symbols_among_ids == ()


def test_columns_that_are_not_genes_are_left_out():
    is_gene = np.array([False, True, False, True])
    match = match_genes(["ACTB", "ACTB", "Blank-1", TP53], np.array([ACTB, TP53]), is_gene=is_gene)
    assert match.columns.tolist() == [1, 3]
    assert (match.duplicates, match.unmatched, match.not_genes) == ((), (), ("ACTB", "Blank-1"))
    assert match.id_type == "ensembl"  # of the genes


def test_ids_beside_names():
    var = pd.DataFrame({"n": [1, 2], "gene_ids": [f"{ACTB}.3", "CD4"]}, index=["ACTB", "CD4"])
    assert ids_beside(var).tolist() == [ACTB, ""]
    assert ids_beside(var[["n"]]) is None


def test_the_first_gene_of_a_vocabulary_is_picked_like_all_others():
    matrix = sparse.csr_matrix(np.array([[0, 1, 2], [3, 0, 0], [0, 0, 4]], dtype=np.float32))
    genes = match_genes(["no_gene", TP53, ACTB], np.array([ACTB, "", TP53]))
    picked = pick_genes(matrix, genes, 3)
    assert picked.has_sorted_indices
    np.testing.assert_array_equal(picked.toarray(), [[2, 0, 1], [0, 0, 0], [4, 0, 0]])


def test_names_made_unique():
    vocabulary = released_vocabulary()
    match = match_genes(["ACTB", "ACTB-1", "TP53-1", "NKX2-1"], vocabulary, totals=np.array([1.0, 9.0, 9.0, 1.0]))
    assert match.columns.tolist() == [0, 3]
    assert match.duplicates == ("ACTB-1",)
    assert match.unmatched == ("TP53-1",)  # there is no TP53 that it could be the second of


def test_gene_indices_are_unique_on_all_names():
    table = load_gene_table()
    names = np.concatenate([table["symbol"], table.index])
    match = match_genes(names, released_vocabulary(), totals=np.arange(len(names))[::-1])
    assert len(np.unique(match.gene_index)) == len(match.gene_index) == len(match.columns) == 19_937
    assert (np.diff(match.columns) > 0).all()
    assert len(match.columns) + len(match.duplicates) + len(match.unmatched) + len(match.ambiguous) == len(names)


@pytest.mark.parametrize("file", ["dev/pbmc3k.h5ad", "train/midbrain_ipsc_lamanno.h5ad", "dev/breast_wu_CID4465.h5ad"])
def test_symbols_of_real_data_are_their_ids(data_dir, file):
    import anndata as ad

    var = ad.read_h5ad(data_dir / file, backed="r").var
    vocabulary = released_vocabulary()
    known = var.index.isin(vocabulary)
    found = to_ensembl(var["gene_symbol"]).ensembl_ids[known]
    expected = var.index.to_numpy(dtype=str)[known]
    assert (found == expected).mean() > 0.999
    assert not ((found != expected) & (found != "")).any()  # rather unknown than wrong


def test_matching_is_quick():
    names = load_gene_table()["symbol"].to_numpy()[:30_000]
    vocabulary = released_vocabulary()
    match_genes(names[:10], vocabulary)
    start = time.perf_counter()
    match_genes(names, vocabulary)
    assert time.perf_counter() - start < 2  # 0.2 s alone on a machine
