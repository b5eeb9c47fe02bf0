"""Labels of cells: checks of known labels, and the choice of one label for each cell."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scanpy_sct.read.reader import CellBlock, CellReader

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
MIN_CELLS = 3
"""Labels with fewer cells are left out: they cannot be both fitted and tested."""
MAX_CELLS_PER_LABEL = 5000
"""More cells of a label add little accuracy, and each has to be embedded."""


@dataclass(frozen=True)
class Annotation:
    """Result of an annotator for some cells."""

    labels: tuple[str, ...]
    probabilities: np.ndarray
    """(n_cells, n_labels): of each label, given that one of them is right."""
    empty: np.ndarray
    """(n_cells,) bool: cells without counts."""
    novelty: np.ndarray | None = None
    """(n_cells,) probability that no label is right, NaN for empty cells; None if it is not estimated."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Recorded in `.uns`."""


def empty_cells(cells: CellReader | CellBlock) -> np.ndarray:
    """Return which cells have no counts, bool (n_cells,); a reader is read block by block."""
    blocks = cells.blocks() if hasattr(cells, "blocks") else [cells]
    return np.concatenate([np.diff(block.log_values.indptr) == 0 for block in blocks])


def choose_labels(annotation: Annotation, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the most probable label of each cell, or "unknown" if its score is below ``threshold`` or it is empty.

    Returns
    -------
    labels
        (n_cells,) strings.
    score
        (n_cells,) probability that the most probable label is right, also if the choice is "unknown".
    probabilities
        (n_cells, n_labels) of each label, given that one of them is right; equal ones for empty cells.
    """
    probabilities, empty = annotation.probabilities.copy(), annotation.empty
    probabilities[empty] = 1 / len(annotation.labels)
    score = probabilities.max(axis=1)
    if annotation.novelty is not None:
        score = score * (1 - np.nan_to_num(annotation.novelty))
    labels = np.asarray(annotation.labels, dtype=object)[probabilities.argmax(axis=1)]
    labels[(score < threshold) | empty] = UNKNOWN
    return labels, score, probabilities


def check_labels(
    values: Sequence[object] | pd.Series, source: str, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Check known labels, and select the cells to fit a classifier to.

    Parameters
    ----------
    values
        One label for each cell; numbers become strings.
    source
        Name of the labels in messages.
    usable
        Cells with counts, bool (n_cells,).

    Returns
    -------
    Labels as strings, (n_cells,), and the selected cells, bool (n_cells,): usable ones whose label has at least three
    usable cells. Other labels are named in a warning in the log.

    Raises
    ------
    ValueError
        A label is missing, is "unknown", or cannot be stored beside another one; or fewer than two labels remain.
    """
    series = pd.Series(list(values), dtype=object)
    n_missing = int(series.isna().sum())
    if n_missing:
        msg = f"{source}: {n_missing} of {len(series)} cells have no label; remove these cells."
        raise ValueError(msg)
    labels = series.astype(str).to_numpy(dtype=str)
    different, codes = np.unique(labels, return_inverse=True)
    check_label_names(different, source)
    counts = np.bincount(codes, weights=usable, minlength=len(different)).astype(int)
    rare = different[counts < MIN_CELLS]
    if len(different) - len(rare) < 2:
        found = ", ".join(f"{label} ({count})" for label, count in zip(different[:10], counts[:10], strict=True))
        msg = f"{source}: at least two labels with {MIN_CELLS} or more cells with counts are needed; found {found}."
        raise ValueError(msg)
    if len(rare):
        logger.warning("%s: left out labels with fewer than %d cells: %s.", source, MIN_CELLS, ", ".join(rare))
    return labels, usable & ~np.isin(labels, rare)


def check_label_names(labels: Sequence[str], source: str) -> None:
    """Raise a ValueError if one of the unique labels is "unknown", or if two would become the same in a file."""
    reserved = [str(label) for label in labels if label.casefold() == UNKNOWN]
    if reserved:
        msg = f"{source}: {reserved[0]!r} is reserved for cells that fit no label; rename it, or remove these cells."
        raise ValueError(msg)
    stored = pd.Index(labels).map(storable_name)
    twice = sorted(set(stored[stored.duplicated()]))
    if twice:
        msg = f"{source}: labels that differ only in '/' and '|' would become the same in a file: {twice}; rename them."
        raise ValueError(msg)
