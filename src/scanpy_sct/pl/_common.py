"""What several plots read: observed values, some thousand cells at a time, and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate.labels import UNKNOWN
from scanpy_sct.read.columns import read_names
from scanpy_sct.read.matrix import ExpressionMatrix, open_matrix
from scanpy_sct.read.not_genes import find_not_genes, without_columns
from scanpy_sct.read.scale import Scale, sampled_rows
from scanpy_sct.read.values import LogValues
from scanpy_sct.storable import NONE

if TYPE_CHECKING:
    from anndata import AnnData


def read_observed(adata: AnnData, key: str, columns: np.ndarray, *, values: str | None = None) -> np.ndarray:
    """Read the values of some columns of the matrix that a result was made from; (cells, columns) float32.

    They are on the scale that `values=` of an imputation names; None: that of the result.
    """
    matrix, not_genes, scale = _open(adata, key)
    values = values or adata.uns.get(key, {}).get("params", {}).get("values", "auto")
    sample = without_columns(matrix.rows(sampled_rows(adata.n_obs)), not_genes)
    convert = LogValues.found_in(sample, scale, normalise=values != "auto")
    result = np.zeros((adata.n_obs, len(columns)), dtype=np.float32)
    for rows, stored in matrix.pieces():
        # A cell is normalised by the total of all its genes, and only of these, as when it was imputed.
        found = convert.columns_of(stored, not_genes, counts=values == "counts")
        result[rows] = found[:, columns].toarray()
    return result


def count_detected(adata: AnnData, key: str) -> np.ndarray:
    """Count the cells in which each column that was imputed is detected."""
    matrix, _, _ = _open(adata, key)
    return sum((values.getnnz(axis=0) for _, values in matrix.pieces()), start=np.zeros(adata.n_vars, dtype=np.int64))


def check_annotation(adata: AnnData, key: str, *fields: str) -> None:
    """Raise a KeyError unless `.obs` has all ``fields`` of the annotation ``key``."""
    if all(field in adata.obs for field in fields):
        return
    found = [name for name in adata.obs if f"{name}_score" in adata.obs]
    available = f"; available: {', '.join(map(repr, found))}" if found else ""
    msg = f"key={key!r} is not an annotation of this object{available}; run sct.tl.annotate(adata, ...) first."
    raise KeyError(msg)


def read_labels(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return labels as strings, None where they are missing, and their names in order, "unknown" last."""
    missing = column.isna().to_numpy()
    labels = column.astype(str).to_numpy(dtype=object)
    labels[missing] = None
    present = set(labels[~missing])
    is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
    names = map(str, column.cat.categories) if is_categorical else sorted(present)
    return labels, sorted((name for name in names if name in present), key=UNKNOWN.__eq__)


def _open(adata: AnnData, key: str) -> tuple[ExpressionMatrix, np.ndarray | None, Scale]:
    """Open the matrix that was imputed; and return which columns are not genes, None if all are, and the scale."""
    details = adata.uns.get(key, {})
    params = details.get("params", {})
    layer, gene_names = params.get("layer", NONE), params.get("gene_names", NONE)
    # The column of names may have been removed since.
    is_there = gene_names != NONE and gene_names in adata.var
    names = read_names(adata, gene_names if is_there else None)
    found = find_not_genes(adata.var, names)
    not_genes = found if found.any() else None
    matrix = open_matrix(adata, None if layer == NONE else layer, not_genes)
    return matrix, not_genes, details.get("scale", "log")
