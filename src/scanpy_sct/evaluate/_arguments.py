"""What several verbs ask of their arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd
    from scipy import sparse

    from scanpy_sct.checkpoints import Checkpoint


def check_number(name: str, value: int, least: int = 0) -> None:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        msg = f"{name}={value!r} must be a whole number."
        raise TypeError(msg)
    if value < least:
        msg = f"{name}={value} must be at least {least}."
        raise ValueError(msg)


def read_column(table: pd.DataFrame, key: str, argument: str, place: str) -> pd.Series:
    """Read a column of `.obs` or `.var`.

    Parameters
    ----------
    table
        Where the column stands.
    key
        Its name, as the user gave it.
    argument
        The argument that gave the name.
    place
        What the user calls the table, as "adata.obs".

    Raises
    ------
    KeyError
        There is no such column.
    """
    if key not in table:
        columns = ", ".join(map(repr, table.columns)) or "none"
        msg = f"{argument}={key!r} is not a column of {place}; there are: {columns}."
        raise KeyError(msg)
    return table[key]


def refuse_no_expression(values: sparse.csr_matrix, argument: str) -> None:
    """Refuse data of which nothing can be said, since all of it is zero."""
    if not values.nnz:
        msg = (
            f"{argument} holds no expression: every value that would be read is zero. Give cells that express "
            "something, or name another matrix with `layer=`."
        )
        raise ValueError(msg)


def load_optional(model: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """Load a checkpoint if there is to be one."""
    if model is None:
        return None
    from scanpy_sct.checkpoints import load_model

    return load_model(model)
