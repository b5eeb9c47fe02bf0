"""Observed values on the scale of the results, read some thousand cells at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.keys import ImputationKeys
from scanpy_sct.read.columns import as_series
from scanpy_sct.read.matrix import ExpressionMatrix, open_matrix
from scanpy_sct.read.scale import Scale, sampled_rows
from scanpy_sct.read.values import LogValues

if TYPE_CHECKING:
    from anndata import AnnData


def read_observed(adata: AnnData, key: str, columns: np.ndarray) -> np.ndarray:
    """Read the values of some columns that were imputed, on the scale of the result; (cells, columns) float32."""
    matrix, scale = _open(adata, key)
    values = adata.uns.get(key, {}).get("params", {}).get("values", "auto")
    sample = matrix.rows(sampled_rows(adata.n_obs))
    convert = LogValues.found_in(sample, scale, normalise=values != "auto")
    result = np.zeros((adata.n_obs, len(columns)), dtype=np.float32)
    for rows, stored in matrix.pieces():
        # A cell is normalised by the total of all its genes.
        found = convert.counts_of(stored) if values == "counts" else convert.of(stored)
        result[rows] = found[:, columns].toarray()
    return result


def count_detected(adata: AnnData, key: str) -> np.ndarray:
    """Count the cells in which each column that was imputed is detected."""
    matrix, _ = _open(adata, key)
    return sum((values.getnnz(axis=0) for _, values in matrix.pieces()), start=np.zeros(adata.n_vars, dtype=np.int64))


def _open(adata: AnnData, key: str) -> tuple[ExpressionMatrix, Scale]:
    details = adata.uns.get(key, {})
    layer = details.get("params", {}).get("layer", "none")
    # Only genes were imputed, and other columns may hold any values.
    not_genes = ~as_series(adata.var[ImputationKeys.of(key).imputed]).to_numpy(dtype=bool)
    return open_matrix(adata, None if layer == "none" else layer, not_genes), details.get("scale", "log")
