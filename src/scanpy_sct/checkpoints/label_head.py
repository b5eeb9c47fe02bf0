"""Label heads, the record of the cells that they were fitted to, and their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from scanpy_sct.checkpoints.checkpoint import check_names
from scanpy_sct.checkpoints.fields import check_value
from scanpy_sct.checkpoints.label_classifiers import (
    CLASSIFIERS,
    ExpressionClassifier,
    LabelClassifier,
    refuse_array,
)

HEAD_SETTINGS = ("labels", "temperature")
LATER_SETTINGS = ("home", "relative_to", "reads")
"""Settings that heads of earlier versions lack."""
HOME_SETTINGS = ("sources", "n_cells")
"""What `config.json` has of a head, and of its home."""
HOME_ARRAYS = ("profiles", "distances")
"""What the file of the head has of its home, beside the arrays of its classifier."""
RelativeTo = Literal["sample", "training"]
"""What the compact network compares a cell with: the profile of its sample, or the frequencies of its training data."""


@dataclass(frozen=True, eq=False)
class LabelHome:
    """The cells that a label head was fitted to: how their genes are expressed, and how far they are from that.

    Distances are those of :mod:`scanpy_sct.annotate.home`.
    """

    sources: tuple[str, ...]
    """Names of the data, such as tissues; may be empty."""
    n_cells: tuple[int, ...]
    """Cells of each label."""
    profiles: np.ndarray
    """(n_labels, n_genes) float32: log1p of the mean counts per 10,000; NaN for genes that no cell of the label has."""
    distances: np.ndarray
    """(n_labels, 2) float32: median and 99 % quantile of the distance of held-out cells of the label to its profile."""

    def __post_init__(self) -> None:
        n_labels = len(self.n_cells)
        if not all(isinstance(name, str) for name in self.sources) or not all(
            isinstance(number, int) and number > 0 for number in self.n_cells
        ):
            msg = (
                "The sources of a label head must be strings, and its numbers of cells positive integers; found "
                f"{self.sources}, {self.n_cells}."
            )
            raise ValueError(msg)
        for name, shape in {"profiles": (n_labels, self.profiles.shape[-1]), "distances": (n_labels, 2)}.items():
            values = getattr(self, name)
            # Profiles may be NaN, where a gene is not measured.
            broken = np.isinf(values).any() if name == "profiles" else not np.isfinite(values).all()
            if values.shape != shape or values.dtype != np.float32 or broken:
                refuse_array(name, shape, values)
        if (self.profiles < 0).any():
            msg = f"profiles of the label head must not be negative; found {np.nanmin(self.profiles):g}."
            raise ValueError(msg)

    @property
    def measured(self) -> np.ndarray:
        """Genes that cells of every label have, bool (n_genes,)."""
        return np.isfinite(self.profiles).all(axis=0)


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A classifier that labels cells without a reference.

    The probability of each label is ``softmax(logits / temperature)``, with the logits of the classifier.
    """

    labels: tuple[str, ...]
    classifier: LabelClassifier
    temperature: float = 1.0
    home: LabelHome | None = None
    """The cells that it was fitted to; None for heads of earlier versions, which have no novelty."""
    relative_to: RelativeTo = "sample"
    """What cells are embedded relative to: "sample" for heads of earlier versions, "training" for those that
    ``train.fit_label_head`` fits now."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            msg = f"labels must be different strings, at least one; found {self.labels}."
            raise ValueError(msg)
        n_known = len(self.classifier.bias)
        if n_known != len(self.labels):
            msg = (
                f"The label head has {len(self.labels)} labels, and its classifier {n_known}; both "
                "numbers must be the same."
            )
            raise ValueError(msg)
        if not 0 < self.temperature < np.inf:
            msg = f"temperature of the label head must be positive; found {self.temperature}."
            raise ValueError(msg)
        if self.relative_to not in get_args(RelativeTo):
            msg = f"relative_to of the label head must be one of {get_args(RelativeTo)}; found {self.relative_to!r}."
            raise ValueError(msg)
        if self.home is not None and len(self.home.n_cells) != len(self.labels):
            msg = (
                f"The label head has {len(self.labels)} labels, and the cells that it was fitted to are described for "
                f"{len(self.home.n_cells)}; both numbers must be the same."
            )
            raise ValueError(msg)

    def check_fits(self, n_genes: int) -> None:
        """Raise a ValueError if the head is not for a network of so many genes."""
        known = None if self.home is None else self.home.profiles.shape[1]
        if known not in (None, n_genes):
            msg = (
                f"The label head has profiles of {known} genes, and the network has {n_genes}; use a label head that "
                "was fitted for this network."
            )
            raise ValueError(msg)
        if isinstance(self.classifier, ExpressionClassifier) and self.classifier.gene_index[-1] >= n_genes:
            msg = (
                f"gene_index of the label head goes up to {self.classifier.gene_index[-1]}, and the network has "
                f"{n_genes} genes; use a label head that was fitted for this network."
            )
            raise ValueError(msg)

    def describe(self) -> str:
        """Return what it knows in one line: labels, with numbers of cells and sources where they are recorded."""
        # Semicolons, since names of the Cell Ontology hold commas.
        if self.home is None:
            return "; ".join(self.labels)
        labels = [f"{label} ({n:,} cells)" for label, n in zip(self.labels, self.home.n_cells, strict=True)]
        sources = f", of: {'; '.join(self.home.sources)}" if self.home.sources else ""
        return "; ".join(labels) + sources


def head_settings(head: LabelHead | None) -> dict[str, Any] | None:
    """Return what `config.json` has of a head."""
    if head is None:
        return None
    settings: dict[str, Any] = {"labels": list(head.labels), "temperature": head.temperature}
    settings |= {"relative_to": head.relative_to, "reads": head.classifier.reads}
    if head.home is not None:
        settings["home"] = {"sources": list(head.home.sources), "n_cells": list(head.home.n_cells)}
    return settings


def write_head(path: Path, head: LabelHead) -> None:
    """Write the arrays of a head; profiles in half precision."""
    from safetensors.numpy import save_file

    arrays = {name: getattr(head.classifier, name) for name in head.classifier.ARRAYS}
    if head.home is not None:
        arrays |= {"profiles": head.home.profiles.astype(np.float16), "distances": head.home.distances}
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)


def make_head(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str, file: str) -> LabelHead:
    """Make a head of its settings from `config.json` and its arrays.

    Raises
    ------
    ValueError
        A name is missing or unknown, in ``source`` (the settings) or ``file`` (the arrays), or the values do not match.
    """
    of_home = settings.get("home")
    check_names(settings, (*HEAD_SETTINGS, *(name for name in LATER_SETTINGS if name in settings)), source)
    reads = settings.get("reads", "embedding")
    if reads not in CLASSIFIERS:
        msg = f"reads={reads!r} in the {source} must be one of {sorted(CLASSIFIERS)}."
        raise ValueError(msg)
    kind = CLASSIFIERS[reads]
    check_names(arrays, kind.ARRAYS + (() if of_home is None else HOME_ARRAYS), file)
    check_value("temperature", settings["temperature"], float, source)
    home = None
    if of_home is not None:
        check_names(of_home, HOME_SETTINGS, f"home of the {source}")
        profiles = arrays["profiles"].astype(np.float32)
        home = LabelHome(tuple(of_home["sources"]), tuple(of_home["n_cells"]), profiles, arrays["distances"])
    classifier = kind(**{name: arrays[name] for name in kind.ARRAYS})
    relative_to = settings.get("relative_to", "sample")
    return LabelHead(tuple(settings["labels"]), classifier, settings["temperature"], home, relative_to)
