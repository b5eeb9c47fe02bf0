from __future__ import annotations

import numpy as np
import pandas as pd

from scanpy_sct.read.gene_table import iterate_genes, load_gene_table, released_vocabulary


def test_genes_one_by_one_are_those_of_the_table():
    found = pd.DataFrame(iterate_genes(), columns=["ensembl_id", "symbol", "aliases", "biotype"])
    found["aliases"] = found["aliases"].str.join("|")
    expected = load_gene_table()[["symbol", "aliases", "biotype"]]
    pd.testing.assert_frame_equal(found.set_index("ensembl_id"), expected, check_dtype=False)


def test_table_is_complete_and_unique():
    table = load_gene_table()
    assert list(table.columns) == ["symbol", "aliases", "biotype", "sct_position"]
    assert table.index.is_unique
    assert table.index.str.fullmatch(r"ENSG\d{11}").all()
    assert (table["symbol"] != "").all()
    assert (table["biotype"] == "protein_coding").sum() > 19_000
    assert table.loc["ENSG00000075624", "symbol"] == "ACTB"
    assert "CD45" in table.loc["ENSG00000081237", "aliases"].split("|")


def test_released_vocabulary_has_the_known_positions():
    vocabulary = released_vocabulary()
    assert vocabulary.shape == (19_968,)
    assert (vocabulary == "").sum() == 28 + 3
    assert (vocabulary[19_965:] == "").all()
    # positions stated in the specification of the network
    for ensembl_id, position in {"ENSG00000075624": 732, "ENSG00000141510": 15471, "ENSG00000111640": 5690}.items():
        assert vocabulary[position] == ensembl_id
    assert "ENSG00000229807" not in vocabulary  # XIST


def test_released_vocabulary_is_a_copy():
    released_vocabulary()[:] = "spoilt"
    assert released_vocabulary()[732] == "ENSG00000075624"


def test_released_vocabulary_agrees_with_the_reference(reference_dir):
    order = pd.read_csv(reference_dir / "gene_order.tsv", sep="\t", keep_default_na=False)["ensembl_id"]
    usable = order.str.startswith("ENSG").to_numpy()
    vocabulary = released_vocabulary()[: len(order)]
    np.testing.assert_array_equal(vocabulary[usable], order[usable].to_numpy(dtype=str))
    assert (vocabulary[~usable] == "").all()


def test_symbols_agree_with_an_older_gencode(data_dir):
    older = pd.read_csv(data_dir / "genes" / "human_genes_gencode44.tsv.gz", sep="\t", index_col="ensembl_id")
    shared = load_gene_table().join(older, how="inner", rsuffix="_older")
    shared = shared[shared["sct_position"] >= 0]
    assert len(shared) > 19_900
    renamed = shared[shared["symbol"] != shared["symbol_older"]]
    assert len(renamed) < 0.02 * len(shared)
    # what a gene was called before is among its aliases
    named = renamed[~renamed["symbol_older"].str.startswith("ENSG")]
    known = [old in aliases.split("|") for old, aliases in zip(named["symbol_older"], named["aliases"], strict=True)]
    assert all(known)
