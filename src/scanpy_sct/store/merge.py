"""Merge the parts of all blocks into layers whose rows are in the order of the object.

The rows of every block increase, so the rows that fall into a window of the output are one contiguous slice of each
part. Every part is read once, and one window is held in memory. A merge can go on after a kill: a window is recorded
when it is complete, chunks are written whole, and only then are the rows deleted that no later window needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from scanpy_sct.store.parts import StoredArray, stored_arrays

ZARR_FORMAT: Literal[2] = 2
"""Can be read by all versions of anndata, and with 8 MB chunks of whole rows the sharding of format 3 is not needed."""
CHUNK_BYTES = 8_000_000
CHUNKS_PER_WINDOW = 8
"""Compressed at the same time where there are as many cores."""
CHUNK_ENTRIES = 2_000_000
"""Entries of a chunk of a sparse layer."""
INT32_MAX = np.iinfo(np.int32).max
# As anndata marks its arrays: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
CSR = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}


class Merge:
    """Merge of all layers, window by window.

    Parameters
    ----------
    folders
        Folder of each part.
    blocks
        Rows of each part in the object, increasing.
    names
        Name of the array in the parts -> name of the layer.
    shape
        Cells and genes of the object.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        blocks: Sequence[np.ndarray],
        names: Mapping[str, str],
        shape: tuple[int, int],
    ) -> None:
        blocks = [np.asarray(rows) for rows in blocks]
        self.n_rows = shape[0]
        _check_blocks(blocks, self.n_rows)
        stored = [stored_arrays(folder) for folder in folders]
        sources = {name: _Source([arrays[name] for arrays in stored], blocks, shape[1]) for name in names}
        row_bytes = max((source.n_bytes / max(self.n_rows, 1) for source in sources.values()), default=1)
        self.chunk_rows = int(np.clip(CHUNK_BYTES // max(row_bytes, 1), 1, max(self.n_rows, 1)))
        self._layers = [
            (_SparseLayer if source.is_sparse else _DenseLayer)(names[name], source, self.chunk_rows)
            for name, source in sources.items()
        ]

    def create(self, layers: Any) -> None:
        """Make the layers in a zarr group, still without values."""
        for layer in self._layers:
            layer.create(layers)

    def windows(self, layers: Any, start: int) -> Iterator[int]:
        """Write the rows from ``start`` on, and yield the number of rows that are complete after each window."""
        for layer in self._layers:
            layer.open(layers, start)
        step = self.chunk_rows * CHUNKS_PER_WINDOW
        for first in range(start, self.n_rows, step):
            stop = min(first + step, self.n_rows)
            for layer in self._layers:
                layer.write(first, stop)
            yield stop

    def drop(self, stop: int) -> None:
        """Delete the rows of the parts that are not needed after row ``stop`` of the output."""
        for layer in self._layers:
            layer.source.drop(layer.needed_from(stop))


class _Source:
    """One array of all parts, by rows of the output."""

    def __init__(self, arrays: list[StoredArray], blocks: list[np.ndarray], n_columns: int) -> None:
        for number, (array, rows) in enumerate(zip(arrays, blocks, strict=True)):
            if array.shape != (len(rows), n_columns):
                msg = f"{array.name!r} of part {number} has shape {array.shape}, expected {(len(rows), n_columns)}."
                raise ValueError(msg)
            if array.is_sparse != arrays[0].is_sparse:
                msg = f"{array.name!r} must be sparse in all parts or in none; part {number} differs from part 0."
                raise ValueError(msg)
        self.arrays, self.blocks = arrays, blocks
        self.is_sparse = arrays[0].is_sparse
        self.dtype = np.result_type(*(np.dtype(array.dtype) for array in arrays))
        self.n_bytes = sum(array.n_bytes for array in arrays)
        self.shape = (sum(map(len, blocks)), n_columns)
        self._dropped = [0] * len(arrays)

    def slices(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield, for each part, rows of the output from ``start`` to ``stop``, counted from ``start``, and values."""
        for array, rows in zip(self.arrays, self.blocks, strict=True):
            first, last = np.searchsorted(rows, [start, stop])
            if first < last:
                yield rows[first:last] - start, array.read(slice(int(first), int(last)))

    def dense(self, start: int, stop: int) -> np.ndarray:
        values = np.empty((stop - start, self.shape[1]), dtype=self.dtype)
        for rows, part in self.slices(start, stop):
            values[rows] = part
        return values

    def csr(self, start: int, stop: int) -> sparse.csr_matrix:
        slices = list(self.slices(start, stop))
        if not slices:
            return sparse.csr_matrix((0, self.shape[1]), dtype=self.dtype)
        order = np.argsort(np.concatenate([rows for rows, _ in slices]))
        return sparse.vstack([part for _, part in slices], format="csr", dtype=self.dtype)[order]

    def row_lengths(self) -> np.ndarray:
        lengths = np.empty(self.shape[0], dtype=np.int64)
        for array, rows in zip(self.arrays, self.blocks, strict=True):
            lengths[rows] = array.row_lengths()
        return lengths

    def drop(self, stop: int) -> None:
        for number, (array, rows) in enumerate(zip(self.arrays, self.blocks, strict=True)):
            self._dropped[number] = array.drop(int(np.searchsorted(rows, stop)), self._dropped[number])


class _DenseLayer:
    """Chunks of whole rows, as functions on dask arrays of cells want them."""

    def __init__(self, name: str, source: _Source, chunk_rows: int) -> None:
        self._name, self.source, self._chunk_rows = name, source, chunk_rows

    def create(self, layers: Any) -> None:
        chunks = (self._chunk_rows, max(self.source.shape[1], 1))
        _create_array(layers, self._name, self.source.shape, self.source.dtype, chunks)

    def open(self, layers: Any, start: int) -> None:
        self._array = layers[self._name]

    def write(self, start: int, stop: int) -> None:
        self._array[start:stop] = self.source.dense(start, stop)

    def needed_from(self, row: int) -> int:
        return row


class _SparseLayer:
    """CSR in the layout of anndata, but of known size, so that nothing is appended and rewritten.

    Only whole chunks are written; entries that do not fill one wait for the next window.
    """

    def __init__(self, name: str, source: _Source, chunk_rows: int) -> None:
        self._name, self.source = name, source

    def create(self, layers: Any) -> None:
        lengths = self.source.row_lengths()
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        n_entries, shape = int(indptr[-1]), self.source.shape
        # One type for both, as scipy wants it.
        index = np.dtype(np.int32 if max(n_entries, shape[1]) <= INT32_MAX else np.int64)
        group = layers.create_group(self._name, overwrite=True)
        group.attrs.update({**CSR, "shape": list(shape)})
        for piece, dtype in (("data", self.source.dtype), ("indices", index)):
            _create_array(group, piece, (n_entries,), dtype, (min(max(n_entries, 1), CHUNK_ENTRIES),))
        _create_array(group, "indptr", indptr.shape, index, indptr.shape)[:] = indptr.astype(index)

    def open(self, layers: Any, start: int) -> None:
        group = layers[self._name]
        self._indptr = group["indptr"][:].astype(np.int64)
        self._arrays = {piece: group[piece] for piece in ("data", "indices")}
        self._written = self._whole_chunks(start)
        first = self.needed_from(start)
        waiting = self.source.csr(first, start)
        skipped = self._written - self._indptr[first]
        self._waiting = {piece: getattr(waiting, piece)[skipped:] for piece in self._arrays}

    def write(self, start: int, stop: int) -> None:
        rows = self.source.csr(start, stop)
        end = self._whole_chunks(stop)
        for piece, array in self._arrays.items():
            entries = np.concatenate([self._waiting[piece], getattr(rows, piece).astype(array.dtype)])
            array[self._written : end] = entries[: end - self._written]
            self._waiting[piece] = entries[end - self._written :]
        self._written = end

    def needed_from(self, row: int) -> int:
        """Return the row with the first entry that is not written when ``row`` rows are complete."""
        return min(int(np.searchsorted(self._indptr, self._whole_chunks(row), "right")) - 1, row)

    def _whole_chunks(self, row: int) -> int:
        """Return the number of entries that are written when ``row`` rows are complete."""
        n_entries = int(self._indptr[row])
        return n_entries if row == self.source.shape[0] else n_entries // CHUNK_ENTRIES * CHUNK_ENTRIES


def _create_array(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, chunks: tuple[int, ...]) -> Any:
    from numcodecs import Blosc

    # Of the float32 predictions only sign and exponent can be compressed: a shuffle brings those bytes together, and
    # blocks of 1 MiB keep them so. Higher levels are slower and no better.
    codec = Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE, blocksize=2**20)
    array = group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, compressors=codec, overwrite=True)
    array.attrs.update(ARRAY)
    return array


def _check_blocks(blocks: list[np.ndarray], n_rows: int) -> None:
    for number, rows in enumerate(blocks):
        if np.any(np.diff(rows) <= 0):
            msg = f"The rows of block {number} must increase; found {rows[:5].tolist()}, ..."
            raise ValueError(msg)
    if not np.array_equal(np.sort(np.concatenate([[], *blocks])), np.arange(n_rows)):
        msg = f"The blocks must contain each of {n_rows} rows once."
        raise ValueError(msg)
