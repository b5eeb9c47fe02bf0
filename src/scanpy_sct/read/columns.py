"""Read columns and names of `.obs` and `.var`, which may be lazy (`anndata.experimental.read_lazy`)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pandas as pd

from scanpy_sct.read.options import argument_of

if TYPE_CHECKING:
    from anndata import AnnData


def check_is_name(argument: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is a string or None."""
    if value is not None and not isinstance(value, str):
        msg = f"{argument}={value!r} must be a string or None, found {type(value).__name__}."
        raise TypeError(msg)


def read_column(table: Any, column: str, argument: str, where: str, hint: str = "") -> pd.Series:
    """Return a column of `.obs` or `.var`.

    Parameters
    ----------
    table, column
        Table, and the column to return.
    argument, where, hint
        For the error: the argument that names the column, the table as users write it ("adata.obs"), and an addition.

    Raises
    ------
    KeyError
        There is no such column.
    """
    if column not in table:
        columns = ", ".join(map(repr, table)) or "none"
        hint = did_you_mean(column, table) + hint
        msg = f"{argument}={column!r} is not a column of {where}; there are: {columns}.{hint}"
        raise KeyError(msg)
    return as_series(table[column])


def did_you_mean(name: str, names: Iterable[Any]) -> str:
    """Return a question that offers the most similar of some names, empty if none is similar."""
    spellings = {str(each).lower(): each for each in names if each is not None}
    close = get_close_matches(name.lower(), spellings, n=1)
    return f" Did you mean {spellings[close[0]]!r}?" if close else ""


def read_names(adata: AnnData, gene_names: str | None, owner: str = "adata") -> pd.Series:
    """Return the gene name of each column of the matrix: `.var_names`, or a column of `.var`; index 0, 1, ..."""
    argument = argument_of(owner, "gene_names")
    check_is_name(argument, gene_names)
    if gene_names is None:
        return pd.Series(index_of(adata.var).astype(str))
    names = read_column(adata.var, gene_names, argument, f"{owner}.var", " None uses var_names.")
    return names.astype(object).reset_index(drop=True)


def as_series(column: Any) -> pd.Series:
    """Load a column of a table of an AnnData, with its categories in their order."""
    if isinstance(column, pd.Series):
        return column
    data = column.data  # `to_series` would lose the categories
    return pd.Series(data.compute() if hasattr(data, "compute") else data, index=next(iter(column.indexes.values())))


def as_frame(table: Any) -> pd.DataFrame:
    """Load a table of an AnnData."""
    return table.to_memory() if hasattr(table, "to_memory") else table


def index_of(table: Any) -> pd.Index:
    """Return the names of the rows of `.obs` or `.var`, also where a lazy table has not loaded them yet."""
    return table.true_index if hasattr(table, "true_index") else table.index
