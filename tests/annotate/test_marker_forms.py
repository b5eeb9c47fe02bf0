from __future__ import annotations

import logging

import pandas as pd
import pytest

from scanpy_sct.annotate.marker_table import marker_table
from scanpy_sct.read.genes import to_ensembl

MARKERS = {"B": ["CD79A", "MS4A1", "CD19"], "T": ["CD3D", "CD3E", "IL7R"], "NK": ["NKG7", "GNLY", "CD56"]}
PAIRS = [(label, gene) for label, genes in MARKERS.items() for gene in genes]
LONG = pd.DataFrame(PAIRS, columns=["type", "gene"])
PLAIN = LONG.set_axis(["x", "y"], axis="columns")
WIDE = pd.DataFrame(MARKERS)
GENES = sorted(gene for _, gene in PAIRS)
BINARY = pd.DataFrame({label: [int(gene in own) for gene in GENES] for label, own in MARKERS.items()}, index=GENES)
ROWS = pd.DataFrame(
    [[label, *genes] for label, genes in MARKERS.items()], columns=["t", "marker1", "marker2", "marker3"]
)


def genes_of(table):
    return marker_table(table).groupby("label")["gene"].agg(sorted).to_dict()


def panglao():
    further = pd.DataFrame([("Mouse", "CD3G")], columns=["type", "gene"])
    table = pd.concat([LONG, further], ignore_index=True).assign(species=["Mm Hs", "Hs", None] * 3 + ["Mm"], ubiq=0.1)
    return table.rename(columns={"type": "cell type", "gene": "official gene symbol"})[
        ["species", "official gene symbol", "cell type", "ubiq"]
    ]


def cell_marker():
    return pd.DataFrame(
        {
            "speciesType": ["Human"] * 3 + ["Mouse"],
            "cellType": "Normal cell",
            "cellName": [*MARKERS, "Other"],
            "cellMarker": "CD1, CD2",
            "geneSymbol": ["CD79A, MS4A1, CD19", "[CD3D, CD3E], IL7R", "NKG7, GNLY, CD56", "Cd3e"],
            "geneID": "12, 13",
        }
    )


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(LONG, id="long"),
        pytest.param(LONG[["gene", "type"]], id="gene first"),
        pytest.param(PLAIN, id="any names"),
        pytest.param(PLAIN[["y", "x"]], id="any names, gene first"),
        pytest.param(LONG.astype("category").assign(score=1.5, tissue="blood"), id="further columns"),
        pytest.param(LONG.set_index("type"), id="types in the index"),
        pytest.param(LONG.set_index("gene"), id="genes in the index"),
        pytest.param(LONG.reset_index().rename(columns={"index": "Unnamed: 0"}), id="numbers of rows"),
        pytest.param(
            LONG.rename(columns={"type": "group", "gene": "names"}).assign(scores=1.0, pvals=0.0), id="scanpy"
        ),
        pytest.param(PLAIN.assign(id=to_ensembl(PLAIN["y"]).ensembl_ids), id="symbols and ids"),
        pytest.param(pd.DataFrame({"type": list(MARKERS), "gene": list(MARKERS.values())}), id="lists"),
        pytest.param(pd.DataFrame({"x": list(MARKERS), "y": list(map(", ".join, MARKERS.values()))}), id="commas"),
        pytest.param(WIDE, id="wide"),
        pytest.param(WIDE.set_axis(["marker 1", "marker 2", "marker 3"]), id="wide, rows with numbers"),
        pytest.param(WIDE.assign(p=0.01), id="wide, numbers"),
        pytest.param(BINARY, id="genes x types"),
        pytest.param(BINARY.T, id="types x genes"),
        pytest.param(BINARY.astype(bool), id="genes x types, bool"),
        pytest.param(BINARY.astype(float).rename_axis("gene").reset_index(), id="genes x types, column of genes"),
        pytest.param(BINARY.T.reset_index(), id="types x genes, column of types"),
        pytest.param(ROWS, id="rows of types"),
        pytest.param(
            ROWS.rename(columns={"t": "cell_type", "marker1": "a", "marker2": "b", "marker3": "c"}), id="rows, named"
        ),
        pytest.param(panglao(), id="PanglaoDB"),
        pytest.param(cell_marker(), id="CellMarker"),
    ],
)
def test_tables_are_read_for_what_they_are(table, caplog):
    assert genes_of(table) == {label: sorted(genes) for label, genes in MARKERS.items()}
    assert not caplog.text


def test_wide_tables_of_different_lengths_and_empty_types():
    table = pd.DataFrame({"B": ["CD79A", "MS4A1"], "T": ["CD3E", None], "DC": [None, None]})
    assert genes_of(table) == {"B": ["CD79A", "MS4A1"], "T": ["CD3E"], "DC": [""]}


