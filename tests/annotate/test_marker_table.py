from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scanpy_sct.annotate.marker_table import marker_table


def genes_of(markers):
    table = marker_table(markers)
    assert list(table) == ["label", "gene"]
    return table.groupby("label", sort=False)["gene"].agg(list).to_dict()


def test_dicts_of_lists_sets_arrays_and_strings():
    expected = {"B": ["CD79A", "MS4A1"], "T": ["CD3E"]}
    for genes in (["CD79A", "MS4A1"], ("CD79A", "MS4A1", "CD79A"), pd.Index(["CD79A", "MS4A1"]), "CD79A, MS4A1"):
        assert genes_of({"B": genes, "T": "CD3E"}) == expected
    assert set(genes_of({"B": {"CD79A", "MS4A1"}})["B"]) == {"CD79A", "MS4A1"}
    assert genes_of({"B": {"CD79A": 1, "MS4A1": True, "CD3E": 0}}) == {"B": ["CD79A", "MS4A1"]}


def test_spaces_and_missing_genes():
    assert genes_of({" B ": [" CD79A\xa0", None, float("nan"), ""], "T": [], 3: ["CD3E"]}) == {
        "B": ["CD79A"],
        "T": [""],
        "3": ["CD3E"],
    }


@pytest.mark.parametrize(
    ("markers", "error", "message"),
    [
        ({}, ValueError, "markers is empty"),
        (["CD79A"], TypeError, "found list"),
        ("markers.csv", TypeError, r"pandas\.read_csv\('markers\.csv'\)"),
        (Path("markers.csv"), TypeError, r"pandas\.read_csv\('markers\.csv'\)"),
        (pd.Series({"B": ["CD79A"]}), TypeError, r"found Series\. Convert it"),
        ({"B": [5]}, TypeError, r"must hold names of genes, found \[5\]"),
        ({"B": 5}, TypeError, "must be a list of genes, found int"),
        ({"B": {"CD79A": 2.5}}, ValueError, "weights and negative markers are not used"),
        ({"B": {"CD79A": 1, "CD3E": -1}}, ValueError, "weights and negative markers are not used"),
        ({"B": {"positive": ["CD79A"], "negative": ["CD3E"]}}, ValueError, "weights and negative markers"),
        (
            {"CD79A": "B", "MS4A1": "B", "CD3E": "T"},
            ValueError,
            r"keys \(CD79A, .* are genes .* give \{type: \[genes\]\}",
        ),
        (
            pd.DataFrame({"type": ["B", None], "gene": ["CD19", "MS4A1"]}),
            ValueError,
            r"1 of 2 genes have no type.*ffill",
        ),
    ],
)
def test_what_cannot_be_read(markers, error, message):
    with pytest.raises(error, match=message):
        marker_table(markers)
