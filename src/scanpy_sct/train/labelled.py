"""Labels, donors and sources of one or several labelled objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate.classifier import can_be_tested, group_folds
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import read_column

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def as_objects(data: object) -> list[AnnData]:
    """Return one or several objects as a list; an error if one is not an AnnData."""
    objects = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if not objects:
        msg = "data is empty; give at least one AnnData."
        raise ValueError(msg)
    for number, adata in enumerate(objects):
        check_is_anndata(adata, name_of(number, objects))
    return objects


def name_of(number: int, objects: Sequence[AnnData]) -> str:
    """Return the name of an object in messages."""
    return f"data[{number}]" if len(objects) > 1 else "data"


def read_columns(objects: Sequence[AnnData], key: str, argument: str) -> list[pd.Series]:
    """Return one column of `.obs` of each object."""
    return [
        read_column(adata.obs, key, argument, f"{name_of(number, objects)}.obs").astype(object)
        for number, adata in enumerate(objects)
    ]


def read_donors(objects: Sequence[AnnData], donor_key: str | None) -> np.ndarray | None:
    """Return the donor of each cell of all objects, (cells,) integers; None for one object without donors."""
    if donor_key is None:
        return np.repeat(np.arange(len(objects)), [adata.n_obs for adata in objects]) if len(objects) > 1 else None
    codes_of_objects, n_donors = [], 0
    for number, column in enumerate(read_columns(objects, donor_key, "donor_key")):
        codes, donors = pd.factorize(column)
        if (codes < 0).any():
            msg = (
                f"donor_key={donor_key!r}: {(codes < 0).sum()} of {len(codes)} cells of {name_of(number, objects)} "
                "have no donor; remove these cells."
            )
            raise ValueError(msg)
        codes_of_objects.append(codes + n_donors)
        n_donors += len(donors)
    return np.concatenate(codes_of_objects)


def read_sources(objects: Sequence[AnnData], sources: Sequence[str] | None) -> list[str]:
    """Return the names of the data, by default their tissues."""
    if sources is None:
        tissues = [adata.obs["tissue"].dropna().astype(str) for adata in objects if "tissue" in adata.obs]
        return sorted(set(pd.concat(tissues))) if tissues else []
    if isinstance(sources, str) or not all(isinstance(name, str) for name in sources):
        msg = f"sources must be a list of strings; found {sources!r}."
        raise TypeError(msg)
    return list(sources)


def rename(
    found: Sequence[pd.Series], names: Mapping[str, str | None] | None, labels_key: str
) -> tuple[pd.Series, np.ndarray]:
    """Return the renamed labels of the cells of all objects, and which cells to keep (bool)."""
    labels = pd.concat(found, ignore_index=True)
    if names is None:
        return labels, np.ones(len(labels), dtype=bool)
    has_label = labels.notna().to_numpy()
    strings = labels[has_label].astype(str)
    renamed = pd.Series(None, index=labels.index, dtype=object)
    renamed[has_label] = strings.map(_check_names(names, sorted(strings.unique()), labels_key))
    # Cells without a label are kept, and raise an error later: only labels renamed to None are left out.
    return renamed, ~has_label | renamed.notna().to_numpy()


def _check_names(names: Mapping[str, str | None], labels: list[str], labels_key: str) -> dict[str, str | None]:
    """Return the new name, a string or None, of each label."""
    if not isinstance(names, Mapping):
        msg = (
            f"names must be a mapping from labels to new names; found {type(names).__name__}. "
            "Convert a column of a table with .to_dict()."
        )
        raise TypeError(msg)
    new_names = {str(label): name for label, name in names.items()}
    missing = [label for label in labels if label not in new_names]
    if missing:
        msg = (
            f"names lacks {len(missing)} of the {len(labels)} labels of labels_key={labels_key!r}: {missing}. Give "
            "each a name (its own to keep it), or None to leave its cells out."
        )
        raise ValueError(msg)
    used = {label: new_names[label] for label in labels}
    wrong = {
        label: name for label, name in used.items() if name is not None and not (isinstance(name, str) and name.strip())
    }
    if wrong:
        msg = f"names must give strings, or None to leave the cells of a label out; found {wrong}."
        raise ValueError(msg)
    return used


def check_donors(labels: np.ndarray, donors: np.ndarray, donor_key: str | None) -> None:
    """Raise an error if no donor can be left out; log the labels that cannot be tested."""
    if donor_key is None:
        source, fix = "data: every object is a donor, and", "join the objects with anndata.concat"
    else:
        source, fix = f"donor_key={donor_key!r}:", "leave donor_key out (for a single object)"
    fix += " to leave out single cells instead"
    if len(np.unique(donors)) < 2:
        msg = f"{source} all cells to learn from are of one donor; add other donors to calibrate on, or {fix}."
        raise ValueError(msg)
    codes = np.unique(labels, return_inverse=True)[1]
    tested = can_be_tested(codes, group_folds(codes, donors))
    if not tested.any():
        msg = f"{source} no label remains when its donor is left out; harmonise labels with names=, or {fix}."
        raise ValueError(msg)
    untested = sorted(set(labels) - set(labels[tested]))
    if untested:
        logger.warning("Labels that other donors lack are not part of the calibration: %s.", ", ".join(untested))
