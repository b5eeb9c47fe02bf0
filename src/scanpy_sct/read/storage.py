"""Read rows of a stored matrix, whatever its storage: in memory, in a file, or a dask array.

Every class has the members of :class:`StoredMatrix`. Rows may come in any order and are read increasing, each once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse

logger = logging.getLogger(__name__)

MAX_GAP = 128
"""Rows between two requested ones that are read and dropped, since each read of a file costs as much as some rows."""
MAX_SPARSE_ROWS, MAX_DENSE_ROWS = 8192, 1024
"""Rows of a file that are held at a time: others are dropped, and dense ones converted, before the next are read."""
LARGE = 20_000
"""Cells from which on loading a lazy matrix as a whole is worth a warning."""


class StoredMatrix(Protocol):
    """A matrix (cells, genes) of which rows can be read."""

    shape: tuple[int, int]
    dtype: np.dtype
    is_in_memory: bool

    def rows(self, rows: np.ndarray | None) -> sparse.csr_matrix:
        """Read some rows in their order (None: all) as CSR float32, see :func:`to_csr`."""
        ...

    def lazy_rows(self, rows: np.ndarray) -> Any:
        """Return a `dask.delayed` that reads these rows, also in another process; None: the rows must be sent."""
        ...


def open_stored(stored: Any, source: str) -> StoredMatrix:
    """Open a matrix of an AnnData: an array or sparse matrix in memory or in a file, or a dask array.

    A matrix of which no rows can be read, such as CSC in a file, is loaded as a whole, with a warning if it is large.
    ``source`` is the name of the matrix in messages.
    """
    if hasattr(stored, "__dask_graph__"):
        if len(stored.chunks[0]) > 1:
            return _DaskMatrix(stored, source)
        _warn_of_loading(stored.shape, source, "is one chunk along the cells", "Rechunk it to some thousand cells")
        return _in_memory(stored.compute(), source)
    if hasattr(stored, "to_memory"):  # sparse, in a file
        if stored.format == "csr":
            return _FileMatrix(stored, source)
        _warn_of_loading(stored.shape, source, "is stored by columns (CSC)", "Write it as CSR")
        return _in_memory(stored.to_memory(), source)
    if sparse.issparse(stored) or isinstance(stored, np.ndarray) or not hasattr(stored, "shape"):
        return _in_memory(stored, source)
    return _FileMatrix(stored, source)


def to_csr(loaded: Any, source: str) -> sparse.csr_matrix:
    """Convert to CSR float32, indices sorted, without duplicate entries and stored zeros; may share its memory.

    Raises
    ------
    TypeError
        It does not hold numbers.
    """
    loaded = loaded if sparse.issparse(loaded) else np.asarray(loaded)
    if loaded.dtype.kind not in "biufO":  # numpy would drop imaginary parts, and read strings and dates as numbers
        msg = f"{source} must be a matrix of numbers; found {type(loaded).__name__} of dtype {loaded.dtype}."
        raise TypeError(msg)
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


@dataclass(frozen=True)
class InMemory:
    """A CSR matrix in memory."""

    matrix: sparse.csr_matrix
    dtype: np.dtype
    """Type of the values as they were stored."""
    is_in_memory: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.matrix.shape

    def rows(self, rows: np.ndarray | None) -> sparse.csr_matrix:
        """Return some rows; None: the matrix itself."""
        return self.matrix if rows is None else self.matrix[rows]

    def lazy_rows(self, rows: np.ndarray) -> None:
        """Return None."""


def _in_memory(loaded: Any, source: str) -> InMemory:
    matrix = to_csr(loaded, source)
    return InMemory(matrix, np.dtype(getattr(loaded, "dtype", matrix.dtype)))


class _FileMatrix:
    """A dense array or a CSR matrix in an h5ad file or zarr store, read by runs of rows."""

    is_in_memory = False

    def __init__(self, stored: Any, source: str) -> None:
        self._source, self.shape, self.dtype = source, tuple(stored.shape), np.dtype(stored.dtype)
        is_sparse = hasattr(stored, "to_memory")
        # The arrays themselves: anndata's CSRDataset takes several times longer to read a few rows.
        self._stored = stored.group if is_sparse else stored
        self._starts = np.asarray(self._stored["indptr"][:], dtype=np.int64) if is_sparse else None

    def rows(self, rows: np.ndarray | None) -> sparse.csr_matrix:
        increasing, order = _increasing(np.arange(self.shape[0]) if rows is None else rows)
        return _joined([self._read(run) for run in self._runs(increasing)], order, self.shape[1])

    def _runs(self, rows: np.ndarray) -> list[np.ndarray]:
        """Divide increasing rows into those that are read at once."""
        at_once = MAX_DENSE_ROWS if self._starts is None else MAX_SPARSE_ROWS
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > MAX_GAP + 1) + 1)
        return [part for run in runs if len(run) for part in _in_windows(run, at_once)]

    def _read(self, run: np.ndarray) -> sparse.csr_matrix:
        part = self._slice(int(run[0]), int(run[-1]) + 1)
        return to_csr(part if len(run) == part.shape[0] else part[run - run[0]], self._source)

    def _slice(self, start: int, stop: int) -> Any:
        if self._starts is None:
            return self._stored[start:stop]
        starts = self._starts[start : stop + 1]
        entries = slice(int(starts[0]), int(starts[-1]))
        data, columns = self._stored["data"][entries], self._stored["indices"][entries]
        return sparse.csr_matrix((data, columns, starts - starts[0]), shape=(stop - start, self.shape[1]))

    def lazy_rows(self, rows: np.ndarray) -> Any:
        import dask

        node = self._stored
        if not hasattr(node, "file"):  # zarr, which can be sent
            return dask.delayed(_rows_of)(node, self._source, rows)
        if node.file.mode != "r":  # another process could not open a file that is open for writing
            return None
        return dask.delayed(_rows_of_h5)(node.file.filename, node.name, self._source, rows)


def _rows_of(node: Any, source: str, rows: np.ndarray) -> sparse.csr_matrix:
    """Read rows of an array or of the group of a CSR matrix."""
    from anndata.io import sparse_dataset

    return _FileMatrix(sparse_dataset(node) if hasattr(node, "keys") else node, source).rows(rows)


def _rows_of_h5(path: str, name: str, source: str, rows: np.ndarray) -> sparse.csr_matrix:
    """Read rows of a matrix in an HDF5 file, which is opened and closed here."""
    import h5py

    with h5py.File(path, "r") as file:
        return _rows_of(file[name], source, rows)


class _DaskMatrix:
    """A dask array of dense or sparse chunks. Each chunk that has requested rows is loaded once, for these alone."""

    is_in_memory = False

    def __init__(self, array: Any, source: str) -> None:
        self._source, self.shape, self.dtype = source, tuple(array.shape), np.dtype(array.dtype)
        self._ends = np.cumsum(array.chunks[0])
        self._chunks = array.to_delayed(optimize_graph=False)

    def rows(self, rows: np.ndarray | None) -> sparse.csr_matrix:
        return self.lazy_rows(np.arange(self.shape[0]) if rows is None else rows).compute()

    def lazy_rows(self, rows: np.ndarray) -> Any:
        import dask

        increasing, order = _increasing(rows)
        chunk_of = np.searchsorted(self._ends, increasing, side="right")
        starts = np.append(0, self._ends)
        pick = dask.delayed(_picked)
        pieces = [
            pick(increasing[chunk_of == chunk] - starts[chunk], self._source, *self._chunks[chunk])
            for chunk in np.unique(chunk_of)
        ]
        return dask.delayed(_joined)(pieces, order, self.shape[1])


def _picked(rows: np.ndarray, source: str, *chunks: Any) -> sparse.csr_matrix:
    """Return some rows of chunks that lie side by side."""
    parts = [to_csr(chunk if len(rows) == chunk.shape[0] else chunk[rows], source) for chunk in chunks]
    return parts[0] if len(parts) == 1 else sparse.hstack(parts, format="csr")


def _in_windows(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Divide increasing rows so that first and last of each part are less than ``size`` apart."""
    return np.split(rows, np.flatnonzero(np.diff((rows - rows[0]) // size)) + 1)


def _increasing(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows increasing, each once; and where to find each of the given rows among them, unless it is there.

    Negative rows and masks are not supported.
    """
    rows = np.asarray(rows)
    if (np.diff(rows) > 0).all():
        return rows, None
    return np.unique(rows, return_inverse=True)


def _joined(pieces: list[sparse.csr_matrix], order: np.ndarray | None, n_columns: int) -> sparse.csr_matrix:
    """Stack pieces, and put their rows in order."""
    matrix = sparse.vstack(pieces, format="csr") if pieces else sparse.csr_matrix((0, n_columns), dtype=np.float32)
    return matrix if order is None else matrix[order]


def _warn_of_loading(shape: tuple[int, int], source: str, why: str, fix: str) -> None:
    if shape[0] >= LARGE:
        logger.warning(
            "%s %s, so no rows of it can be read and all %s cells are loaded. %s to save memory.",
            source,
            why,
            f"{shape[0]:,}",
            fix,
        )
