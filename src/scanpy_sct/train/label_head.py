"""Fit a label head: a linear classifier on the embedding of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scanpy_sct.annotate.classifier import can_be_tested, fit_label_classifier, group_folds, make_folds
from scanpy_sct.annotate.home import estimate_home
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, check_labels, empty_cells
from scanpy_sct.checkpoints.label_head import RelativeTo
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import read_column
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.run.checks import check_computable
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock

logger = logging.getLogger(__name__)

RELATIVE_TO: RelativeTo = "training"
"""What cells are embedded relative to: relative to its sample, a cell has other vectors beside other types."""


def fit_label_head(
    checkpoint: str | PathLike[str] | Checkpoint,
    data: AnnData | Sequence[AnnData],
    labels_key: str,
    *,
    names: Mapping[str, str | None] | None = None,
    donor_key: str | None = None,
    sources: Sequence[str] | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    bags: BagPolicy = "random",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Fit a label head, with which :func:`scanpy_sct.tl.annotate` labels cells without a reference.

    A regularised multinomial regression is fitted to the embedding of the labelled cells, and its probabilities are
    calibrated by cross-validation. With several donors, whole donors are left out, so that the probabilities hold for
    new donors. The network is not changed. Annotation by a reference also reads the expression itself, and is more
    accurate on data similar to that reference.

    The head also keeps what it was fitted to: the numbers of cells, the mean expression of each label, and how far
    left-out cells are from it. Cells that are farther from all labels get a high novelty when the head is applied.

    Parameters
    ----------
    checkpoint
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    data
        Labelled cells x genes: counts, or log-normalised values. One object or several, which are embedded separately.
    labels_key
        Column of `.obs` with the label of every cell. Labels with fewer than 3 cells are left out, with a warning in
        the log. Of labels with more than 5,000 cells, 5,000 are drawn.
    names
        New name of each label, such as ``{"CD19+ B": "B cell"}``. Labels with the same new name are merged; cells whose
        new name is None are left out. None: labels are not renamed.
    donor_key
        Column of `.obs` with the donor, or study, of each cell; donors of different objects are different. Calibration
        leaves out whole donors, in at most five folds. Left-out cells whose label the other donors lack are not used
        for calibration, and labels that are never tested are listed in the log. None: each of several objects is a
        donor; of a single object, single cells are left out.
    sources
        Names of the data, such as `["blood, 10x v1"]`; a warning names them where cells are unlike these data. None:
        the values of `.obs["tissue"]`, where it is there.
    layer, gene_names, scale, bags, device, precision, batch_size
        As in :func:`scanpy_sct.tl.annotate`, the same for all objects.
    library_key
        As in :func:`scanpy_sct.tl.annotate`. None: as ``donor_key``, so that no bag mixes donors.
    rng
        Seed of bags and folds.

    Returns
    -------
    The checkpoint with the new head. Save it with :func:`scanpy_sct.checkpoints.save_checkpoint`.

    Raises
    ------
    ValueError, KeyError, TypeError
        If an argument or an object is invalid; before anything is computed.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> model = sct.train.fit_label_head("sct-mini", adata, "bulk_labels")
    >>> sct.tl.annotate(adata, model=model)
    """
    computing = ComputeOptions(bags, device, precision, batch_size, as_seed(rng))
    objects = _as_objects(data)
    renamed, kept = _rename(_read_columns(objects, labels_key, "labels_key"), names, labels_key)
    donors = _read_donors(objects, donor_key)
    sources = _read_sources(objects, sources)
    checkpoint = load_model(checkpoint)
    reading = ReadOptions(layer, donor_key if library_key is None else library_key, gene_names, scale=scale)
    blocks = _read_objects(objects, checkpoint, reading, computing)
    has_counts = ~np.concatenate([empty_cells(block) for block in blocks])
    labels, usable = np.full(len(renamed), "", dtype=object), np.zeros(len(renamed), dtype=bool)
    labels[kept], usable[kept] = check_labels(renamed[kept], f".obs[{labels_key!r}] of data", has_counts[kept])
    rows = draw_per_label(labels, MAX_CELLS_PER_LABEL, computing.seed, usable)
    labels, donors = labels[rows].astype(str), None if donors is None else donors[rows]
    if donors is not None:
        _check_donors(labels, donors, donor_key)
    stops = np.cumsum([adata.n_obs for adata in objects])
    parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
    drawn = [
        block.block(part - stop + block.n_cells)
        for block, part, stop in zip(blocks, parts, stops, strict=True)
        if len(part)
    ]
    vectors = [embed_cells(checkpoint, block, computing, RELATIVE_TO) for block in drawn]
    head = fit_label_classifier(np.concatenate(vectors), labels, computing.seed, donors)
    codes = np.searchsorted(head.labels, labels)
    folds = make_folds(codes, donors, computing.seed)
    home = estimate_home(drawn, vectors, codes, folds, sources, computing.seed)
    return replace(checkpoint, label_head=replace(head, home=home, relative_to=RELATIVE_TO))


