"""Teach a checkpoint names of cells: a linear classifier on its embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate.classifier import fit_standardised, tested_cells
from scanpy_sct.annotate.labels import checked_labels
from scanpy_sct.annotate.marker_sets import check_distinct
from scanpy_sct.annotate.sources import draw_rows, has_counts, take
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.embed.cells import predict_embedding
from scanpy_sct.tl._common import as_seed
from scanpy_sct.train.objects import as_objects, name_object, read_objects
from scanpy_sct.train.ontology import read_names

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
    names: Mapping[str, str | None] | str | None = None,
    donor_key: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: str = "random",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Fit a label head, with which :func:`scanpy_sct.tl.annotate` names cells without a reference.

    The weights of the network stay as they are: a regularised multinomial regression is fitted to the embedding of the
    labelled cells, and its probabilities are calibrated on cells left out in turn. With several donors, whole donors
    are left out, so that the probabilities hold for people who were not seen. An annotation by a reference also sees
    the expression itself, and does better on data like that reference.

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
        The name wanted for each label, such as ``{"CD19+ B": "B cell"}``. Labels with the same name are merged; the
        cells of a label that becomes None are left out. ``"cell_ontology"``: the proposals of
        :func:`scanpy_sct.train.cell_ontology_names`, which must have one for every label. None: the labels as they are.
    donor_key
        Column of `.obs` that names the donor, or study, of each cell; donors of different objects are different. Whole
        donors are left out in turn, in as many folds as there are donors, at most five. A label that the others lack
        cannot be tested then: its left-out cells have no say in the calibration, the cells beside them are tested among
        the labels that remain, and labels that are never tested are named in the log. None: each of several objects is
        a donor, and of a single object single cells are left out.
    layer, gene_names, bags, device, precision, batch_size
        As in :func:`scanpy_sct.tl.annotate`, the same for all objects.
    library_key
        As in :func:`scanpy_sct.tl.annotate`. None: as ``donor_key``, so that no bag shows a donor to another.
    rng
        Seed of bags and folds.

    Returns
    -------
    The checkpoint with the head, replacing one it had. Keep it with
    :func:`scanpy_sct.checkpoints.save_checkpoint`.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or an object cannot be used; before anything is computed.
    ImportError
        For ``names="cell_ontology"``, if `cellxgene-ontology-guide` is not installed.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> model = sct.train.fit_label_head("sct-mini", adata, "bulk_labels")
    >>> sct.tl.annotate(adata, model=model)
    """
    seed = as_seed(rng)
    objects = as_objects(data)
    found = _columns(objects, labels_key, "labels_key")
    donors = _read_donors(objects, donor_key)
    wanted, kept = _rename(found, names, labels_key)
    checkpoint = load_model(checkpoint)
    keys = {"layer": layer, "library_key": donor_key if library_key is None else library_key, "gene_names": gene_names}
    expressions = read_objects(objects, checkpoint, bags, keys)
    measured = np.concatenate([has_counts(expression) for expression in expressions])
    labels, usable = _check_labels(wanted, kept, measured, labels_key)
    rows = draw_rows(labels, usable, seed)
    labels = labels[rows]
    if donors is not None:
        donors = donors[rows]
        _check_donors(labels, donors, donor_key, seed)
    computing = {"bags": bags, "device": device, "precision": precision, "batch_size": batch_size, "rng": seed}
    vectors = [
        predict_embedding(checkpoint, take(expression, part, np.flatnonzero(expression.measured)), **computing)
        for expression, part in zip(expressions, _rows_of_objects(rows, objects), strict=True)
        if len(part)
    ]
    return replace(checkpoint, label_head=fit_standardised(np.concatenate(vectors), labels, seed, donors))


