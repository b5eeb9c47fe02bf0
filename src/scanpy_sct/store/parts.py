"""The files of one part: plain npy files, from which consecutive rows are read at no more cost than their bytes.

Large arrays are cut into segments of consecutive rows, each a file of its own, so that rows that are no longer needed
free their disk space. Parts are not compressed: floating-point predictions would hardly become smaller, and a merge
reads few rows at a time, for which a compressed chunk would be unpacked again and again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

SEGMENT_BYTES = 16_000_000
INDEX = "part.json"
SPARSE_PIECES = ("data", "indices", "indptr")


@dataclass(frozen=True)
class StoredArray:
    """An array of a part; rows are read on demand."""

    folder: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    is_sparse: bool
    starts: tuple[int, ...]
    """First row of each segment."""
    n_bytes: int

    @property
    def n_rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def read(self, rows: slice = slice(None)) -> Any:
        """Return consecutive rows as an array or a CSR matrix, in memory."""
        if not self.shape:
            return np.load(self._path(0))
        start, stop, step = rows.indices(self.n_rows)
        if step != 1:
            msg = f"rows of a part must be consecutive; found a step of {step}."
            raise ValueError(msg)
        pieces = [self._read(segment, start, stop) for segment in self._segments(start, stop)]
        if len(pieces) == 1:
            return pieces[0]
        return sparse.vstack(pieces, format="csr") if self.is_sparse else np.concatenate(pieces)

    def row_lengths(self) -> np.ndarray:
        """Return the number of entries of each row of a CSR matrix."""
        lengths = [np.diff(np.load(self._path(segment, "indptr"))) for segment in range(len(self.starts))]
        return np.concatenate(lengths)

    def drop(self, stop: int, first: int = 0) -> int:
        """Delete the segments, from number ``first`` on, that hold only rows before ``stop``; returns the next."""
        while first < len(self.starts) and self._stop(first) <= stop:
            for piece in SPARSE_PIECES if self.is_sparse else ("",):
                self._path(first, piece).unlink(missing_ok=True)
            first += 1
        return first

    def _segments(self, start: int, stop: int) -> range:
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        return range(first, max(first + 1, int(np.searchsorted(self.starts, stop, "left"))))

    def _stop(self, segment: int) -> int:
        return (*self.starts, self.n_rows)[segment + 1]

    def _path(self, segment: int, piece: str = "") -> Path:
        return _segment_path(self.folder, self.name, segment, piece)

    def _read(self, segment: int, start: int, stop: int) -> Any:
        first = self.starts[segment]
        rows = slice(max(start, first) - first, max(min(stop, self._stop(segment)) - first, 0))
        if not self.is_sparse:
            return _copied(self._path(segment), rows)
        # One more than the rows: each row ends where the next begins.
        indptr = _copied(self._path(segment, "indptr"), slice(rows.start, max(rows.stop, rows.start) + 1))
        entries = slice(int(indptr[0]), int(indptr[-1]))
        data, indices = (_copied(self._path(segment, piece), entries) for piece in ("data", "indices"))
        return sparse.csr_matrix((data, indices, indptr - indptr[0]), shape=(len(indptr) - 1, self.shape[1]))


def write_arrays(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Write the arrays of a part, and a list of them."""
    index = {}
    for name, array in arrays.items():
        is_sparse = sparse.issparse(array)
        array = sparse.csr_matrix(array) if is_sparse else np.asarray(array)
        n_bytes = sum(getattr(array, piece).nbytes for piece in SPARSE_PIECES) if is_sparse else array.nbytes
        starts = _segment_starts(array.shape, n_bytes)
        _write_segments(folder, name, array, starts)
        index[name] = {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "is_sparse": is_sparse,
            "starts": starts,
            "n_bytes": n_bytes,
        }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def stored_arrays(folder: Path) -> dict[str, StoredArray]:
    """Return the arrays of a part by name."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return {
        name: StoredArray(folder, name, **{**facts, "shape": tuple(facts["shape"]), "starts": tuple(facts["starts"])})
        for name, facts in index.items()
    }


def _segment_starts(shape: tuple[int, ...], n_bytes: int) -> list[int]:
    n_rows = shape[0] if shape else 1
    rows = max(1, SEGMENT_BYTES * n_rows // max(n_bytes, 1))
    return list(range(0, n_rows, rows)) or [0]


def _write_segments(folder: Path, name: str, array: Any, starts: list[int]) -> None:
    for segment, (start, stop) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        rows = array[start:stop] if array.shape else array
        if sparse.issparse(rows):
            for piece in SPARSE_PIECES:
                np.save(_segment_path(folder, name, segment, piece), getattr(rows, piece))
        else:
            np.save(_segment_path(folder, name, segment), rows)


def _segment_path(folder: Path, name: str, segment: int, piece: str = "") -> Path:
    return folder / f"{name}.{segment:04d}{piece and '.'}{piece}.npy"


def _copied(path: Path, rows: slice) -> np.ndarray:
    """Read rows of a file; the map is closed again, so it neither counts as memory nor keeps a deleted file."""
    return np.array(np.load(path, mmap_mode="r")[rows])
