"""Read columns of `.obs` and `.var`."""

from __future__ import annotations

import pandas as pd


def check_is_name(argument: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is a string or None."""
    if value is not None and not isinstance(value, str):
        msg = f"{argument}={value!r} must be a string or None, found {type(value).__name__}."
        raise TypeError(msg)


def read_column(table: pd.DataFrame, column: str, argument: str, where: str, hint: str = "") -> pd.Series:
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
        columns = ", ".join(map(repr, table.columns)) or "none"
        msg = f"{argument}={column!r} is not a column of {where}; there are: {columns}.{hint}"
        raise KeyError(msg)
    return table[column]
