"""Read the expression matrix of an AnnData, whole or some rows, whatever its storage, as CSR float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.read.columns import check_is_name, did_you_mean
from scanpy_sct.read.not_genes import without_columns
from scanpy_sct.read.options import argument_of
from scanpy_sct.read.storage import StoredMatrix, open_stored

if TYPE_CHECKING:
    from anndata import AnnData

ROWS_AT_ONCE = 8192
MIN_JOINED_GENES, MIN_JOINED_CELLS = 5, 5
"""NaN come from a join where so many genes are NaN in the same cells, so many or more of them."""
ROWS_NAMED = 5
"""Rows that an error names."""


def read_matrix(adata: AnnData, layer: str | None = None, not_genes: np.ndarray | None = None) -> sparse.csr_matrix:
    """Read `adata.X` (``layer=None``) or a layer into memory: dense, CSR, CSC, backed or dask.

    The values of columns that are ``not_genes``, (n_vars,) bool, are not checked.

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
    return open_matrix(adata, layer, not_genes).rows()


def open_matrix(
    adata: AnnData, layer: str | None = None, not_genes: np.ndarray | None = None, owner: str = "adata"
) -> ExpressionMatrix:
    """Open `adata.X` (``layer=None``) or a layer; raises as :func:`read_matrix`. Messages name the object ``owner``.

    A matrix in memory is converted and checked here, any other as its rows are read.
    """
    source = f"{owner}.X" if layer is None else f"{owner}.layers[{layer!r}]"
    stored = open_stored(_pick(adata, layer, owner), source)
    checks = ValueChecks(
        source,
        _how_to_fix(adata, "scaling", owner),
        _how_to_fix(adata, "its type was changed or values were subtracted", owner),
        argument_of(owner, "layer"),
        not_genes,
    )
    if stored.is_in_memory:
        checks.check(stored.rows(None), None)
    return ExpressionMatrix(stored, checks)