@pytest.mark.parametrize("types", [["CD4", "CD4", "CD8"], ["HSC", "HSC", "CMP"], [0, 0, 1], [0.0, 0.0, 1.0]])
def test_named_columns_decide_whatever_the_types_look_like(types):
    table = pd.DataFrame({"cluster": types, "gene": ["IL7R", "CD3E", "CD8A"]})
    first, _, last = (str(label).removesuffix(".0") for label in types)
    assert genes_of(table) == {first: ["CD3E", "IL7R"], last: ["CD8A"]}


def test_types_that_are_synonyms_of_genes():
    table = pd.DataFrame({"a": ["HSC", "HSC", "CMP", "CD4"], "b": ["CD34", "KIT", "MPO", "IL7R"]})
    assert genes_of(table) == {"HSC": ["CD34", "KIT"], "CMP": ["MPO"], "CD4": ["IL7R"]}


def test_columns_of_the_data_are_genes():
    table = pd.DataFrame({"a": ["one", "two"], "b": ["X", "Y"]})
    assert marker_table(table, {"one": "ENSG1", "two": "ENSG2"})["label"].tolist() == ["X", "Y"]


def test_another_column_that_may_hold_the_types_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        table = PLAIN.assign(tissue=["blood", "bone", "lung"] * 3)
        assert list(genes_of(table)) == ["B", "NK", "T"]
    assert "types are read from the column 'x', not from 'tissue'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert list(genes_of(LONG.rename(columns={"type": "cell_type"}).assign(cluster=[0, 1, 2] * 3))) == [
            "B",
            "NK",
            "T",
        ]
    assert "from the column 'cell_type', not from 'cluster'" in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"gene": ["CD79A"]}), "give a table with two columns, type and gene"),
        (pd.DataFrame({"type;gene": ["B;CD79A"]}), "separated by another character"),
        (pd.DataFrame(), "give a table with two columns"),
        (pd.DataFrame({"a": ["x", "y"], "b": ["z", "w"]}), "none of them holds mostly genes"),
        (pd.DataFrame([["CD79A", "CD3E"]], columns=["B", "B"]), "several columns 'B'"),
        (pd.DataFrame({"B": ["CD79AA", "MS44A1", "MS4A1"], "T": MARKERS["T"]}), "not known: CD79AA, MS44A1"),
        (pd.DataFrame({"B": ["CD19", "AC99.1", "ZQ99XW"], "T": MARKERS["T"]}), "not known: AC99.1, ZQ99XW"),
        (pd.DataFrame({"B": ["CD79AA", "MS44A1"], "T": ["CD3D", "CD3E"]}), "not known: CD79AA, MS44A1"),
        (
            pd.DataFrame({"a": ["CD4", "CD4", "CD8"], "b": ["IL7R", "CD3E", "CD8A"]}),
            "they may be two types, or types and",
        ),
        (PLAIN.assign(tissue=["blood", "bone", "lung"] * 3)[["tissue", "x", "y"]], "any of the columns 'tissue', 'x'"),
        (WIDE.assign(note=["one", "two", "three"]), "they may be types, or several genes of the type in each row"),
        (2.5 * BINARY, "Numbers other than 0 and 1, such as weights"),
        (BINARY.reset_index(drop=True), "needs one column, or an index"),
        (BINARY.rename(columns={"B": "CD19", "T": "CD3E", "NK": "CD14"}), "both hold names of genes"),
        (BINARY.set_axis([f"row of {gene}" for gene in GENES]), "hold no names of genes"),
        (LONG.assign(species="Mouse"), "no row is for humans; the column 'species' holds Mouse"),
    ],
)
def test_tables_that_can_be_read_in_two_ways_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        marker_table(table)


def test_a_named_column_says_what_the_rows_of_a_binary_table_are():
    renamed = BINARY.rename(columns={"B": "CD19", "T": "CD3E", "NK": "CD14"})
    assert list(genes_of(renamed.rename_axis("gene").reset_index())) == ["CD14", "CD19", "CD3E"]
    assert list(genes_of(renamed.T.rename_axis("type").reset_index())) == ["CD14", "CD19", "CD3E"]


@pytest.mark.parametrize("header", ["avg_log2FC", "avg_logFC", "logfoldchanges", "log2FC", "logFC", "log2FoldChange"])
def test_genes_that_are_lower_in_a_type_are_refused(header):
    table = LONG.rename(columns={"type": "cluster"}).assign(p_val=0.0, **{header: 1.5})
    assert genes_of(table) == genes_of(LONG)
    table.loc[[1, 2], header] = [-0.5, float("nan")]
    with pytest.raises(ValueError, match=rf"'{header}' is negative in 1 of 9 rows.*Keep the rows with a positive fold"):
        marker_table(table)


def test_other_numbers_of_markers_may_be_negative():
    assert genes_of(LONG.assign(score=-1.0, logfoldchanges=0.5)) == genes_of(LONG)
