"""Store small values for a trial, and read them back."""

from __future__ import annotations

import errno
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.store.memory import through_memory
from scanpy_sct.store.merge import ZARR_FORMAT

FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.EACCES)
"""Errors that are those of the disk and not of the value."""


@dataclass(frozen=True)
class Trial:
    """A place to try whether values can be stored."""

    suffix: str
    """`".h5ad"` or `".zarr"`."""
    folder: Path
    """Where; empty again after each trial."""

    def error(self, name: Any, value: Any) -> str | None:
        """Store a value under a name, and read it; return what went wrong, None: nothing.

        Raises
        ------
        OSError
            The disk is full or cannot be written.
        """
        through = _through_h5ad if self.suffix == ".h5ad" else _through_zarr
        try:
            with tempfile.TemporaryDirectory(prefix=".trial-", dir=self.folder) as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the same ones come when the result is written
                found = through(Path(folder), name, value)
        # The writers of several packages raise errors of all kinds, also plain exceptions.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise
            return f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}"
        return None if _same_names(value, found) else "it is read back under other names"


def _through_h5ad(folder: Path, name: Any, value: Any) -> Any:
    """Write a value to a file, and read it."""
    import h5py
    from anndata.io import read_elem, write_elem

    path = folder / "trial.h5ad"
    with h5py.File(path, "w") as group:
        write_elem(group, name, value)
    with h5py.File(path) as group:
        return read_elem(group[name])


def _through_zarr(folder: Path, name: Any, value: Any) -> Any:
    """Write a value to a store, and read it."""
    import zarr
    from anndata.io import read_elem, write_elem

    # Files are made, since a name can be too long for a disk; reading them would find nothing more.
    with through_memory(folder) as group:
        write_elem(group, name, value)
        # As anndata does; names that differ only in case are then mixed up.
        zarr.consolidate_metadata(group.store, zarr_format=ZARR_FORMAT)
    return read_elem(zarr.open_group(group.store, mode="r", zarr_format=ZARR_FORMAT)[name])


def stand_in(matrix: Any) -> Any:
    """Return a matrix of the same kind and type without rows; tables and what has no type are returned unchanged."""
    if isinstance(matrix, pd.DataFrame) or not hasattr(matrix, "dtype") or not hasattr(matrix, "shape"):
        return matrix
    shape = (0, *matrix.shape[1:])
    sparse_like = sparse.issparse(matrix) or sparse.issparse(getattr(matrix, "_meta", None)) or hasattr(matrix, "group")
    return sparse.csr_matrix(shape, dtype=matrix.dtype) if sparse_like else np.empty(shape, dtype=matrix.dtype)


def _same_names(value: Any, found: Any) -> bool:
    if isinstance(value, Mapping):
        same = isinstance(found, Mapping) and set(value) == set(found)
        return same and all(_same_names(value[name], found[name]) for name in value)
    if isinstance(value, pd.DataFrame):
        return isinstance(found, pd.DataFrame) and list(value.columns) == list(found.columns)
    return True