@dataclass(frozen=True)
class ValueChecks:
    """Raises an error for NaN, infinite and negative values."""

    source: str
    """Name of the matrix in messages."""
    if_scaled: str
    if_subtracted: str
    """How to fix these."""
    layer_argument: str = "layer"
    """The argument that chooses the matrix, which messages name."""
    not_genes: np.ndarray | None = None
    """(n_vars,) bool: columns whose values may be anything; None: none."""

    def check(self, matrix: sparse.csr_matrix, rows: np.ndarray | None) -> sparse.csr_matrix:
        """Check some rows of the object (None: all), and return them.

        Raises
        ------
        ValueError
            There are NaN, infinite or negative values.
        """
        self._check_genes(without_columns(matrix, self.not_genes), rows)
        return matrix

    def _check_genes(self, matrix: sparse.csr_matrix, rows: np.ndarray | None) -> None:
        if matrix.nnz == 0:
            return
        # A single NaN makes both NaN, so that no mask as long as the data is needed.
        low, high = matrix.data.min(), matrix.data.max()
        if np.isnan(low) or np.isinf(high) or np.isinf(low):
            n_nan, n_inf = int(np.isnan(matrix.data).sum()), int(np.isinf(matrix.data).sum())
            msg = (
                f"{self.source} holds {n_nan} NaN and {n_inf} infinite values, in "
                f"{named_rows(matrix, ~np.isfinite(matrix.data), rows)}. Counts or log-normalised values are needed: "
                "remove or correct the cells or genes with such values, or pass another matrix as "
                f"`{self.layer_argument}=`.{_if_joined(matrix)}"
            )
            raise ValueError(msg)
        if low < 0:
            are_integers = bool((matrix.data == np.rint(matrix.data)).all())
            subtracted = "integers below zero, as after an overflow or a subtraction (differences, background)"
            found = subtracted if are_integers else "scaled or centred data"
            msg = (
                f"{self.source} holds negative values (smallest {low:.3g}, in "
                f"{named_rows(matrix, matrix.data < 0, rows)}): {found}. "
                f"Counts or log-normalised values are needed. {self.if_subtracted if are_integers else self.if_scaled}"
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class ExpressionMatrix:
    """Expression matrix of an AnnData, of which rows are read on demand."""

    stored: StoredMatrix
    checks: ValueChecks

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.stored.shape

    @property
    def is_in_memory(self) -> bool:
        """Whether the matrix is in memory, and has been checked."""
        return self.stored.is_in_memory

    def rows(self, rows: np.ndarray | None = None) -> sparse.csr_matrix:
        """Read some rows in their order (None: all): CSR float32, sorted indices, positive entries only, checked."""
        matrix = self.stored.rows(rows)
        return matrix if self.is_in_memory else self.checks.check(matrix, rows)

    def lazy_rows(self, rows: np.ndarray) -> Any:
        """Return a `dask.delayed` that computes :meth:`rows`, also in another process; None for data in memory."""
        found = self.stored.lazy_rows(rows)
        if found is None:
            return None
        import dask

        return dask.delayed(ValueChecks.check)(self.checks, found, rows)

    def pieces(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Read all rows, some thousand at a time; yields which, and their values."""
        for part in consecutive(self.shape[0], ROWS_AT_ONCE):
            yield part, self.rows(np.arange(part.start, part.stop))


def consecutive(n_rows: int, at_once: int) -> list[slice]:
    """Divide rows into runs of at most ``at_once``."""
    return [slice(start, min(start + at_once, n_rows)) for start in range(0, n_rows, at_once)]


def named_rows(matrix: sparse.csr_matrix, is_bad: np.ndarray, rows: np.ndarray | None) -> str:
    """Return the rows of the object with bad entries, for an error: "rows 3, 8 and 20 more".

    ``is_bad`` is (n_entries,) bool; ``rows`` are those of the object, None: all.
    """
    found = np.unique(np.searchsorted(matrix.indptr, np.flatnonzero(is_bad), side="right") - 1)
    found = np.sort(found if rows is None else np.asarray(rows)[found])
    names = ", ".join(map(str, found[:ROWS_NAMED]))
    more = f" and {len(found) - ROWS_NAMED:,} more" if len(found) > ROWS_NAMED else ""
    return f"{'row' if len(found) == 1 else 'rows'} {names}{more}"


def _if_joined(matrix: sparse.csr_matrix) -> str:
    """Return how to join objects if NaN stand where some of them lack genes: many cells lack the same ones; else ""."""
    is_nan = np.isnan(matrix.data)
    rows, columns = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[is_nan], matrix.indices[is_nan]
    if len(rows) == 0:
        return ""
    patterns = (
        pd.DataFrame({"row": rows, "hash": pd.util.hash_array(columns)}).groupby("row")["hash"].agg(["sum", "size"])
    )
    if patterns["size"].min() < MIN_JOINED_GENES or patterns["sum"].nunique() > len(patterns) / MIN_JOINED_CELLS:
        return ""
    return (
        f" {len(patterns):,} cells have no value of the same {patterns['size'].iloc[0]:,} or more genes, as "
        "`anndata.concat(..., join='outer')` leaves them: join with `fill_value=0, label='sample'` and pass "
        "`library_key='sample'` (genes that a sample lacks then count as not measured in it), or with `join='inner'`."
    )


def _pick(adata: AnnData, layer: str | None, owner: str) -> Any:
    """Return the stored matrix, not yet loaded."""
    argument, available = argument_of(owner, "layer"), _listed(adata.layers)
    check_is_name(argument, layer)
    if layer is not None and layer not in adata.layers:
        hint = f"{did_you_mean(layer, adata.layers)} {argument}=None reads {owner}.X."
        msg = f"{argument}={layer!r} is not in {owner}.layers; available: {available}.{hint}"
        raise KeyError(msg)
    stored = adata.X if layer is None else adata.layers[layer]
    if stored is None:
        msg = f"{owner}.X is None; pass one of the layers as `{argument}=`; available: {available}."
        raise ValueError(msg)
    return stored


def _how_to_fix(adata: AnnData, before: str, owner: str) -> str:
    """Return where the unscaled values might be."""
    argument = argument_of(owner, "layer")
    ways = [f"Pass `{owner}.raw.to_adata()` if it holds them"] if adata.raw is not None else []
    if any(name is not None for name in adata.layers):
        ways.append(f"pass a layer that holds them as `{argument}=` (available: {_listed(adata.layers)})")
    text = ", or ".join([*ways, f"use the object from before {before}"])
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Any) -> str:
    """Join names for an error message; anndata 0.13 lists X among the layers, as None."""
    return ", ".join(repr(name) for name in names if name is not None) or "none"
