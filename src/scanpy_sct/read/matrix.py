"""Read the expression matrix of an AnnData, whatever its storage, as CSR float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scanpy_sct.read.columns import check_is_name

if TYPE_CHECKING:
    from anndata import AnnData


def read_matrix(adata: AnnData, layer: str | None = None) -> sparse.csr_matrix:
    """Read `adata.X` (``layer=None``) or a layer: dense, CSR, CSC, backed or dask.

    Returns
    -------
    (n_obs, n_vars) CSR float32, sorted indices, positive entries only. It may share memory with `adata`.

    Raises
    ------
    KeyError
        There is no such layer.
    TypeError
        `layer` is not a string, or the matrix does not hold numbers.
    ValueError
        There is no matrix, or it holds NaN, infinite or negative values.
    """
    source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    loaded = _load(_pick(adata, layer))
    matrix = _to_csr(loaded, source)
    _check_values(matrix, source, adata, is_integer=np.issubdtype(loaded.dtype, np.integer))
    return matrix


def _pick(adata: AnnData, layer: str | None) -> Any:
    """Return the stored matrix, not yet loaded."""
    check_is_name("layer", layer)
    if layer is not None and layer not in adata.layers:
        msg = f"layer={layer!r} is not in adata.layers; available: {_listed(adata.layers)}. layer=None reads adata.X."
        raise KeyError(msg)
    stored = adata.X if layer is None else adata.layers[layer]
    if stored is None:
        msg = f"adata.X is None; pass one of the layers as `layer=`; available: {_listed(adata.layers)}."
        raise ValueError(msg)
    return stored


def _load(stored: Any) -> np.ndarray | sparse.spmatrix:
    """Load dask arrays and matrices on disk into memory."""
    if hasattr(stored, "compute"):  # dask
        stored = stored.compute()
    if hasattr(stored, "to_memory"):  # sparse, backed
        stored = stored.to_memory()
    return stored if sparse.issparse(stored) else np.asarray(stored)


def _to_csr(loaded: np.ndarray | sparse.spmatrix, source: str) -> sparse.csr_matrix:
    """Convert to CSR float32 without duplicate entries and stored zeros."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # overflows become infinite, which raises an error later
            matrix = sparse.csr_matrix(loaded, dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"{source} must be a matrix of numbers; found {type(loaded).__name__} of dtype {loaded.dtype}: {error}"
        raise TypeError(msg) from error
    if not matrix.has_canonical_format or not matrix.data.all():
        matrix = matrix.copy()  # the following methods work in place, and the arrays may be the user's
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix


def _check_values(matrix: sparse.csr_matrix, source: str, adata: AnnData, *, is_integer: bool) -> None:
    """Raise an error for NaN, infinite and negative values."""
    if matrix.nnz == 0:
        return
    # A single NaN makes both NaN, so that no mask as long as the data is needed.
    low, high = matrix.data.min(), matrix.data.max()
    if np.isnan(low) or np.isinf(high) or np.isinf(low):
        n_nan, n_inf = int(np.isnan(matrix.data).sum()), int(np.isinf(matrix.data).sum())
        msg = (
            f"{source} holds {n_nan} NaN and {n_inf} infinite values. Counts or log-normalised values are needed: "
            "remove or correct the cells or genes with such values, or pass another matrix as `layer=`."
        )
        raise ValueError(msg)
    if low < 0:
        found = "integers below zero, as after an overflow" if is_integer else "scaled or centred data"
        before = "its type was changed" if is_integer else "scaling"
        msg = (
            f"{source} holds negative values (smallest {low:.3g}): {found}. "
            f"Counts or log-normalised values are needed. {_how_to_fix(adata, before)}"
        )
        raise ValueError(msg)


def _how_to_fix(adata: AnnData, before: str) -> str:
    """Return where the unscaled values might be."""
    ways = ["Pass `adata.raw.to_adata()` if it holds them"] if adata.raw is not None else []
    if any(name is not None for name in adata.layers):
        ways.append(f"pass a layer that holds them as `layer=` (available: {_listed(adata.layers)})")
    text = ", or ".join([*ways, f"use the object from before {before}"])
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Any) -> str:
    """Join names for an error message; anndata 0.13 lists X among the layers, as None."""
    return ", ".join(repr(name) for name in names if name is not None) or "none"
