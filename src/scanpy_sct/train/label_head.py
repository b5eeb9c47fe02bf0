"""Fit a label head: a linear classifier on the embedding of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scanpy_sct.annotate.classifier import can_be_tested, fit_label_classifier, group_folds
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, check_labels, empty_cells
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.read.columns import read_column
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.train.objects import as_objects, name_object, read_objects

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


def fit_label_head(
    checkpoint: str | PathLike[str] | Checkpoint,
    data: AnnData | Sequence[AnnData],
    labels_key: str,
    *,
    names: Mapping[str, str | None] | None = None,
    donor_key: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: BagPolicy = "random",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Fit a label head, with which :func:`scanpy_sct.tl.annotate` labels cells without a reference.

    The weights of the network stay as they are: a regularised multinomial regression is fitted to the embedding of the
    labelled cells, and its probabilities are calibrated on cells left out in turn. With several donors, whole donors
    are left out, so that the probabilities hold for new donors. An annotation by a reference also reads the expression
    itself, and is more accurate on data like that reference.

    Parameters
    ----------
    checkpoint
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    data
        Labelled cells x genes: counts, or log-normalised values. One object or several, each of which is embedded by
        itself. The objects are not changed.
    labels_key
        Column of `.obs` with the labels, one for every cell. Labels of fewer than 3 cells are left out, with a warning
        in the log. Of a label with more than 5,000 cells, 5,000 are drawn.
    names
        New name of each label, such as ``{"CD19+ B": "B cell"}``. Labels with the same new name are merged; the cells
        of a label whose new name is None are left out. None: the labels as they are.
    donor_key
        Column of `.obs` that names the donor, or study, of each cell; donors of different objects are different. Whole
        donors are left out in turn, in as many folds as there are donors, at most five. The left-out cells of a label
        that the other donors lack cannot be tested: they do not count in the calibration, the other cells are tested
        among the labels that remain, and labels that are never tested are listed in the log. None: each of several
        objects is a donor, and of a single object single cells are left out.
    layer, gene_names, bags, device, precision, batch_size
        As in :func:`scanpy_sct.tl.annotate`, the same for all objects.
    library_key
        As in :func:`scanpy_sct.tl.annotate`. None: as ``donor_key``, so that no bag mixes donors.
    rng
        Seed of bags and folds.

    Returns
    -------
    The checkpoint with the head, replacing one it had. Keep it with
    :func:`scanpy_sct.checkpoints.save_checkpoint`.

    Raises
    ------
    ValueError, KeyError, TypeError
        An argument or an object cannot be used; before anything is computed.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> model = sct.train.fit_label_head("sct-mini", adata, "bulk_labels")
    >>> sct.tl.annotate(adata, model=model)
    """
    computing = ComputeOptions(bags, device, precision, batch_size, as_seed(rng))
    objects = as_objects(data)
    found = _read_columns(objects, labels_key, "labels_key")
    donors = _read_donors(objects, donor_key)
    renamed, kept = _rename(found, names, labels_key)
    checkpoint = load_model(checkpoint)
    reading = ReadOptions(layer, donor_key if library_key is None else library_key, gene_names)
    blocks = read_objects(objects, checkpoint, reading, computing)
    has_counts = ~np.concatenate([empty_cells(block) for block in blocks])
    labels, usable = _check_labels(renamed, kept, has_counts, f".obs[{labels_key!r}] of data")
    rows = draw_per_label(labels, MAX_CELLS_PER_LABEL, computing.seed, usable)
    labels, donors = labels[rows], None if donors is None else donors[rows]
    if donors is not None:
        _check_donors(labels, donors, donor_key)
    vectors = [
        embed_cells(checkpoint, block.block(part), computing)
        for block, part in zip(blocks, _rows_of_objects(rows, objects), strict=True)
        if len(part)
    ]
    head = fit_label_classifier(np.concatenate(vectors), labels, computing.seed, donors)
    return replace(checkpoint, label_head=head)


def _read_columns(objects: Sequence[AnnData], key: str, argument: str) -> list[pd.Series]:
    """Return one column of `.obs` of each object."""
    return [
        read_column(adata.obs, key, argument, f"{name_object(number, objects)}.obs").astype(object)
        for number, adata in enumerate(objects)
    ]


