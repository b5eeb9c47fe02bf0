"""Teach a checkpoint names of cells: a linear classifier on its embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.predict import predict_embedding
from scanpy_sct.predict.labels import fit_standardised
from scanpy_sct.tl._common import as_seed, read
from scanpy_sct.tl._name_sources import draw_rows, has_counts, read_labels, take

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint


def fit_label_head(
    checkpoint: str | PathLike[str] | Checkpoint,
    adata: AnnData,
    labels_key: str,
    *,
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
    labelled cells, and its probabilities are calibrated on cells left out in turn. An annotation by a reference also
    sees the expression itself, and does better on data like that reference.

    Parameters
    ----------
    checkpoint
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    adata
        Labelled cells x genes: counts, or log-normalised values. The object is not changed.
    labels_key
        Column of `.obs` with the labels, one for every cell. Labels of fewer than 3 cells are left out, with a warning
        in the log. Of a label with more than 5,000 cells, 5,000 are drawn.
    layer, library_key, gene_names, bags, device, precision, batch_size
        As in :func:`scanpy_sct.tl.annotate`.
    rng
        Seed of bags and folds.

    Returns
    -------
    The checkpoint with the head, replacing one it had. Keep it with
    :func:`scanpy_sct.checkpoints.save_checkpoint`.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or the object cannot be used; before anything is computed.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> model = sct.train.fit_label_head("sct-mini", adata, "bulk_labels")
    >>> sct.tl.annotate(adata, model=model)
    """
    seed = as_seed(rng)
    checkpoint, expression = read(adata, checkpoint, layer=layer, library_key=library_key, gene_names=gene_names)
    labels, usable = read_labels(adata, labels_key, "adata", has_counts(expression))
    rows = draw_rows(labels, usable, seed)
    vectors = predict_embedding(
        checkpoint,
        take(expression, rows, np.flatnonzero(expression.measured)),
        bags=bags,
        device=device,
        precision=precision,
        batch_size=batch_size,
        rng=seed,
    )
    return replace(checkpoint, label_head=fit_standardised(vectors, labels[rows], seed))
