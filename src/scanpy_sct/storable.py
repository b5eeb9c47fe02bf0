"""Make the record of a call fit into h5ad and zarr files, which hold less than a Python dict does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

NONE = "none"


def storable_name(name: Any) -> str:
    """Turn a name of anything into text without ``/``, which files take for the border between two folders."""
    return str(name).replace("/", "|")


def storable(value: Any) -> Any:
    """Turn a parameter into something that h5ad and zarr files can hold.

    Parameters
    ----------
    value
        Mappings, sequences, arrays, tables, numbers, text, paths and `None`, nested at will. `None` becomes
        ``"none"``, sequences become lists, a ``/`` in the key of a mapping becomes ``|``.

    Returns
    -------
    The value, made of dicts with text keys, lists, arrays, tables and plain Python values.

    Raises
    ------
    TypeError
        If there is something else in it.
    """
    match value:
        case None:
            return NONE
        case bool() | int() | float() | str() | np.ndarray() | pd.DataFrame():
            return value
        case np.generic():
            return value.item()
        case PurePath():
            return str(value)
        case Mapping():
            return {storable_name(name): storable(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset() | pd.Index() | pd.Series():
            return _storable_list(value)
    msg = f"A parameter of type {type(value).__name__} cannot be stored in a file: {value!r}."
    raise TypeError(msg)


def _storable_list(values: Any) -> list[Any]:
    items = [storable(item) for item in (sorted(values) if isinstance(values, set | frozenset) else values)]
    if any(isinstance(item, Mapping | list | np.ndarray | pd.DataFrame) for item in items):
        msg = f"A list inside a parameter may hold numbers and text only, not {values!r}; use a dict or an array."
        raise TypeError(msg)
    # A file holds a list as an array, and an array has one type.
    mixed = any(isinstance(item, str) for item in items) and not all(isinstance(item, str) for item in items)
    return [str(item) for item in items] if mixed else items
