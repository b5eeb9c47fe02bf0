"""What annotators ask the network for: one vector per cell, and imputed values of some genes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.embed.cells import predict_embedding
from scanpy_sct.impute.entries import predict_entries

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock
    from scanpy_sct.run.options import ComputeOptions


def embed(checkpoint: Checkpoint, cells: CellBlock, options: ComputeOptions) -> np.ndarray:
    """Return the cell embedding, (n_cells, n_dimensions) float32."""
    return predict_embedding(checkpoint, cells, **_keywords(options))


def impute_genes(
    checkpoint: Checkpoint, cells: CellBlock, gene_index: np.ndarray, options: ComputeOptions
) -> np.ndarray:
    """Return the imputed values of some genes, calibrated but not blended, (n_cells, n_genes) float32."""
    return predict_entries(checkpoint, cells, positions=gene_index, **_keywords(options)).value


def _keywords(options: ComputeOptions) -> dict[str, Any]:
    keywords = asdict(options)
    keywords["rng"] = keywords.pop("seed")
    return keywords
