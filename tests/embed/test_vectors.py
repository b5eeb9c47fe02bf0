"""Vectors whose distances are compared have less of the depth of the cell in their length."""

from __future__ import annotations

import numpy as np

import scanpy_sct as sct
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.embed.vectors import cell_vectors, take_depth_from
from scanpy_sct.read.reader import CellReader


def test_directions_stay_and_lengths_are_square_roots():
    vectors = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=np.float32)
    take_depth_from(vectors)
    np.testing.assert_allclose(vectors, np.array([[0.6, 0.8], [0.6, 0.8], [0, 0]]) * np.sqrt([[5], [0.5], [0]]), 1e-6)
    assert vectors.dtype == np.float32


def test_users_get_these(pbmc, compact_checkpoint):
    reader = CellReader(pbmc, compact_checkpoint.genes, "log1p_counts")
    expected = embed_cells(compact_checkpoint, reader)
    expected = expected / np.sqrt(np.linalg.norm(expected, axis=1, keepdims=True))
    np.testing.assert_allclose(cell_vectors(compact_checkpoint, reader), expected, atol=1e-5)
    sct.tl.embed(pbmc, model=compact_checkpoint)
    np.testing.assert_allclose(pbmc.obsm["X_sct"], expected, atol=1e-5)


def test_vectors_of_the_released_network_stay(pbmc, released_checkpoint):
    reader = CellReader(pbmc[:20].copy(), released_checkpoint.genes, "log1p_counts")
    np.testing.assert_array_equal(cell_vectors(released_checkpoint, reader), embed_cells(released_checkpoint, reader))
