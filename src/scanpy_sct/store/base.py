"""Write everything of an object but its new layers; matrices that are not in memory are copied some rows at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scanpy_sct.store.memory import through_memory
from scanpy_sct.store.merge import CHUNK_BYTES, ZARR_FORMAT

TABLES = ("obs", "var", "uns")
"""Parts of an object that are many small arrays."""
ROWS_AT_ONCE = 8192
"""Rows of a sparse matrix. anndata appends them, and each time writes all row pointers anew, so not much fewer."""


def write_base(adata: Any, path: Path, without_layers: Collection[str]) -> None:
    """Write an object to a new zarr store; what an interrupted call left there is deleted."""
    import zarr
    from anndata.experimental import write_dispatched
    from anndata.io import write_elem

    skipped = {f"layers/{name}" for name in without_layers}

    def write(write_as_usual: Any, group: Any, name: str, value: Any, *, dataset_kwargs: Any, iospec: Any) -> None:
        if f"{group.path}/{name}".strip("/") in skipped:
            return
        lazy = _lazy(value)
        if not group.path and name in TABLES and not _has_lazy(value):
            with through_memory(path, name) as memory:
                write_as_usual(memory, name, value, dataset_kwargs=dataset_kwargs)
        elif lazy is None:
            write_as_usual(group, name, value, dataset_kwargs=dataset_kwargs)
        elif hasattr(lazy._meta, "indptr"):
            write_elem(group, name, _csr_chunks(lazy), dataset_kwargs=dataset_kwargs)
        else:
            # Without the same chunks on both sides, every chunk of the store would be written several times.
            lazy = _whole_rows(lazy)
            write_elem(group, name, lazy, dataset_kwargs={**dataset_kwargs, "chunks": lazy.chunksize})

    # Not adata.write_zarr: it turns strings of the object into categories, and warns of the format.
    write_dispatched(zarr.open_group(path, mode="w", zarr_format=ZARR_FORMAT), "/", adata, callback=write)


def _lazy(value: Any) -> Any:
    """Return a matrix that is not in memory as a dask array; None for all else."""
    import dask.array as da
    import h5py
    import zarr
    from anndata.abc import CSCDataset, CSRDataset
    from anndata.experimental import read_elem_lazy

    if isinstance(value, CSRDataset | CSCDataset):
        value = value.group
    if isinstance(value, h5py.Group | h5py.Dataset | zarr.Group | zarr.Array):
        value = read_elem_lazy(value)
    return value if isinstance(value, da.Array) and value.ndim == 2 and value.shape[0] else None


def _has_lazy(value: Any) -> bool:
    """Whether a value is, or has somewhere inside, a matrix that is not in memory."""
    return any(map(_has_lazy, value.values())) if isinstance(value, Mapping) else _lazy(value) is not None


def _csr_chunks(matrix: Any) -> Any:
    from scipy import sparse

    matrix = matrix.rechunk({1: -1})
    if matrix._meta.format != "csr":
        matrix = matrix.map_blocks(sparse.csr_matrix, dtype=matrix.dtype, meta=sparse.csr_matrix(matrix._meta))
    return matrix.rechunk({0: ROWS_AT_ONCE}) if max(matrix.chunks[0]) < ROWS_AT_ONCE else matrix


def _whole_rows(matrix: Any) -> Any:
    row_bytes = max(matrix.shape[1] * matrix.dtype.itemsize, 1)
    return matrix.rechunk((int(np.clip(CHUNK_BYTES // row_bytes, 1, matrix.shape[0])), -1))
