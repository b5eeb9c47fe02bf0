"""Give the directions of a checkpoint's cell embedding more equal weight."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from scanpy_sct.annotate.cells import empty_cells
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.options import ComputeOptions, as_seed
from scanpy_sct.train.objects import as_objects, read_objects

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock

CELLS_A_DIRECTION = 2
SMALLEST_VARIANCE = 1e-6
"""Of the largest: what varies less is noise of computing, and is not enlarged further."""


def whiten_embedding(
    checkpoint: str | PathLike[str] | Checkpoint,
    data: AnnData | Sequence[AnnData],
    *,
    power: float = 0.5,
    n_cells: int = 400,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: str = "random",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Change the scale of the cell embedding, so that no few directions decide which cells are near.

    What fills the largest directions of a cell embedding serves the predictions of the network, which need not be what
    tells cell types apart. The embedding is multiplied by ``C ** (-power / 2)``, C being its second moments about the
    mean over the data given, each object counting alike (ZCA whitening at `power=1`: Bell and Sejnowski, Vision
    Research 1997). The map is the same for all cells to come, so that embeddings of different objects stay comparable,
    and the rest of the network takes it back: predictions stay as they are.

    Parameters
    ----------
    checkpoint
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`. It must have a cell
        embedding (`cell_dim > 0`).
    data
        Cells x genes: counts, or log-normalised values, at best those of the training. One object or several. The
        objects are not changed.
    power
        0: leave the embedding as it is; 1: make all directions equal.
    n_cells
        Cells that are drawn from each object.
    layer, library_key, gene_names, bags, device, precision, batch_size
        As in :func:`scanpy_sct.tl.embed`, the same for all objects.
    rng
        Seed of cells and bags.

    Returns
    -------
    A checkpoint with the changed embedding, its name ending in "-whitened". A label head that was fitted to the
    embedding is left out of it: fit another.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or an object cannot be used; before anything is computed.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> model = sct.train.whiten_embedding("sct-mini", sct.datasets.pbmc68k())
    """
    seed = as_seed(rng)
    objects = as_objects(data)
    if not 0 <= power <= 1:
        msg = f"power={power} must be between 0 (as it is) and 1 (all directions equal)."
        raise ValueError(msg)
    if not isinstance(n_cells, int | np.integer) or n_cells < 1:
        msg = f"n_cells={n_cells!r} must be a whole number of at least 1, and should be hundreds."
        raise ValueError(msg)
    checkpoint = load_model(checkpoint)
    if not checkpoint.network.has_cell_embedding:
        msg = f"checkpoint={checkpoint.name!r} has no cell embedding; name one with cell_dim > 0, such as 'sct-mini'."
        raise ValueError(msg)
    options = ComputeOptions(bags, device, precision, batch_size, seed)
    expressions = read_objects(objects, checkpoint, ReadOptions(layer, library_key, gene_names), options)
    parts = _draw_cells(expressions, n_cells, checkpoint.config.cell_dim, seed)
    vectors = [embed_cells(checkpoint, part, options) for part in parts]
    return _rescaled(checkpoint, _whitening(vectors, power))


def _draw_cells(expressions: Sequence[CellBlock], n_cells: int, dim: int, seed: int) -> list[CellBlock]:
    """Draw cells with counts from each object; few cells would say nothing of directions, and are refused."""
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.permutation(np.flatnonzero(~empty_cells(each)))[:n_cells]) for each in expressions]
    n_drawn = sum(map(len, drawn))
    if n_drawn < CELLS_A_DIRECTION * dim:
        msg = (
            f"data and n_cells={n_cells} give {n_drawn} cells with counts, too few for an embedding of {dim} "
            f"dimensions; give at least {CELLS_A_DIRECTION * dim}, better thousands."
        )
        raise ValueError(msg)
    return [each.block(rows) for each, rows in zip(expressions, drawn, strict=True) if len(rows)]


def _whitening(vectors: Sequence[np.ndarray], power: float) -> np.ndarray:
    """Return the symmetric matrix (dim, dim) to multiply embeddings by."""
    mean = np.mean([each.mean(0, dtype=np.float64) for each in vectors], axis=0)
    moments = np.mean([(each - mean).T @ (each - mean) / len(each) for each in vectors], axis=0)
    variances, directions = np.linalg.eigh(moments)
    variances = variances.clip(SMALLEST_VARIANCE * variances.max())
    return directions * variances ** (-power / 2) @ directions.T


def _rescaled(checkpoint: Checkpoint, matrix: np.ndarray) -> Checkpoint:
    """Multiply the embedding of a copy by ``matrix``, and what reads it by the inverse."""
    network = copy.deepcopy(checkpoint.network).cpu()
    embedder, reader = network.embedder, network.cell_transformer.input
    forth = torch.from_numpy(matrix)
    back = torch.from_numpy(np.linalg.inv(matrix))
    dim = len(forth)
    with torch.no_grad():
        embedder.gene_factors.copy_(embedder.gene_factors.double() @ forth)
        # The layer that reads it sees the vector of the cell, its deviation from the mean of the bag, and the depth.
        for first in (0, dim):
            columns = reader.weight[:, first : first + dim]
            columns.copy_(columns.double() @ back)
    return replace(
        checkpoint,
        name=f"{checkpoint.name}-whitened",
        network=network,
        label_head=None,
        revision=None,
        sha256="",
    )
