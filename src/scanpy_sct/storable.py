"""Convert the record of a call to types that h5ad and zarr files can store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

NONE = "none"


def storable_name(name: Any) -> str:
    """Convert a name to a string without ``/``, the separator of groups in h5ad and zarr files."""
    return str(name).replace("/", "|")


def storable(value: Any) -> Any:
    """Convert a parameter to types that h5ad and zarr files can store.

    Parameters
    ----------
    value
        Mappings, sequences, arrays, tables, numbers, strings, paths and `None`, also nested. `None` becomes ``"none"``,
        since HDF5 and Zarr cannot store it; sequences become lists; in keys of mappings, ``/`` becomes ``|``.

    Returns
    -------
    Dicts with string keys, lists, arrays, tables and plain Python values.

    Raises
    ------
    TypeError
        The value contains something else.
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
    msg = (
        f"A parameter of type {type(value).__name__} cannot be stored in a file: {value!r}. Use numbers, strings, "
        "lists, dicts or arrays."
    )
    raise TypeError(msg)


def _storable_list(values: Any) -> list[Any]:
    items = [storable(item) for item in (sorted(values) if isinstance(values, set | frozenset) else values)]
    if any(isinstance(item, Mapping | list | np.ndarray | pd.DataFrame) for item in items):
        msg = f"A list inside a parameter may contain only numbers and strings, not {values!r}; use a dict or an array."
        raise TypeError(msg)
    # A file stores a list as an array, and an array has one type.
    mixed = any(isinstance(item, str) for item in items) and not all(isinstance(item, str) for item in items)
    return [str(item) for item in items] if mixed else items
