"""Check what a configuration file says before anything is made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

MAX_CONFIG_BYTES = 10_000_000
MAX_SIZE = 1_000_000
"""Largest integer in a configuration: no width, number of genes or of cells of a network comes near it."""
MAX_LAYERS = 1_000
LAYERS = ("num_layers", "num_downsamples", "num_hidden_layers_head", "cell_layers")
"""Integers that count repeated parts."""
CHECKED = (bool, int, float, str)
DAMAGE = (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, MemoryError)
"""Errors, besides ValueError, of what reads damaged content; a RecursionError is a RuntimeError."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is too large, not JSON, nested too deeply, or holds something else.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        msg = f"{path} is too large for a configuration; pass the folder of a checkpoint, with its own config.json."
        raise ValueError(msg)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        msg = f"{path} is nested too deeply for a configuration; copy or download it again."
        raise ValueError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} must hold a JSON object ({{...}}), found {type(values).__name__}."
        raise ValueError(msg)
    return values


def check_types(kind: type[Any], values: Mapping[str, Any], source: str) -> None:
    """Raise a ValueError unless numbers, flags and strings have the type and a possible size for a dataclass."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint, value = hints[field.name], values.get(field.name, MISSING)
        if hint in CHECKED and value is not MISSING:
            check_value(field.name, value, hint, source)


def check_value(name: str, value: Any, kind: type[Any], source: str) -> None:
    """Raise a ValueError unless a value of a configuration has a type and a possible size."""
    allowed = (int, float) if kind is float else kind
    is_right = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    if not is_right or (kind is float and not math.isfinite(value)):
        msg = f"{name}={_shown(value)} in {source} must be of type {kind.__name__}."
        raise ValueError(msg)
    largest = MAX_LAYERS if name in LAYERS else MAX_SIZE
    if kind is int and not 0 <= value <= largest:
        msg = f"{name}={_shown(value)} in {source} must be between 0 and {largest:,}."
        raise ValueError(msg)


@contextmanager
def named_damage(what: str) -> Iterator[None]:
    """Turn the errors of code that meets damaged content into one that names it."""
    try:
        yield
    except DAMAGE as error:
        msg = (
            f"{what} is damaged or inconsistent ({type(error).__name__}: {str(error)[:200]}); copy or download it "
            "again."
        )
        raise ValueError(msg) from error


def _shown(value: Any) -> str:
    return repr(value)[:80]
