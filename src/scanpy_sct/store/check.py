"""Find what of an object a file cannot hold, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scanpy_sct.store.remedies import MAX_NAME_BYTES, new_name, value_remedy
from scanpy_sct.store.trial import Trial, stand_in

MAX_PROBLEMS = 5
MATRICES = ("layers", "obsm", "varm", "obsp", "varp")
TEXT = ("string", "bytes", "empty")
"""Contents of an array of objects that files can store, as pandas names them."""


class Problem(NamedTuple):
    """Something that cannot be stored."""

    where: str
    """As Python finds it."""
    reason: str
    remedy: str
    """Python code."""


def check_storable(adata: Any, suffix: str, folder: Path, target: str, added: Mapping[str, str] | None = None) -> None:
    """Raise an error if something of an object, apart from the values of its matrices, cannot be stored.

    Everything but the matrices is stored for a trial in ``folder``, and read back.

    Parameters
    ----------
    adata
        The object as it will be written, with its tables in memory.
    suffix
        `".h5ad"` or `".zarr"`.
    folder
        A folder on the disk of the output, where small files are made and deleted again.
    target
        What is written, for the message.
    added
        Field of the object, such as `"layers"` -> name that the result will have there.

    Raises
    ------
    ValueError
        Something cannot be stored; the message names all of it and the remedies.
    OSError
        The folder cannot be written, or the disk is full.
    """
    trial, parts = Trial(suffix, folder), dict(_parts(adata))
    problems: dict[str, Problem] = {}
    for name, value in parts.items():
        problems |= {each.where: each for each in _mixed_values(f"adata.{name}", value)}
    error = trial.error("all", parts)
    if error:
        problems = {each.where: each for each in _all_located(trial, parts)} | problems
        problems = problems or {"adata": Problem("adata", error, "what the message says")}
    if suffix == ".zarr":
        problems |= {each.where: each for each in _twins_of_result(parts, added or {})}
    if problems:
        listed = [f"{each.where}: {each.reason}; fix it with  {each.remedy}" for each in problems.values()]
        more = [f"and {len(listed) - MAX_PROBLEMS} more"] if len(listed) > MAX_PROBLEMS else []
        msg = "\n".join([f"{target} cannot be written with this object:", *listed[:MAX_PROBLEMS], *more])
        raise ValueError(msg)


def _parts(adata: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object, with stand-ins for matrices."""
    yield from (("obs", adata.obs), ("var", adata.var), ("uns", dict(adata.uns)))
    if adata.X is not None:
        yield "X", stand_in(adata.X)
    for name in MATRICES:
        # anndata 0.13 lists X among the layers, as None.
        items = getattr(adata, name).items()
        yield name, {key: stand_in(value) for key, value in items if key is not None}
    if adata.raw is not None:
        yield "raw.var", adata.raw.var
        yield "raw.varm", {key: stand_in(value) for key, value in adata.raw.varm.items()}


