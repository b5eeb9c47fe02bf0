"""Read lists of markers in the forms that users have: dicts, and long, wide and binary tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.annotate.marker_forms import MOST, rows_of_table
from scanpy_sct.annotate.marker_names import as_text, fractions_of_genes, split_names

Markers = Mapping[str, Sequence[str]] | pd.DataFrame
"""Genes of each type: a dict or a table."""
N_NAMED = 5


def marker_table(markers: Markers, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a table of strings with one row per type and gene, columns `label` and `gene`.

    Parameters
    ----------
    markers
        The user's argument. A table is read by its content: a long one has a column of types and one of genes, a wide
        one a column of genes per type, and a binary one zeros and ones for genes and types.
    columns
        Ensembl id of each column of the data that is a gene, whose name is one, too.

    Returns
    -------
    A type without genes has one row, with the gene `""`.

    Raises
    ------
    ValueError, TypeError
        It is neither a dict nor a table, or it can be read in several ways.
    """
    if isinstance(markers, pd.DataFrame):
        table = rows_of_table(markers, columns)
    elif isinstance(markers, Mapping):
        table = _rows_of_dict(markers)
        _check_not_inverted(table, columns)
    else:
        raise TypeError(_wrong_type(markers))
    if not len(table):
        msg = "markers is empty; give at least two types with their genes."
        raise ValueError(msg)
    n_nameless = int(table["label"].isna().sum())
    if n_nameless:
        msg = (
            f"markers: {n_nameless} of {len(table)} genes have no type. Give each a type; where only the first gene of "
            "a type names it, fill the column with .ffill() first."
        )
        raise ValueError(msg)
    genes = table["gene"].map(split_names).explode().fillna("")
    result = table[["label"]].join(genes).reset_index(drop=True)
    result["label"] = result["label"].map(as_text)
    # The empty row of a type that has other genes.
    has_genes = result["label"].isin(result["label"][result["gene"] != ""])
    return result[(result["gene"] != "") | ~has_genes].drop_duplicates().reset_index(drop=True)


def _wrong_type(markers: Any) -> str:
    msg = f"markers must be a dict of types and their genes, or a DataFrame; found {type(markers).__name__}"
    if isinstance(markers, str | PathLike):
        return f"{msg} {str(markers)!r}. Read a file first, such as pandas.read_csv({str(markers)!r})."
    if isinstance(markers, pd.Series):
        return f"{msg}. Convert it with .groupby(level=0).agg(list).to_dict()."
    return f"{msg}."


def _rows_of_dict(markers: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for label, genes in markers.items():
        rows += [(label, gene) for gene in _genes_of_type(label, genes)] or [(label, None)]
    return pd.DataFrame(rows, columns=["label", "gene"], dtype=object)


def _genes_of_type(label: str, genes: Any) -> list[Any]:
    """Return the genes of a type of a dict."""
    if isinstance(genes, Mapping):
        if not all(isinstance(weight, int | float | np.number) and weight in (0, 1) for weight in genes.values()):
            msg = (
                f"markers[{label!r}] is a dict with other values than 0 and 1; weights and negative markers are not "
                "used: give a list of the genes that the type expresses."
            )
            raise ValueError(msg)
        genes = [gene for gene, weight in genes.items() if weight]
    if genes is None or isinstance(genes, str):
        genes = [genes]
    if not isinstance(genes, Iterable) or isinstance(genes, bytes):
        msg = f"markers[{label!r}] must be a list of genes, found {type(genes).__name__}."
        raise TypeError(msg)
    genes = [gene for gene in genes if isinstance(gene, str) or not (np.ndim(gene) == 0 and pd.isna(gene))]
    wrong = [gene for gene in genes if not isinstance(gene, str)]
    if wrong:
        msg = f"markers[{label!r}] must hold names of genes, found {wrong[:N_NAMED]!r}."
        raise TypeError(msg)
    return genes


def _check_not_inverted(table: pd.DataFrame, columns: Mapping[str, str] | None) -> None:
    """Raise an error for a dict whose keys are genes and whose values are not."""
    labels, genes = table["label"].dropna(), table["gene"].dropna()
    fractions = fractions_of_genes({"labels": labels, "genes": genes}, columns)
    if fractions["genes"] == 0 and fractions["labels"] > MOST:
        msg = (
            f"markers: the keys ({', '.join(map(str, labels[:3]))}, ...) are genes and the values "
            f"({', '.join(map(str, genes[:3]))}, ...) are not; give {{type: [genes]}}."
        )
        raise ValueError(msg)
