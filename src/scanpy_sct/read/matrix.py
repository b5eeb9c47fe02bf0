"""The expression matrix of an AnnData, whatever its storage, as CSR float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scanpy_sct.read.columns import check_is_name

if TYPE_CHECKING:
    from anndata import AnnData


def read_matrix(adata: AnnData, layer: str | None = None) -> sparse.csr_matrix:
    """Read `adata.X` or a layer; the object is never changed.

    Dense, CSR, CSC, backed and dask matrices and views are understood; what is not in memory is loaded.

    Parameters
    ----------
    adata
        Cells x genes.
    layer
        Name of the layer to read, None for `adata.X`.

    Returns
    -------
    CSR float32, shape `(n_obs, n_vars)`, sorted indices, positive entries only. It may share memory with `adata`.

    Raises
    ------
    KeyError
        There is no such layer.
    TypeError
        `layer` is no name, or the matrix does not hold numbers.
    ValueError
        There is no matrix, or it holds NaN, infinite or negative values.
    """
    source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    loaded = _load(_pick(adata, layer))
    matrix = _to_csr(loaded, source)
    _check_values(matrix, source, adata, is_integer=np.issubdtype(loaded.dtype, np.integer))
    return matrix


def _pick(adata: AnnData, layer: str | None) -> Any:
    """Find the stored matrix, not yet loaded."""
    check_is_name("layer", layer)
    if layer is not None and layer not in adata.layers:
        msg = f"layer={layer!r} is not in adata.layers; it has: {_listed(adata.layers)}. layer=None reads adata.X."
        raise KeyError(msg)
    stored = adata.X if layer is None else adata.layers[layer]
    if stored is None:
        msg = f"adata.X is empty (None). Name one of the layers with `layer=`; there are: {_listed(adata.layers)}."
        raise ValueError(msg)
    return stored


def _load(stored: Any) -> np.ndarray | sparse.spmatrix:
    """Bring dask arrays and matrices on disk into memory."""
    if hasattr(stored, "compute"):  # dask
        stored = stored.compute()
    if hasattr(stored, "to_memory"):  # sparse, backed
        stored = stored.to_memory()
    return stored if sparse.issparse(stored) else np.asarray(stored)


def _to_csr(loaded: np.ndarray | sparse.spmatrix, source: str) -> sparse.csr_matrix:
    """CSR float32 without duplicate entries and stored zeros."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as such
            matrix = sparse.csr_matrix(loaded, dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"{source} must be a matrix of numbers; found {type(loaded).__name__} of dtype {loaded.dtype}: {error}"
        raise TypeError(msg) from error
    if not matrix.has_canonical_format or not matrix.data.all():
        matrix = matrix.copy()  # tidying happens in place, and the arrays may be the user's
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix


def _check_values(matrix: sparse.csr_matrix, source: str, adata: AnnData, *, is_integer: bool) -> None:
    """Refuse NaN, infinite and negative values."""
    if matrix.nnz == 0:
        return
    # One NaN makes both ends NaN, so that no mask as long as the data is needed.
    low, high = matrix.data.min(), matrix.data.max()
    if np.isnan(low) or np.isinf(high) or np.isinf(low):
        n_nan, n_inf = int(np.isnan(matrix.data).sum()), int(np.isinf(matrix.data).sum())
        msg = (
            f"{source} holds {n_nan} NaN and {n_inf} infinite values. Counts or log-normalised values are needed: "
            "drop or correct the cells or genes they stand in, or name another matrix with `layer=`."
        )
        raise ValueError(msg)
    if low < 0:
        found = "integers below zero, as after an overflow" if is_integer else "scaled or centred data"
        before = "its type was changed" if is_integer else "scaling"
        msg = (
            f"{source} holds negative values (smallest {low:.3g}): {found}. "
            f"Counts or log-normalised values are needed. {_way_out(adata, before)}"
        )
        raise ValueError(msg)


def _way_out(adata: AnnData, before: str) -> str:
    """Where the unscaled values might be."""
    ways = ["Pass `adata.raw.to_adata()` if it holds them"] if adata.raw is not None else []
    if any(name is not None for name in adata.layers):
        ways.append(f"name a layer that holds them with `layer=` (there are: {_listed(adata.layers)})")
    text = ", or ".join([*ways, f"use the object from before {before}"])
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Any) -> str:
    """Names for an error message; anndata 0.13 lists X among the layers, as None."""
    return ", ".join(repr(name) for name in names if name is not None) or "none"
