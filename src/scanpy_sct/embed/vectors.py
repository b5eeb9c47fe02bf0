"""Vectors of cells whose distances are compared: for neighbours, clusters, maps and classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.embed.cells import embed_cells

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions


def cell_vectors(
    checkpoint: Checkpoint, cells: CellReader | CellBlock, options: ComputeOptions | None = None
) -> np.ndarray:
    """Embed every cell, with less of its depth in the length of its vector.

    A vector of the compact network adds up what is known of a cell, gene by gene, so that its length grows with the
    depth of the cell. Each is divided by the square root of its length; in this way the neighbours of a cell are chosen
    more by its direction, and vectors that are short because they hold little stay short. Vectors of the released
    network stay as they are.

    Parameters, returned values and errors are those of :func:`scanpy_sct.embed.cells.embed_cells`.
    """
    vectors = embed_cells(checkpoint, cells, options)
    if checkpoint.network.has_cell_embedding:
        take_depth_from(vectors)
    return vectors


def take_depth_from(vectors: np.ndarray) -> None:
    """Divide each vector (n_cells, dimensions) by the square root of its length, in place; a vector of zeros stays."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    vectors /= np.where(squares > 0, squares, 1)[:, None] ** 0.25
