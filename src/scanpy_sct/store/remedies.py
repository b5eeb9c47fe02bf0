"""Python code that makes a value or a name fit for a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.store.trial import Trial

NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")

MAX_NAME_BYTES = 200
"""Longest name that is offered: those of files have at most 255 bytes on most disks, and more may be added to it."""


def new_name(name: Any, others: Any) -> str:
    """Return a name like the given one that a file can store, and that is not among the others."""
    new = "names" if name == "_index" else str(name).replace("/", "|").strip(".") or "unnamed"
    new = new.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    while new in others:
        new += "_"
    return new


def value_remedy(where: str, value: Any, trial: Trial | None = None) -> str:
    """Return code that converts a value, or, where no conversion helps, deletes it."""
    for code, convert in _conversions(value):
        try:
            converted = convert(value)
        except (TypeError, ValueError, AttributeError):
            continue
        if isinstance(converted, pd.Series):
            converted = converted.reset_index(drop=True).to_frame("x")
        if trial is None or trial.error("x", converted) is None:
            return code.format(where)
    return f"del {where}"


def _conversions(value: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    if isinstance(value, pd.Series):
        yield from _of_column(value)
    elif isinstance(value, tuple | set | frozenset):
        yield "{0} = list({0})", list
    elif isinstance(value, np.ndarray | list):
        yield "{0} = np.asarray({0}).astype(str)", lambda each: np.asarray(each).astype(str)
    elif isinstance(value, pd.Index):
        yield "{0} = {0}.to_numpy()", lambda each: each.to_numpy()
    elif hasattr(value, "dtype") and np.dtype(value.dtype).kind == "f":
        yield '{0} = {0}.astype("float64")', lambda each: each.astype("float64")
    elif not callable(value):
        yield "{0} = str({0})", str


def _of_column(values: pd.Series) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if isinstance(values.dtype, pd.CategoricalDtype):
        yield '{0} = {0}.astype(str).astype("category")', lambda each: each.astype(str).astype("category")
        return
    if kind == "boolean":
        yield '{0} = {0}.astype("boolean")', lambda each: each.astype("boolean")
    if kind in NUMBERS or (pd.api.types.is_numeric_dtype(values.dtype) and kind != "complex"):
        yield "{0} = {0}.astype(float)", lambda each: each.astype(float)
    if kind == "string":
        yield '{0} = {0}.astype("category")', lambda each: each.astype("category")
    yield "{0} = {0}.astype(str)", lambda each: each.astype(str)
