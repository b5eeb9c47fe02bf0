"""Save and load fits: npz files, with everything that is not an array as JSON."""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from scipy import sparse

from scanpy_sct.impute.fit import ImputationFit

FORMAT, FORMAT_VERSION = "scanpy_sct imputation fit", 4
FACTS = "facts"
"""Name of the array that holds the JSON."""
CSR_PARTS = ("data", "indices", "indptr")


def save_fit(fit: ImputationFit, path: str | PathLike[str]) -> None:
    """Write a fit to an npz file."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    _collect("fit", fit, arrays, facts)
    np.savez(Path(path), **{FACTS: np.array(json.dumps(facts))}, **arrays)


def load_fit(path: str | PathLike[str]) -> ImputationFit:
    """Read a fit that :func:`save_fit` wrote.

    Raises
    ------
    ValueError
        The file is not a fit, or one of another version.
    """
    _check_plain(Path(path))
    try:
        with np.load(Path(path), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(str(arrays.pop(FACTS))) if FACTS in arrays else {}
    except (ValueError, zipfile.BadZipFile) as error:
        msg = f"{str(path)!r} is not a fit, or is damaged ({error}); pass a file that save_fit wrote."
        raise ValueError(msg) from error
    if (facts.get("format"), facts.get("format_version")) != (FORMAT, FORMAT_VERSION):
        found = f"{facts.get('format')!r}, version {facts.get('format_version')!r}"
        msg = f"{str(path)!r} must be a fit of format version {FORMAT_VERSION}; found {found}. Fit and save it again."
        raise ValueError(msg)
    return _build("fit", ImputationFit, arrays, facts)


def _check_plain(path: Path) -> None:
    """Raise a ValueError unless a file is an uncompressed npz file; a compressed one could fill the memory."""
    if not zipfile.is_zipfile(path):
        msg = f"{str(path)!r} is not an npz file, or is incomplete; pass a file that save_fit wrote."
        raise ValueError(msg)
    with zipfile.ZipFile(path) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            msg = f"{str(path)!r} is compressed, which fits are not; pass a file that save_fit wrote."
            raise ValueError(msg)


def _collect(name: str, value: Any, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    if is_dataclass(value):
        facts[name] = True
        for field in fields(value):
            _collect(f"{name}.{field.name}", getattr(value, field.name), arrays, facts)
    elif isinstance(value, tuple):
        facts[name] = len(value)
        for number, item in enumerate(value):
            _collect(f"{name}.{number}", item, arrays, facts)
    elif isinstance(value, np.ndarray):
        arrays[name] = value
    elif sparse.issparse(value):
        facts[name] = value.shape
        arrays |= {f"{name}.{part}": getattr(value, part) for part in CSR_PARTS}
    else:
        facts[name] = value


def _build(name: str, kind: Any, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Any:
    if name in arrays:
        return arrays[name]
    kind = next((each for each in get_args(kind) if each is not NoneType), kind) if NoneType in get_args(kind) else kind
    value = facts[name]
    if value is None:
        return None
    if kind is sparse.csr_matrix:
        return kind(tuple(arrays[f"{name}.{part}"] for part in CSR_PARTS), shape=value)
    if get_origin(kind) is tuple:
        return tuple(_build(f"{name}.{number}", get_args(kind)[0], arrays, facts) for number in range(value))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        parts = {field.name: _build(f"{name}.{field.name}", hints[field.name], arrays, facts) for field in fields(kind)}
        return kind(**parts)
    return value