def _read_donors(objects: Sequence[AnnData], donor_key: str | None) -> np.ndarray | None:
    """Give each cell of all objects the number of its donor, (cells,); None for one object without donors."""
    if donor_key is None:
        return np.repeat(np.arange(len(objects)), [adata.n_obs for adata in objects]) if len(objects) > 1 else None
    codes_of_objects, n_donors = [], 0
    for number, column in enumerate(_read_columns(objects, donor_key, "donor_key")):
        codes, donors = pd.factorize(column)
        if (codes < 0).any():
            msg = (
                f"donor_key={donor_key!r}: {(codes < 0).sum()} of {len(codes)} cells of {name_object(number, objects)} "
                "have no donor; leave these cells out."
            )
            raise ValueError(msg)
        codes_of_objects.append(codes + n_donors)
        n_donors += len(donors)
    return np.concatenate(codes_of_objects)


def _rename(
    found: Sequence[pd.Series], names: Mapping[str, str | None] | None, labels_key: str
) -> tuple[pd.Series, np.ndarray]:
    """Return the labels of the cells of all objects under their new names, and which cells to keep, bool."""
    labels = pd.concat(found, ignore_index=True)
    if names is None:
        return labels, np.ones(len(labels), dtype=bool)
    is_known = labels.notna().to_numpy()
    strings = labels[is_known].astype(str)
    name_of = _check_names(names, sorted(strings.unique()), labels_key)
    renamed = pd.Series(None, index=labels.index, dtype=object)
    renamed[is_known] = [name_of[label] for label in strings]
    # Cells without any label are kept, and raise an error later: the user did not ask to leave them out.
    return renamed, ~is_known | renamed.notna().to_numpy()


def _check_names(names: Mapping[str, str | None], labels: list[str], labels_key: str) -> dict[str, str | None]:
    """Return the new name of each label, as a string or None; raise an error that lists labels without one."""
    if not isinstance(names, Mapping):
        msg = (
            f"names must be a mapping from labels to new names; found {type(names).__name__}. "
            "A column of a table becomes one with .to_dict()."
        )
        raise TypeError(msg)
    name_of = {str(label): name for label, name in names.items()}
    missing = [label for label in labels if label not in name_of]
    if missing:
        msg = (
            f"names lacks {len(missing)} of the {len(labels)} labels of labels_key={labels_key!r}: {missing}. Give "
            "each a name, its own to keep it, or None to leave its cells out."
        )
        raise ValueError(msg)
    wrong = {label: name_of[label] for label in labels if not _is_name(name_of[label])}
    if wrong:
        msg = f"names must give strings, or None to leave the cells of a label out; found {wrong}."
        raise ValueError(msg)
    return name_of


def _is_name(name: object) -> bool:
    return name is None or (isinstance(name, str) and bool(name.strip()))


def _check_labels(
    renamed: pd.Series, kept: np.ndarray, has_counts: np.ndarray, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as strings, and which cells to learn from; rare labels are counted over all objects together."""
    strings, is_usable = check_labels(renamed[kept], source, has_counts[kept])
    labels, usable = np.full(len(renamed), "", dtype=strings.dtype), np.zeros(len(renamed), dtype=bool)
    labels[kept], usable[kept] = strings, is_usable
    return labels, usable


def _check_donors(labels: np.ndarray, donors: np.ndarray, donor_key: str | None) -> None:
    """Raise an error if no donor can be left out; log which labels cannot be tested."""
    fix = (
        "join the objects with anndata.concat, and single cells are left out in turn"
        if donor_key is None
        else "leave donor_key out, and single cells of a single object are left out in turn"
    )
    source = "data: every object is a donor, and" if donor_key is None else f"donor_key={donor_key!r}:"
    if len(np.unique(donors)) < 2:
        msg = f"{source} all cells to learn from are of one donor; add others to calibrate on, or {fix}."
        raise ValueError(msg)
    codes = np.unique(labels, return_inverse=True)[1]
    tested = can_be_tested(codes, group_folds(codes, donors))
    if not tested.any():
        msg = f"{source} no label remains when its donor is left out; harmonise labels with names=, or {fix}."
        raise ValueError(msg)
    untested = sorted(set(labels) - set(labels[tested]))
    if untested:
        logger.warning("Labels that no other donors have are not part of the calibration: %s.", ", ".join(untested))


def _rows_of_objects(rows: np.ndarray, objects: Sequence[AnnData]) -> list[np.ndarray]:
    """Sorted rows of all objects one below another, as rows of each."""
    stops = np.cumsum([adata.n_obs for adata in objects])
    parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
    return [part - stop + adata.n_obs for part, stop, adata in zip(parts, stops, objects, strict=True)]
