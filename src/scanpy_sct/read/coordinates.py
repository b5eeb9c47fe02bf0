"""Read the coordinates of each cell from `.obsm["spatial"]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.read.columns import as_frame

if TYPE_CHECKING:
    from anndata import AnnData

_PREFERRED = ("centroid", "center", "centre", "global", "fullres", "pixel", "pxl")
"""Of several pairs of columns, those with such a word are preferred, in this order."""
# The second column has another of these in place of the first; numbers count from 0 or 1.
_SECOND = {"x": "y", "column": "row", "col": "row", "0": "1", "1": "2"}
_PARTS = re.compile("|".join(_SECOND), re.IGNORECASE)
_OTHER_MEANING = re.compile(r"(?<![a-z])(x|y|row|col|id|ids|cell|index|barcode|fov)(?![a-z])", re.IGNORECASE)


def read_coordinates(adata: AnnData, owner: str = "adata") -> tuple[np.ndarray | None, list[str]]:
    """Read `adata.obsm["spatial"]`: the first two columns of an array, the columns x and y of a table.

    Returns
    -------
    (n_obs, 2) float64, in their own unit, None without any; and warnings about them. Those of single cells may be NaN
    or infinite, see :func:`scanpy_sct.plan.bags.check_complete`.

    Raises
    ------
    ValueError
        There are fewer than two columns, no clear columns x and y, or values that are not numbers.
    """
    if "spatial" not in adata.obsm:
        return None, []
    name = f"{owner}.obsm['spatial']"
    stored = as_frame(adata.obsm["spatial"])
    stored = stored.compute() if hasattr(stored, "compute") else stored
    findings = []
    if isinstance(stored, pd.DataFrame):
        first, second, finding = _choose_columns([*stored.columns], name)
        stored, findings = stored.iloc[:, [first, second]], [finding]
    try:
        coordinates = np.asarray(stored, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{name} must hold numbers: {error}"
        raise ValueError(msg) from error
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        msg = f"{name} must have the columns x and y, found shape {coordinates.shape}."
        raise ValueError(msg)
    coordinates = coordinates[:, :2]
    n_bad = int((~np.isfinite(coordinates)).any(axis=1).sum())
    if n_bad == len(coordinates):
        return None, [f"{name} is NaN or infinite for all cells; the cells are read as having no coordinates."]
    if n_bad:
        findings.append(
            f"{name} is NaN or infinite for {n_bad} of {adata.n_obs} cells. Coordinates can only be used after you "
            "remove these cells."
        )
    return coordinates, [text for text in findings if text]


def _choose_columns(columns: list[object], name: str) -> tuple[int, int, str]:
    """Return which columns of a table are x and y, and a warning if other pairs could be; "" else.

    Raises
    ------
    ValueError
        There is no such pair, or there are several and none of them is preferred.
    """
    pairs = _pairs([str(column) for column in columns])
    candidates = [pair for pair in pairs if str(columns[pair[0]]).lower() == "x"] or pairs
    for word in _PREFERRED:
        candidates = [pair for pair in candidates if word in str(columns[pair[0]]).lower()] or candidates
    listed = ", ".join(map(repr, columns))
    fix = f"Keep the two right ones: {name} = {name}[['x', 'y']]."
    if len(candidates) > 1:
        msg = f"{name} has several columns that may be x and y: {listed}. {fix}"
        raise ValueError(msg)
    if candidates:
        first, second = candidates[0]
        is_plain = str(columns[first]).lower() == "x" or len(pairs) == 1
        used = f"{columns[first]!r} and {columns[second]!r}"
        return first, second, "" if is_plain else f"{name} has the columns {listed}; {used} are read as x and y. {fix}"
    if len(columns) == 2 and not any(_OTHER_MEANING.search(str(column)) for column in columns):
        return 0, 1, ""
    msg = f"{name} has the columns {listed or 'none'}, none of which are clearly x and y. Name them 'x' and 'y'."
    raise ValueError(msg)


def _pairs(columns: list[str]) -> list[tuple[int, int]]:
    """Find pairs of columns whose names differ as those of x and y do: x_centroid and y_centroid, col and row."""
    found = {}
    for first, column in enumerate(columns):
        for part in _PARTS.finditer(column):
            second = _like(part[0], _SECOND[part[0].lower()])
            other = column[: part.start()] + second + column[part.end() :]
            if other in columns and not (part[0] == "1" and column[: part.start()] + "0" in columns):
                found[first] = columns.index(other)
    return list(found.items())


def _like(text: str, other: str) -> str:
    """Write ``other`` in the case of ``text``."""
    return other.upper() if text.isupper() else other.capitalize() if text[0].isupper() else other
