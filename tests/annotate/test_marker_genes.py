from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scanpy_sct.annotate.marker_genes import read_markers
from scanpy_sct.read.genes import released_vocabulary, to_ensembl

MARKERS = {"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}


VOCABULARY = released_vocabulary()


def index_of(*symbols):
    ids = to_ensembl(symbols).ensembl_ids
    return sorted(int(np.flatnonzero(VOCABULARY == ensembl_id)[0]) for ensembl_id in ids)


def reader_of(columns):
    """What is read of an object whose columns are these names, with the symbol of each."""
    genes = np.array([index_of(symbol)[0] for symbol in columns.values()], dtype=int)
    matched = SimpleNamespace(columns=np.arange(len(genes)), gene_index=genes)
    return SimpleNamespace(vocabulary=VOCABULARY, var_names=pd.Index(columns), genes=matched)


@pytest.fixture
def read(caplog):
    def read_with_log(markers, columns=()):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            return read_markers(markers, SimpleNamespace(name="model"), reader_of(dict(columns)))

    return read_with_log


def test_markers_are_found_by_symbol_id_and_name_of_a_column(read):
    lyz = str(to_ensembl(["LYZ"]).ensembl_ids[0])
    markers = {"B": ["my gene", "CD79A"], "Myeloid": ["LYZ", lyz], "NK": ["GNLY"]}
    found = read(markers, {"my gene": "CD79A", "other": "CD3E"})
    assert [genes.tolist() for genes in found.genes.values()] == [index_of(gene) for gene in ("CD79A", "LYZ", "GNLY")]


def test_a_column_that_is_a_gene_wins(read):
    found = read({"B": ["CD20"], "T": ["CD3"]}, {"CD20": "KRT20"})
    assert found.genes["B"].tolist() == index_of("KRT20")
    assert found.details["read_as"] == ["CD3 = CD3D + CD3E + CD3G"]


def test_one_warning_lists_what_is_not_used_with_candidates(read, caplog):
    markers = MARKERS | {"B": ["CD79AA", "MS44A1", "MS4A1"], "T": ["CD3", "NOV", "TCR"], "Strange": ["NOSUCHGENE"]}
    found = read(markers)
    (warning,) = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert "markers: 5 of 11 names are not used" in warning
    assert "B: CD79AA (unknown; did you mean CD79A?), MS44A1 (unknown; did you mean MS4A1" in warning
    assert "T: NOV (may be PLXNA1 or CCN3" in warning
    assert "TCR (TRAC, TRBC1, TRBC2, not in the model)" in warning
    assert found.details["unused"] == ["B: CD79AA, MS44A1", "T: NOV, TCR", "Strange: NOSUCHGENE"]
    assert "types without a gene that the model knows are left out: Strange" in caplog.text
    assert list(found.genes) == ["B", "Myeloid", "NK", "T"]


def test_proteins_are_logged_and_recorded(read, caplog):
    found = read({"B": ["CD20"], "T": ["CD3", "PD-1"]})
    assert sorted(found.genes["T"]) == index_of("CD3D", "CD3E", "CD3G", "PDCD1")
    assert found.details["read_as"] == ["CD20 = MS4A1", "CD3 = CD3D + CD3E + CD3G", "PD-1 = PDCD1"]
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "CD20 = MS4A1" in caplog.text


def test_names_of_mouse_genes_get_a_hint(read, caplog):
    found = read({"B": ["Cd79a", "ms4a1"], "T": ["CD3E"]})
    assert sorted(found.genes["B"]) == index_of("CD79A", "MS4A1")
    assert "Cd79a = CD79A, ms4a1 = MS4A1 are read as human genes" in caplog.text


def test_a_symbol_that_is_also_the_name_of_another_protein(read, caplog):
    read({"Lung": ["TTF1"], "T": ["CD3E"]})
    assert "TTF1 is read as the gene TTF1, while the protein of this name is that of NKX2-1" in caplog.text


def test_plain_markers_need_no_words(read, caplog):
    found = read(MARKERS | {"T": ["CD3E", "CD3E", "NKG7"]})
    assert [len(genes) for genes in found.genes.values()] == [2, 2, 2, 2]
    assert not caplog.text
    assert found.details == {"read_as": [], "unused": []}


def test_types_with_the_same_genes(read, caplog):
    read(MARKERS | {"B cells": ["CD20", "CD79A"]})
    assert "these types have the same genes, so that cells get the first of them: B, B cells" in caplog.text


def test_long_lists_are_cut(read, caplog):
    read(MARKERS | {f"type {number}": [f"QQ{i}QQ" for i in range(15)] for number in range(9)})
    (warning,) = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert "and 5 more (unknown)" in warning
    assert "and those of 6 more types, see .uns" in warning


@pytest.mark.parametrize(
    ("markers", "message"),
    [
        ({"B": ["CD79AA"], "NK": ["NKG7"]}, r"1 of 2 types .* Not used: B: CD79AA \(unknown; did you mean CD79A"),
        ({"B": ["CD20"], "B cell": ["MS4A1"]}, "all types .* have the same genes"),
        ({"B": ["CD79A", "CD3E-"], "NK": ["NKG7"]}, r"CD3E- \(of B\) are markers that cells lack"),
        ({"unknown": ["CD79A"], "NK": ["NKG7"]}, "'unknown' is reserved"),
        ({"nan": ["CD79A"], "NK": ["NKG7"]}, "'nan' is read as \"no label\""),
        ({"a/b": ["CD79A"], "a|b": ["CD3D"]}, "would become the same in a file"),
    ],
)
def test_markers_that_cannot_be_used(read, markers, message):
    with pytest.raises(ValueError, match=message):
        read(markers)
