from __future__ import annotations

from importlib.resources import files

import pytest

from scanpy_sct.annotate.marker_names import (
    Reading,
    as_key,
    fraction_of_genes,
    protein_of,
    read_marker_names,
    similar_symbols,
    split_names,
    symbols_of,
    why_unused,
)
from scanpy_sct.read.genes import load_gene_table


def read(name, **options):
    return read_marker_names([name], **options)[name]


PROTEINS = [
    ("CD20", ["MS4A1"]),
    ("CD16", ["FCGR3A"]),
    ("CD25", ["IL2RA"]),
    ("PD-1", ["PDCD1"]),
    ("PD1", ["PDCD1"]),
    ("CD3", ["CD3D", "CD3E", "CD3G"]),
    ("CD8", ["CD8A", "CD8B"]),
    ("CD11c", ["ITGAX"]),
    ("CD11C", ["ITGAX"]),
    ("Ki67", ["MKI67"]),
    ("Ki-67", ["MKI67"]),
    ("HLA-DR", ["HLA-DRA", "HLA-DRB1"]),
    ("TCR\N{GREEK SMALL LETTER GAMMA}\N{GREEK SMALL LETTER DELTA}", ["TRDC", "TRGC1", "TRGC2"]),
    ("TCR", ["TRAC", "TRBC1", "TRBC2"]),
    ("\N{GREEK SMALL LETTER ALPHA}SMA", ["ACTA2"]),
    ("alpha-SMA", ["ACTA2"]),
    ("SMA", ["ACTA2"]),
    ("IFN-\N{GREEK SMALL LETTER GAMMA}", ["IFNG"]),
    ("IgA", ["IGHA1", "IGHA2"]),
    ("p21", ["CDKN1A"]),
    ("c-Kit", ["KIT"]),
    ("PSA", ["KLK3"]),
    ("CD8\N{GREEK SMALL LETTER ALPHA}", ["CD8A"]),
    ("CD79a", ["CD79A"]),
    ("IL-7R", ["IL7R"]),
    ("CD3+", ["CD3D", "CD3E", "CD3G"]),
    ("CD56bright", ["NCAM1"]),
]


@pytest.fixture(scope="module")
def proteins():
    # In one call, as a list of markers is read.
    return read_marker_names([name for name, _ in PROTEINS])


@pytest.mark.parametrize(("name", "genes"), PROTEINS)
def test_proteins_are_their_genes(proteins, name, genes):
    assert symbols_of(proteins[name].ensembl_ids) == genes
    assert proteins[name].reading in (Reading.PROTEIN, Reading.ALIAS)


@pytest.mark.parametrize("name", ["CD3E", "ENSG00000198851", "ENSG00000198851.10", "GRCh38_CD3E"])
def test_symbols_and_ids_are_genes(name):
    assert read(name).reading is Reading.GENE
    assert symbols_of(read(name).ensembl_ids) == ["CD3E"]


def test_a_current_symbol_is_not_taken_for_a_protein():
    assert symbols_of(read("TTF1").ensembl_ids) == ["TTF1"]
    assert symbols_of(protein_of("TTF1").ensembl_ids) == ["NKX2-1"]


def test_a_column_of_the_data_has_its_own_gene():
    meaning = read("CD20", columns={"CD20": "ENSG00000198851"})
    assert (meaning.reading, symbols_of(meaning.ensembl_ids)) == (Reading.COLUMN, ["CD3E"])


@pytest.mark.parametrize("name", ["Cd79a", "cd79a"])
def test_names_of_mouse_genes_are_found_in_capital_letters(name):
    assert (read(name).reading, symbols_of(read(name).ensembl_ids)) == (Reading.SPELLING, ["CD79A"])


def test_markers_that_cells_lack():
    absent = ["CD3-", "CD3E-", "CD3E\u2212", "-CD3E", "CD4 neg", "CD45lo"]
    genes = ["HLA-A", "CAB-", "PKCI+/-"]  # with signs in their names
    found = read_marker_names([*absent, *genes])
    assert [name for name, meaning in found.items() if meaning.reading is Reading.ABSENT] == absent
    assert all(found[name].is_found for name in genes)


def test_single_letters_are_not_the_chains_of_immunoglobulins():
    letters = ["K", "L", "k"]
    chains = ["kappa", "lambda", "\N{GREEK SMALL LETTER KAPPA}"]
    found = read_marker_names([*letters, *chains])
    assert all(found[name].reading is not Reading.PROTEIN for name in letters)
    assert [symbols_of(found[name].ensembl_ids)[0] for name in chains] == ["IGKC", "IGLC1", "IGKC"]


def test_a_name_does_not_decide_what_another_means():
    found = read_marker_names(["CCN3", "PLXNA1", "NOV"])
    assert found["NOV"].reading is Reading.AMBIGUOUS


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CD79AA", "did you mean CD79A?"),
        ("MS44A1", "MS4A1"),
        ("NOSUCHGENE", "unknown"),
        ("NOV", "PLXNA1 or CCN3"),
        ("CD45RA", "a form of PTPRC"),
        ("CD45R", "a form of PTPRC"),
        ("CD15", "a sugar or lipid"),
        ("CD57", "a sugar or lipid"),
        ("HNK-1", "a sugar or lipid"),
        ("1-Mar", "a date"),
        ("ENSMUSG00000030724", "a gene of mouse"),
    ],
)
def test_names_without_a_gene_say_why(name, why):
    assert not read(name).is_found
    assert why in why_unused(name, read(name))


def test_genes_that_a_model_lacks_are_named():
    assert why_unused("TCR", read("TCR")) == "TRAC, TRBC1, TRBC2, not in the model"
    assert why_unused("TRAC", read("TRAC")) == "not in the model"


def test_the_table_of_proteins_is_sound():
    text = (files("scanpy_sct.annotate") / "data" / "proteins.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    keys = [as_key(name) for names, *_ in rows for name in names.split(";")]
    assert len(set(keys)) == len(keys)
    assert "" not in keys
    symbols = set(load_gene_table()["symbol"])
    assert {gene for _, genes, _ in rows for gene in genes.split()} <= symbols
    assert all(bool(genes) != bool(reason) for _, genes, reason in rows)


def test_similar_symbols_are_those_of_proteins():
    assert similar_symbols("FOXP33")[0] == "FOXP3"
    assert similar_symbols("XYZXYZ") == []
    assert similar_symbols("") == []


def test_columns_of_genes_and_of_types_are_told_apart():
    assert fraction_of_genes(["CD79A", "CD20, MS4A1", "Cd3e", None]) == 1
    assert fraction_of_genes(["HSC", "DC", "Mast", "T", "CD4 T", "cDC1", "Th17"]) == 0
    assert fraction_of_genes([None]) == 0


def test_several_names_in_one_value():
    assert split_names("[CD1A, CD1B]; MS4A1") == ["CD1A", "CD1B", "MS4A1"]
    assert split_names(["CD3E", ("CD3D",)]) == ["CD3E", "CD3D"]
    assert split_names(float("nan")) == []
