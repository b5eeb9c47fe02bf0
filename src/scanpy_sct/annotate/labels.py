"""Labels of cells: checks of those to learn from, and the choice of one for each cell."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.storable import storable_name

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
MIN_CELLS = 3
"""A label with fewer cells is left out: it cannot be learnt and tested."""
MAX_CELLS_PER_LABEL = 5000
"""More cells of one label add little, and each has to be embedded."""


@dataclass(frozen=True)
class Annotation:
    """What an annotator finds out about cells."""

    labels: tuple[str, ...]
    probabilities: np.ndarray
    """(n_cells, n_labels): of each label, given that one of them is right."""
    empty: np.ndarray
    """(n_cells,) bool: cells without any counts, of which nothing is known."""
    novelty: np.ndarray | None = None
    """(n_cells,) probability that no label is right, NaN for empty cells; None where the annotator has no estimate."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What is recorded in `.uns`."""


@dataclass(frozen=True)
class LabelChoice:
    """One label for every cell."""

    labels: np.ndarray
    """(n_cells,) strings; "unknown" where no label is probable enough."""
    score: np.ndarray
    """(n_cells,) probability that the most probable label is right, also where the choice is "unknown"."""
    probabilities: np.ndarray
    """(n_cells, n_labels): of each label, given that one of them is right; equal ones for empty cells."""


def choose_labels(annotation: Annotation, threshold: float) -> LabelChoice:
    """Give each cell its most probable label, or "unknown" if its score is below ``threshold``.

    Empty cells are unknown whatever the threshold, and every label is equally probable for them.
    """
    probabilities, empty = annotation.probabilities.copy(), annotation.empty
    probabilities[empty] = 1 / len(annotation.labels)
    score = probabilities.max(axis=1)
    if annotation.novelty is not None:
        score = score * (1 - np.nan_to_num(annotation.novelty))
    labels = np.asarray(annotation.labels, dtype=object)[probabilities.argmax(axis=1)]
    labels[(score < threshold) | empty] = UNKNOWN
    return LabelChoice(labels, score, probabilities)


def check_labels(
    values: Sequence[object] | pd.Series, source: str, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Check labels to learn from.

    Parameters
    ----------
    values
        One label for each cell; numbers become strings.
    source
        What the labels are called in messages.
    usable
        Cells that have counts, bool (n_cells,); the others are left out.

    Returns
    -------
    Labels as strings (n_cells,), and which cells to learn from, bool (n_cells,): labels with fewer than three cells
    are left out, with a warning in the log.

    Raises
    ------
    ValueError
        A label is missing, is "unknown", or cannot be stored beside another one; or fewer than two labels remain.
    """
    series = pd.Series(list(values), dtype=object)
    n_missing = int(series.isna().sum())
    if n_missing:
        msg = f"{source}: {n_missing} of {len(series)} cells have no label; leave these cells out."
        raise ValueError(msg)
    labels = series.astype(str).to_numpy(dtype=str)
    different, codes = np.unique(labels, return_inverse=True)
    check_label_names(different, source)
    counts = np.bincount(codes, weights=usable, minlength=len(different)).astype(int)
    rare = different[counts < MIN_CELLS]
    if len(different) - len(rare) < 2:
        found = ", ".join(f"{label} ({count})" for label, count in zip(different[:10], counts[:10], strict=True))
        msg = f"{source}: at least two labels with {MIN_CELLS} or more cells are needed; found {found}."
        raise ValueError(msg)
    if len(rare):
        logger.warning("%s: left out labels with fewer than %d cells: %s.", source, MIN_CELLS, ", ".join(rare))
    return labels, usable & ~np.isin(labels, rare)


def check_label_names(labels: Sequence[str], source: str) -> None:
    """Raise a ValueError if a label is "unknown", or if two labels would become the same in a file.

    Parameters
    ----------
    labels
        Different labels.
    source
        What they are called in messages.
    """
    reserved = [str(label) for label in labels if label.casefold() == UNKNOWN]
    if reserved:
        msg = f"{source}: {reserved[0]!r} is reserved for cells that fit no label; rename it, or leave these cells out."
        raise ValueError(msg)
    stored = pd.Index(labels).map(storable_name)
    twice = sorted(set(stored[stored.duplicated()]))
    if twice:
        msg = f"{source}: labels that differ only in '/' and '|' would become the same in a file: {twice}; rename them."
        raise ValueError(msg)
