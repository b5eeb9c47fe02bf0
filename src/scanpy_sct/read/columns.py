"""Columns of `.obs` and `.var` that a user names."""

from __future__ import annotations

import pandas as pd


def check_is_name(argument: str, value: object) -> None:
    """Raise a TypeError for what cannot be the name of a layer or a column."""
    if value is not None and not isinstance(value, str):
        msg = f"{argument}={value!r} must be one name (str) or None, found {type(value).__name__}."
        raise TypeError(msg)


def read_column(table: pd.DataFrame, column: str, argument: str, where: str, hint: str = "") -> pd.Series:
    """Return a column of `.obs` or `.var`.

    Parameters
    ----------
    table
        Table with the column.
    column
        Its name, as the user gave it.
    argument
        Argument that gave the name.
    where
        What the user calls the table, such as "adata.obs".
    hint
        Added to the message of the error.

    Raises
    ------
    KeyError
        There is no such column; the message lists those there are.
    """
    if column not in table:
        columns = ", ".join(map(repr, table.columns)) or "none"
        msg = f"{argument}={column!r} is not a column of {where}; there are: {columns}.{hint}"
        raise KeyError(msg)
    return table[column]