def _columns(objects: Sequence[AnnData], key: str, argument: str) -> list[pd.Series]:
    """One column of `.obs` of each object."""
    for number, adata in enumerate(objects):
        if key not in adata.obs:
            columns = ", ".join(map(repr, adata.obs.columns)) or "none"
            msg = f"{argument}={key!r} is not a column of {name_object(number, objects)}.obs; there are: {columns}."
            raise KeyError(msg)
    return [adata.obs[key].astype(object) for adata in objects]


def _read_donors(objects: Sequence[AnnData], donor_key: str | None) -> np.ndarray | None:
    """Give each cell of all objects the number of its donor, (cells,); None for one object without donors."""
    if donor_key is None:
        return np.repeat(np.arange(len(objects)), [adata.n_obs for adata in objects]) if len(objects) > 1 else None
    numbers, n_donors = [], 0
    for place, column in enumerate(_columns(objects, donor_key, "donor_key")):
        codes, donors = pd.factorize(column)
        if (codes < 0).any():
            msg = (
                f"donor_key={donor_key!r}: {(codes < 0).sum()} of {len(codes)} cells of {name_object(place, objects)} "
                "have no donor; leave these cells out."
            )
            raise ValueError(msg)
        numbers.append(codes + n_donors)
        n_donors += len(donors)
    return np.concatenate(numbers)


def _rename(
    found: Sequence[pd.Series], names: Mapping[str, str | None] | str | None, labels_key: str
) -> tuple[pd.Series, np.ndarray]:
    """Names of the cells of all objects, missing where a label is; and which cells to keep, bool."""
    labels = pd.concat(found, ignore_index=True)
    if names is None:
        return labels, np.ones(len(labels), dtype=bool)
    is_known = labels.notna().to_numpy()
    texts = labels[is_known].astype(str)
    name_of = read_names(names, sorted(texts.unique()), labels_key)
    renamed = pd.Series(None, index=labels.index, dtype=object)
    renamed[is_known] = [name_of[text] for text in texts]
    # Cells without any label stay, to be refused: nobody said that these may be left out.
    return renamed, ~is_known | renamed.notna().to_numpy()


def _check_labels(
    wanted: pd.Series, kept: np.ndarray, measured: np.ndarray, labels_key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as text, and which cells to learn from; labels are rare or not over all objects together."""
    source = f".obs[{labels_key!r}] of data"
    texts, is_usable = checked_labels(wanted[kept], source, measured[kept])
    check_distinct(np.unique(texts), source)
    labels, usable = np.full(len(wanted), "", dtype=texts.dtype), np.zeros(len(wanted), dtype=bool)
    labels[kept], usable[kept] = texts, is_usable
    return labels, usable


def _check_donors(labels: np.ndarray, donors: np.ndarray, donor_key: str | None, seed: int) -> None:
    """Refuse donors of which none can be left out; say in the log which labels cannot be tested."""
    way_out = (
        "join the objects with anndata.concat, and single cells are left out in turn"
        if donor_key is None
        else "leave donor_key out, and single cells of a single object are left out in turn"
    )
    source = "data: every object is a donor, and" if donor_key is None else f"donor_key={donor_key!r}:"
    if len(np.unique(donors)) < 2:
        msg = f"{source} all cells to learn from are of one donor; add others to calibrate on, or {way_out}."
        raise ValueError(msg)
    tested = tested_cells(labels, donors, seed)
    if not tested.any():
        msg = f"{source} no label remains when its donor is left out; harmonise labels with names=, or {way_out}."
        raise ValueError(msg)
    untested = sorted(set(labels) - set(labels[tested]))
    if untested:
        logger.warning("Labels that no other donors have are not part of the calibration: %s.", ", ".join(untested))


def _rows_of_objects(rows: np.ndarray, objects: Sequence[AnnData]) -> list[np.ndarray]:
    """Sorted rows of all objects one below another, as rows of each."""
    stops = np.cumsum([adata.n_obs for adata in objects])
    parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
    return [part - stop + adata.n_obs for part, stop, adata in zip(parts, stops, objects, strict=True)]
