"""Checks of an AnnData and of its values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.matrix import named_rows
from scanpy_sct.read.options import GivenScale
from scanpy_sct.read.scale import MAX_LOG, Scale, contradicting_entries


def check_is_anndata(adata: Any, owner: str = "adata") -> None:
    """Raise a TypeError unless ``adata`` is an AnnData; ``owner`` is its name in messages."""
    if not isinstance(adata, AnnData):
        msg = f"{owner} must be an AnnData, found {type(adata).__name__}. {_to_anndata(adata)}"
        raise TypeError(msg)


def check_object(adata: AnnData, owner: str = "adata") -> None:
    """Raise an error unless ``adata`` is an AnnData with cells and genes; ``owner`` is its name in messages."""
    check_is_anndata(adata, owner)
    if adata.n_obs == 0 or adata.n_vars == 0:
        msg = f"{owner} has {adata.n_obs} cells and {adata.n_vars} genes; at least one of each is needed."
        raise ValueError(msg)


def _to_anndata(found: Any) -> str:
    """Return how to make an AnnData of another object."""
    if isinstance(found, str | PurePath):
        return f"Read the file first: `scanpy.read_h5ad({str(found)!r})`."
    if isinstance(found, pd.DataFrame):
        return "Convert cells x genes with `anndata.AnnData(df)`."
    if isinstance(found, np.ndarray) or sparse.issparse(found):
        return "Convert cells x genes with `anndata.AnnData(matrix)`, and set its `.var_names` to the gene names."
    package = type(found).__module__.partition(".")[0]
    if package == "mudata":
        return f"Pass one of its modalities: {_either('mdata.mod', found.mod)}."
    if package == "spatialdata":
        return f"Pass one of its tables: {_either('sdata.tables', found.tables)}."
    return "Read your data with scanpy first, for instance with `scanpy.read_h5ad`."


def _either(place: str, names: Iterable[str]) -> str:
    """Return the code that takes each part of an object."""
    return " or ".join(f"`{place}[{name!r}]`" for name in names) or f"{place} has none"


def check_not_empty(matrix: sparse.csr_matrix, source: str, n_cells: int, layer_argument: str = "layer") -> None:
    """Raise an error if all cells are empty; ``matrix`` has all of the ``n_cells`` cells, or some.

    ``source`` and ``layer_argument`` are the names of the matrix and of the argument that chooses it, for messages.
    """
    if matrix.nnz:
        return
    some = "" if matrix.shape[0] == n_cells else f", in cells drawn from {n_cells:,}"
    msg = (
        f"{source} has no positive value: all {matrix.shape[0]:,} x {matrix.shape[1]:,} are zero{some}. "
        f"Pass the layer that holds the expression as `{layer_argument}=`."
    )
    raise ValueError(msg)


@dataclass(frozen=True)
class ScaleCheck:
    """Raises an error for values that are not of the scale found on other cells."""

    source: str
    scale: Scale
    given: GivenScale = "auto"
    """What the user says the values are; counts may then be decimals."""
    layer_argument: str = "layer"
    """The argument that chooses the matrix, which messages name."""
    argument: str = "scale"
    """The argument that says so."""
    not_genes: np.ndarray | None = None
    """(n_columns,) bool: columns that may hold any values; None: there are none."""

    def check(self, matrix: sparse.csr_matrix, rows: np.ndarray | None) -> sparse.csr_matrix:
        """Check some rows of the object (None: all), and return them."""
        if self.given == "counts":
            return matrix
        is_bad = contradicting_entries(matrix, self.scale)
        if self.not_genes is not None:
            is_bad &= ~self.not_genes[matrix.indices]
        if is_bad.any():
            found = "values that are not integers" if self.scale == "counts" else f"values above {MAX_LOG:g}"
            expected = "counts" if self.scale == "counts" else "logarithms"
            msg = (
                f"{self.source} holds {found} (such as {matrix.data[is_bad][0]:.4g}) in "
                f"{named_rows(matrix, is_bad, rows)}, while the cells that were looked at first hold {expected}: a "
                f"matrix must hold one kind of values. Pass another matrix as `{self.layer_argument}=`, or correct "
                f"these cells; if all are counts, corrected or not, pass {self.argument}='counts'."
            )
            raise ValueError(msg)
        return matrix
