"""Labels of cells: checks of known labels, and the choice of one label for each cell."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scanpy_sct.read.reader import CellBlock, CellReader

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
NO_LABEL = {"", "nan", "na", "n/a", "#n/a", "<na>", "nat", "none", "null", "nil", ".", "..", "?", "-", "--", "\u2013"}
NO_LABEL |= {"unlabelled", "unlabeled", "unassigned", "unannotated", "not assigned", "not annotated", "no label"}
NO_LABEL |= {"not available", "not applicable", "missing"}
"""Texts that mean "no label", in lower case. Tables that are stored as text turn missing values into them."""
VAGUE = {"other", "others", "undetermined", "undefined", "unclassified", "unidentified", "ambiguous", "uncertain"}
VAGUE |= {"doublet", "doublets", "multiplet", "multiplets", "low quality", "debris", "mixed", "unsure"}
"""Texts that name no cell type, but may be meant: a warning names them."""
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
    return np.concatenate([block.is_empty for block in blocks])


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
        A label is missing or a text that means this, is "unknown", differs from another one only in spaces, or cannot
        be stored beside it; or fewer than two labels remain.
    """
    series = pd.Series(list(values), dtype=object)
    missing = has_no_label(series)
    if missing.any():
        texts = texts_without_label(series[missing])
        rename = ", or rename the label if it is a cell type" if texts else ""
        msg = f"{source}: {missing.sum()} of {len(series)} cells have no label{texts}; remove these cells{rename}."
        raise ValueError(msg)
    labels = series.astype(str).to_numpy(dtype=str)
    different, codes = np.unique(labels, return_inverse=True)
    check_label_names(different, source)
    counts = np.bincount(codes, weights=usable, minlength=len(different)).astype(int)
    rare = different[counts < MIN_CELLS]
    if len(different) - len(rare) < 2:
        found = ", ".join(f"{label} ({count})" for label, count in zip(different[:10], counts[:10], strict=True))
        msg = (
            f"{source}: at least two labels with {MIN_CELLS} or more cells with counts are needed; found {found}. Add "
            "cells of the rare labels, merge labels, or choose another column."
        )
        raise ValueError(msg)
    if len(rare):
        logger.warning(
            "%s: labels with fewer than %d cells are left out, and no cell gets them: %s.",
            source,
            MIN_CELLS,
            ", ".join(rare),
        )
    return labels, usable & ~np.isin(labels, rare)


def has_no_label(values: pd.Series) -> np.ndarray:
    """Return which values are missing, or texts that mean this, such as "nan" or blanks, bool (n,)."""
    # Of columns with few different values, each is looked at once.
    codes, different = pd.factorize(values.astype(object), use_na_sentinel=True)
    means_none = np.array([_plain(label) in NO_LABEL for label in different], dtype=bool)
    return (codes < 0) | np.append(means_none, False)[codes]


def _plain(label: object) -> str:
    """Return a label in lower case, with single spaces instead of other blanks and underscores."""
    return " ".join(str(label).replace("_", " ").split()).casefold()


def texts_without_label(labels: pd.Series) -> str:
    """Return, in brackets, texts that mean "no label" and how many cells have each; "" if all are missing values."""
    counts = labels.dropna().astype(str).value_counts()
    return f" ({', '.join(f'{str(text)!r}: {count}' for text, count in counts.head(5).items())})" if len(counts) else ""


def check_label_names(labels: Sequence[str], source: str) -> None:
    """Check unique labels.

    Raises a ValueError if one means "no label" or is "unknown", or if two differ only in spaces or would become the
    same in a file. A warning in the log names those that hardly differ, and those that name no type.
    """
    nameless = [str(label) for label in labels if _plain(label) in NO_LABEL]
    if nameless:
        msg = f'{source}: {nameless[0]!r} is read as "no label"; rename it, or remove it.'
        raise ValueError(msg)
    reserved = [str(label) for label in labels if _plain(label) == UNKNOWN]
    if reserved:
        msg = f"{source}: {reserved[0]!r} is reserved for cells that fit no label; rename it, or remove these cells."
        raise ValueError(msg)
    stored = pd.Index(labels).map(storable_name)
    twice = sorted(set(stored[stored.duplicated()]))
    if twice:
        msg = f"{source}: labels that differ only in '/' and '|' would become the same in a file: {twice}; rename them."
        raise ValueError(msg)
    blanks = _alike(labels, lambda label: " ".join(label.split()))
    if blanks:
        msg = f"{source}: labels differ only in spaces: {blanks}; give them one name, such as with .str.strip()."
        raise ValueError(msg)
    # The signs of "CD4+ T" and "CD4- T" have no letter or digit on their right.
    capitals = _alike(labels, lambda label: re.sub(r"(?<=\w)[-_. ]+(?=\w)", " ", label).casefold())
    if capitals:
        logger.warning(
            "%s: %s differ only in capital letters, spaces or hyphens, and are different labels. If they are one type, "
            "give them one name.",
            source,
            capitals,
        )
    vague = [str(label) for label in labels if _plain(label) in VAGUE]
    if vague:
        logger.warning(
            "%s: %s is read as a label like any other; leave it out if it is not a type of cells.",
            source,
            ", ".join(map(repr, vague)),
        )


def _alike(labels: Sequence[str], plain: Callable[[str], str]) -> str:
    """Return the labels that are the same in a plain form, "" if there are none."""
    groups: dict[str, list[str]] = {}
    for label in map(str, labels):
        groups.setdefault(plain(label), []).append(label)
    return "; ".join(" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1)