def _as_objects(data: object) -> list[AnnData]:
    objects = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if not objects:
        msg = "data is empty; give at least one AnnData."
        raise ValueError(msg)
    for number, adata in enumerate(objects):
        check_is_anndata(adata, _name(number, objects))
    return objects


def _name(number: int, objects: Sequence[AnnData]) -> str:
    """Return the name of an object in messages."""
    return f"data[{number}]" if len(objects) > 1 else "data"


def _read_objects(
    objects: Sequence[AnnData], checkpoint: Checkpoint, reading: ReadOptions, computing: ComputeOptions
) -> list[CellBlock]:
    """Read the objects; raise an error if the network cannot embed them."""
    blocks = []
    for number, adata in enumerate(objects):
        try:
            _, reader = open_cells(adata, checkpoint, reading)
            check_computable(checkpoint, reader, computing)
        except (KeyError, TypeError, ValueError) as error:
            if len(objects) > 1:
                error.add_note(f"This is about {_name(number, objects)}.")
            raise
        blocks.append(reader.block())
    return blocks


def _read_columns(objects: Sequence[AnnData], key: str, argument: str) -> list[pd.Series]:
    """Return one column of `.obs` of each object."""
    return [
        read_column(adata.obs, key, argument, f"{_name(number, objects)}.obs").astype(object)
        for number, adata in enumerate(objects)
    ]


def _read_donors(objects: Sequence[AnnData], donor_key: str | None) -> np.ndarray | None:
    """Return the donor of each cell of all objects, (cells,) integers; None for one object without donors."""
    if donor_key is None:
        return np.repeat(np.arange(len(objects)), [adata.n_obs for adata in objects]) if len(objects) > 1 else None
    codes_of_objects, n_donors = [], 0
    for number, column in enumerate(_read_columns(objects, donor_key, "donor_key")):
        codes, donors = pd.factorize(column)
        if (codes < 0).any():
            msg = (
                f"donor_key={donor_key!r}: {(codes < 0).sum()} of {len(codes)} cells of {_name(number, objects)} "
                "have no donor; remove these cells."
            )
            raise ValueError(msg)
        codes_of_objects.append(codes + n_donors)
        n_donors += len(donors)
    return np.concatenate(codes_of_objects)


def _read_sources(objects: Sequence[AnnData], sources: Sequence[str] | None) -> list[str]:
    """Return the names of the data, by default their tissues."""
    if sources is None:
        tissues = [adata.obs["tissue"].dropna().astype(str) for adata in objects if "tissue" in adata.obs]
        return sorted(set(pd.concat(tissues))) if tissues else []
    if isinstance(sources, str) or not all(isinstance(name, str) for name in sources):
        msg = f"sources must be a list of strings; found {sources!r}."
        raise TypeError(msg)
    return list(sources)


def _rename(
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


def _check_donors(labels: np.ndarray, donors: np.ndarray, donor_key: str | None) -> None:
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
