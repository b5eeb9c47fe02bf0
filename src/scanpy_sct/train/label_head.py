"""Fit a label head: a classifier of expression, or of the embedding of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scanpy_sct.annotate.classifier import fit_embedding_head, make_folds
from scanpy_sct.annotate.expression import fit_expression_head
from scanpy_sct.annotate.home import MIN_SHARED_GENES, estimate_home
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, check_labels, empty_cells
from scanpy_sct.checkpoints.label_classifiers import Reads
from scanpy_sct.checkpoints.label_head import RelativeTo
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.run.checks import check_computable
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.train.labelled import (
    as_objects,
    check_donors,
    name_of,
    read_columns,
    read_donors,
    read_sources,
    rename,
)
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock

RELATIVE_TO: RelativeTo = "training"
"""What cells are embedded relative to: relative to its sample, a cell has other vectors beside other types."""


def fit_label_head(
    checkpoint: str | PathLike[str] | Checkpoint,
    data: AnnData | Sequence[AnnData],
    labels_key: str,
    *,
    reads: Reads = "expression",
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

    A regularised multinomial regression is fitted to the expression of marker genes, those that differ most between
    each two labels among the genes that all samples have; or to the embedding, see `reads`. Its probabilities are
    calibrated by cross-validation. With several donors, whole donors are left out, so that the probabilities hold for
    new donors. The network is not changed.

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
    reads
        What the classifier reads of a cell: `"expression"` of markers, which transfers far better between protocols
        with `sct-mini` (benchmarks/label_head.py), or the `"embedding"` of the network.
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
    if reads not in get_args(Reads):
        msg = f"reads={reads!r} must be one of {get_args(Reads)}."
        raise ValueError(msg)
    computing = ComputeOptions(bags, device, precision, batch_size, as_seed(rng))
    objects = as_objects(data)
    renamed, kept = rename(read_columns(objects, labels_key, "labels_key"), names, labels_key)
    donors = read_donors(objects, donor_key)
    sources = read_sources(objects, sources)
    checkpoint = load_model(checkpoint)
    reading = ReadOptions(layer, donor_key if library_key is None else library_key, gene_names, scale=scale)
    blocks, genes = _read_objects(objects, checkpoint, reading, computing)
    has_counts = ~np.concatenate([empty_cells(block) for block in blocks])
    labels, usable = np.full(len(renamed), "", dtype=object), np.zeros(len(renamed), dtype=bool)
    labels[kept], usable[kept] = check_labels(renamed[kept], f".obs[{labels_key!r}] of data", has_counts[kept])
    rows = draw_per_label(labels, MAX_CELLS_PER_LABEL, computing.seed, usable)
    labels, donors = labels[rows].astype(str), None if donors is None else donors[rows]
    if donors is not None:
        check_donors(labels, donors, donor_key)
    drawn = _draw(blocks, rows)
    genes = genes[np.sum([block.token_values[:, genes].sum(axis=0).A1 for block in drawn], axis=0) > 0]
    if reads == "expression":
        _check_genes(genes)
    vectors = [embed_cells(checkpoint, block, computing, RELATIVE_TO) for block in drawn]
    codes = np.unique(labels, return_inverse=True)[1]
    folds = make_folds(codes, donors, computing.seed)
    if reads == "expression":
        head = fit_expression_head(drawn, genes, labels, donors, folds)
    else:
        head = fit_embedding_head(np.concatenate(vectors), labels, folds)
    home = estimate_home(drawn, vectors, codes, folds, sources, computing.seed)
    return replace(checkpoint, label_head=replace(head, home=home, relative_to=RELATIVE_TO))


def _read_objects(
    objects: Sequence[AnnData], checkpoint: Checkpoint, reading: ReadOptions, computing: ComputeOptions
) -> tuple[list[CellBlock], np.ndarray]:
    """Read the objects; raise an error if the network cannot embed them.

    Returns also the `gene_index` of the genes that all of their samples have.
    """
    blocks, is_shared = [], np.ones(len(checkpoint.genes), dtype=bool)
    for number, adata in enumerate(objects):
        try:
            _, reader = open_cells(adata, checkpoint, reading)
            check_computable(checkpoint, reader, computing)
        except (KeyError, TypeError, ValueError) as error:
            if len(objects) > 1:
                error.add_note(f"This is about {name_of(number, objects)}.")
            raise
        blocks.append(reader.block())
        is_shared &= reader.measured & ~reader.partly_measured
    return blocks, np.flatnonzero(is_shared)


def _check_genes(genes: np.ndarray) -> None:
    if len(genes) < MIN_SHARED_GENES:
        msg = (
            f"All samples of data share {len(genes)} genes that the model knows and that cells with a label have; at "
            f'least {MIN_SHARED_GENES} are needed: leave out data of other genes, or pass reads="embedding".'
        )
        raise ValueError(msg)


def _draw(blocks: Sequence[CellBlock], rows: np.ndarray) -> list[CellBlock]:
    """Return some cells of each block, by their ``rows`` (increasing) in all blocks; no empty blocks."""
    stops = np.cumsum([block.n_cells for block in blocks])
    parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
    return [
        block.block(part - stop + block.n_cells)
        for block, part, stop in zip(blocks, parts, stops, strict=True)
        if len(part)
    ]
