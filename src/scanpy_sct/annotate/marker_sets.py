"""Marker genes as users write them, turned into positions of the vocabulary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate.labels import check_names
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.expression import Expression

logger = logging.getLogger(__name__)

PANGLAO_COLUMNS = ["cell.type", "official.gene.symbol"]
Markers = Mapping[str, Sequence[str]] | pd.DataFrame


@dataclass(frozen=True)
class MarkerSets:
    """Markers of each type, as positions of the vocabulary."""

    positions: dict[str, np.ndarray]
    measured: dict[str, int]
    """How many of them were measured."""


def read_markers(
    markers: Markers, checkpoint: Checkpoint, expression: Expression, column_names: Sequence[str]
) -> MarkerSets:
    """Find the markers among the genes of the network; types without any are left out.

    Genes may have the names of the columns of the object, or be symbols or Ensembl ids.
    """
    table = marker_table(markers)
    check_names(table["name"].unique(), "markers")
    check_distinct(table["name"].unique(), "markers")
    own_names = np.asarray(column_names)[expression.genes.columns]
    # Of several columns of one name the first counts, as in `tl.impute`.
    position_of_column = dict(zip(own_names[::-1], expression.genes.positions[::-1], strict=True))
    position_of_id = {name: place for place, name in enumerate(checkpoint.genes) if name}
    ids = to_ensembl(table["gene"].tolist(), vocabulary=checkpoint.genes).ensembl_ids
    table["position"] = [
        position_of_column.get(gene, position_of_id.get(ensembl_id, -1))
        for gene, ensembl_id in zip(table["gene"], ids, strict=True)
    ]
    names = table["name"].unique()
    table = table[table["position"] >= 0].drop_duplicates(["name", "position"])
    found = {name: rows["position"].to_numpy() for name, rows in table.groupby("name", sort=False)}
    lost = [name for name in names if name not in found]
    if len(found) < 2:
        msg = (
            f"markers: {len(found)} of {len(names)} types have a gene that the model {checkpoint.name!r} knows, and at "
            "least two are needed, to be scored against one another; give symbols or Ensembl ids of human genes."
        )
        raise ValueError(msg)
    if lost:
        logger.warning("markers: left out types without a gene that the model knows: %s.", ", ".join(lost))
    return MarkerSets(found, {name: int(expression.measured[places].sum()) for name, places in found.items()})


def marker_table(markers: Markers) -> pd.DataFrame:
    """One row per type and gene, columns `name` and `gene`, text."""
    if isinstance(markers, pd.DataFrame):
        table = _human_rows(markers)
        columns = PANGLAO_COLUMNS if set(PANGLAO_COLUMNS) <= set(table) else list(table.columns[:2])
        if len(columns) < 2:
            msg = f"markers has the columns {list(table.columns)}; a table needs two: the type, and a gene of it."
            raise ValueError(msg)
        rows = table[columns].dropna().to_numpy().tolist()
    elif isinstance(markers, Mapping):
        rows = [
            (name, gene) for name, genes in markers.items() for gene in ([genes] if isinstance(genes, str) else genes)
        ]
    else:
        msg = f"markers must be a dict of names and genes, or a DataFrame; found {type(markers).__name__}."
        raise TypeError(msg)
    if not rows:
        msg = "markers is empty; give at least two types with their genes."
        raise ValueError(msg)
    return pd.DataFrame(rows, columns=["name", "gene"]).astype(str)


def _human_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of PanglaoDB that hold for humans, or for which no species is given; other tables as they are."""
    if "species" not in table or not set(PANGLAO_COLUMNS) <= set(table):
        return table
    return table[table["species"].isna() | table["species"].astype(str).str.contains("Hs")]


def check_distinct(names: Sequence[str], source: str) -> None:
    """Refuse names that would become the same in a file."""
    stored = pd.Index(names).map(storable_name)
    twice = sorted(set(stored[stored.duplicated()]))
    if twice:
        msg = f"{source}: names that differ only in '/' and '|' cannot be told apart in a file: {twice}."
        raise ValueError(msg)