def _mixed_values(where: str, value: Any) -> Iterator[Problem]:
    """Find arrays of objects that are not all strings: a zarr store would turn all into strings in silence."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _mixed_values(f"{where}[{name!r}]", item)
    elif isinstance(value, pd.DataFrame):
        for number, name in enumerate(value.columns):
            kind = _mixed_kind(value.iloc[:, number])
            if kind:
                place = f"{where}[{name!r}]"
                yield Problem(place, f"it has {kind}", value_remedy(place, value.iloc[:, number]))
        kind = _mixed_kind(value.index)
        if kind and not isinstance(value.index, pd.MultiIndex):
            yield Problem(f"{where}.index", f"it has {kind}", f"{where}.index = {where}.index.astype(str)")
    elif isinstance(value, np.ndarray | list):
        kind = _mixed_kind(value)
        if kind:
            yield Problem(where, f"it has {kind}", value_remedy(where, value))


def _mixed_kind(values: Any) -> str:
    """Describe an array of objects that are not all strings; empty for everything else."""
    if isinstance(values, list):
        try:
            values = np.asarray(values)
        except ValueError:  # lists of different lengths: the trial finds them
            return ""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.categories
        if isinstance(values, pd.IntervalIndex):
            return "categories that are intervals"
    if values.dtype != object:
        return ""
    kind = pd.api.types.infer_dtype(np.ravel(values), skipna=False)
    if kind in TEXT:
        return ""
    if pd.api.types.infer_dtype(np.ravel(values), skipna=True) == "string":
        return "missing values among strings"
    types = sorted({type(item).__name__ for item in np.ravel(values)})
    return f"values that are not strings or not of one type ({', '.join(types[:4])})"


def _all_located(trial: Trial, parts: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in parts.items():
        if trial.error("part", value):
            yield from _located(trial, f"adata.{name}", value)


def _located(trial: Trial, where: str, value: Any) -> Iterator[Problem]:
    """Find what it is in a part that cannot be stored."""
    if isinstance(value, Mapping):
        yield from _in_mapping(trial, where, value)
    elif isinstance(value, pd.DataFrame):
        yield from _in_table(trial, where, value)
    else:
        reason = str(trial.error("x", value))
        # In a table a series is a column; by itself it is an array with names.
        value = pd.Index(value) if isinstance(value, pd.Series) else value
        yield Problem(where, reason, value_remedy(where, value, trial))


def _in_mapping(trial: Trial, where: str, value: Mapping[Any, Any]) -> Iterator[Problem]:
    found = False
    for name, item in value.items():
        if trial.error("part", {name: item}) is None:
            continue
        found, place = True, f"{where}[{name!r}]"
        if trial.error("part", {"x": item}):
            yield from _located(trial, place, item)
        else:
            code = f"{where}[{new_name(name, value)!r}] = {where}.pop({name!r})"
            yield Problem(place, _name_reason(trial, name), code)
    for first, second in () if found else _twins(value):
        code = f"{where}[{second + '_2'!r}] = {where}.pop({second!r})"
        yield Problem(f"{where}[{second!r}]", f"the name differs from {first!r} only in case", code)


def _in_table(trial: Trial, where: str, table: pd.DataFrame) -> Iterator[Problem]:
    columns = table.columns
    if not columns.is_unique:
        names = list(columns[columns.duplicated()].unique())
        code = (
            "del adata.raw"
            if where.startswith("adata.raw")
            else f"{where} = {where}.loc[:, ~{where}.columns.duplicated()]"
        )
        yield Problem(where, f"several columns have the same name ({', '.join(map(repr, names))})", code)
        return
    plain = table.set_axis(pd.RangeIndex(len(table)).astype(str), axis="index")
    found = False
    for name in columns:
        error = trial.error("part", plain[[name]])
        if error is None:
            continue
        found, place = True, f"{where}[{name!r}]"
        if trial.error("part", plain[[name]].set_axis(["x"], axis="columns")):
            reason = f"its type, {table[name].dtype}, cannot be stored ({error})"
            yield Problem(place, reason, value_remedy(place, table[name], trial))
        else:
            code = f"{where}.rename(columns={{{name!r}: {new_name(name, columns)!r}}}, inplace=True)"
            yield Problem(place, _name_reason(trial, name), code)
    if isinstance(table.index, pd.MultiIndex):
        yield Problem(f"{where}.index", "it has several levels", f"{where} = {where}.reset_index()")
    elif trial.error("part", table.iloc[:, :0].rename_axis(index=None)):
        yield Problem(f"{where}.index", "the names cannot be stored", f"{where}.index = {where}.index.astype(str)")
    elif trial.error("part", table.iloc[:, :0]) or (table.index.name is not None and table.index.name in columns):
        reason = f"its name, {table.index.name!r}, cannot be stored or is also that of a column"
        yield Problem(f"{where}.index", reason, f"{where}.index.name = None")
    for first, second in () if found else _twins(columns):
        code = f"{where}.rename(columns={{{second!r}: {second + '_2'!r}}}, inplace=True)"
        yield Problem(f"{where}[{second!r}]", f"the name differs from {first!r} only in case", code)


def _name_reason(trial: Trial, name: Any) -> str:
    if not isinstance(name, str):
        return "the name is not a string"
    if "/" in name:
        return "the name contains '/'"
    if trial.suffix == ".zarr" and len(name.encode()) > MAX_NAME_BYTES:
        return "the name is too long for a file"
    return "the name is reserved" if name == "_index" else f"the name cannot be stored in {trial.suffix} files"


def _twins(names: Any) -> Iterator[tuple[str, str]]:
    """Yield pairs of names that differ only in case."""
    seen: dict[str, str] = {}
    for name in map(str, names):
        if name.casefold() in seen:
            yield seen[name.casefold()], name
        seen.setdefault(name.casefold(), name)


def _twins_of_result(parts: Mapping[str, Any], added: Mapping[str, str]) -> Iterator[Problem]:
    for container, key in added.items():
        for name in parts[container]:
            if name != key and str(name).casefold() == key.casefold():
                reason = f"the name differs only in case from that of the result, {key!r}"
                yield Problem(f"adata.{container}[{name!r}]", reason, f"key_added={key + '_2'!r}")
