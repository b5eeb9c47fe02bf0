"""Marker genes."""

from __future__ import annotations

import pandas as pd

from behaviour.plain import MARKERS, Scene
from behaviour.row import Group

ROWS = Group(
    "Markers",
    notes=(
        "Where the markers of no type are high in a cell, `.obs['sct_label_novelty']`, here the probability of \"none "
        'of these", is high, and the cell is `unknown`.',
    ),
)
HERE = ("markers",)


def _long() -> pd.DataFrame:
    pairs = [(label, gene) for label, genes in MARKERS.items() for gene in genes]
    return pd.DataFrame(pairs, columns=["type", "gene"])


@ROWS.same("a table with a row for each type and gene", on=HERE)
def table(scene: Scene) -> None:
    scene.markers = _long()


@ROWS.same("a table of PanglaoDB", "human rows are used", on=HERE)
def panglao(scene: Scene) -> None:
    table = _long().set_axis(["cell.type", "official.gene.symbol"], axis="columns")
    scene.markers = table.assign(species="Mm Hs").iloc[:, ::-1]
    scene.markers.loc[len(table)] = ["Mm", "CD3E", "T of mice"]


@ROWS.same("tuples or sets of genes, and genes that stand twice", on=HERE)
def tuples(scene: Scene) -> None:
    scene.markers = {label: (*genes, genes[0]) for label, genes in MARKERS.items()}


def _one_gene(scene: Scene) -> None:
    scene.markers = MARKERS | {"B": ["CD79A"]}


@ROWS.same("one gene as a string", than=_one_gene, on=HERE)
def string(scene: Scene) -> None:
    scene.markers = MARKERS | {"B": "CD79A"}


@ROWS.refused("no markers", "", ValueError, "markers", "is empty", "give at least two types with their genes", on=HERE)
def empty(scene: Scene) -> None:
    scene.markers = {}


@ROWS.refused(
    "a list of genes without types",
    "",
    TypeError,
    "markers",
    "found list",
    "must be a dict of types and their genes, or a DataFrame",
    on=HERE,
)
def no_types(scene: Scene) -> None:
    scene.markers = ["CD79A", "LYZ"]


@ROWS.refused(
    "fewer than two types with a gene that the model knows",
    "at least two are needed",
    ValueError,
    "markers",
    "1 of 2 types",
    "at least two are needed: give symbols or Ensembl ids of human genes",
    on=HERE,
)
def one_known_type(scene: Scene) -> None:
    scene.markers = {"B": ["CD79A"], "T": ["NOSUCHGENE"]}


@ROWS.refused(
    "a type `unknown`",
    "",
    ValueError,
    "markers",
    "'unknown' is reserved",
    "rename it",
    on=HERE,
)
def reserved(scene: Scene) -> None:
    scene.markers = MARKERS | {"unknown": ["CD3E"]}


@ROWS.warns(
    "types without a gene that the model knows",
    "left out",
    "Strange",
    on=HERE,
    in_report=False,
)
def unknown_type(scene: Scene) -> None:
    scene.markers = MARKERS | {"Strange": ["NOSUCHGENE"]}


@ROWS.same("a table with a column of genes for each type", on=HERE)
def wide(scene: Scene) -> None:
    scene.markers = pd.DataFrame(MARKERS)


@ROWS.same("a table of 0 and 1, or of booleans: genes x types or types x genes", on=HERE)
def binary(scene: Scene) -> None:
    genes = [gene for genes in MARKERS.values() for gene in genes]
    scene.markers = pd.DataFrame({label: [gene in of for gene in genes] for label, of in MARKERS.items()}, genes)


@ROWS.same("names of proteins (`CD20`, `PD-1`, `NKG2D`)", "read as their genes", on=HERE)
def proteins(scene: Scene) -> None:
    scene.markers = MARKERS | {"Myeloid": ["lysozyme", "CST3"], "NK": ["NKG7", "granulysin"]}


@ROWS.warns(
    "markers that no gene has, beside known ones",
    "left out; one warning lists those of each type, with the genes that may be meant",
    "CD79AA",
    "CD79A",
    on=HERE,
    in_report=False,
)
def typos(scene: Scene) -> None:
    scene.markers = MARKERS | {"B": ["CD79AA", "CD79B"]}


@ROWS.warns(
    "markers in lower case, or as in mouse",
    "read as the human genes of these names",
    "lyz",
    on=HERE,
    in_report=False,
)
def lower_case(scene: Scene) -> None:
    scene.markers = MARKERS | {"Myeloid": ["lyz", "Cst3"]}


@ROWS.refused(
    "markers that cells must lack (`CD3-`)",
    "scores know only genes that a type expresses",
    ValueError,
    "markers",
    "CD79A-",
    "omit|leave|remove|pass",
    on=HERE,
)
def negative(scene: Scene) -> None:
    scene.markers = MARKERS | {"NK": ["NKG7", "CD79A-"]}


@ROWS.refused(
    "a table that can be read in two ways",
    "name the columns `type` and `gene`",
    ValueError,
    "markers",
    "both hold names of genes, and one has some twice",
    "name the two columns of a long table 'type' and 'gene'",
    on=HERE,
)
def two_ways(scene: Scene) -> None:
    scene.markers = pd.DataFrame({"a": ["LYZ", "LYZ", "NKG7"], "b": ["CST3", "CD79A", "GNLY"]})


@ROWS.refused(
    "a table of differential genes (Seurat, scanpy) with negative fold changes",
    "keep the rows with a positive fold change",
    ValueError,
    "markers",
    "'avg_log2FC' is negative in 1 of",
    "Keep the rows with a positive fold change",
    on=HERE,
)
def differential_genes(scene: Scene) -> None:
    scene.markers = _long().rename(columns={"type": "cluster"}).assign(avg_log2FC=1.5)
    scene.markers.loc[0, "avg_log2FC"] = -1.5
