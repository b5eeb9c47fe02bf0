"""Put the rows that blocks give back into the order of the object: in memory, or as dask arrays on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client, Future

Rows = np.ndarray | sparse.csr_matrix
"""Some columns, for the cells of a block."""


def collect_rows(parts: Iterable[tuple[np.ndarray, Mapping[str, Rows]]], n_cells: int) -> dict[str, Rows]:
    """Collect tables in memory.

    Parameters
    ----------
    parts
        Rows of the object, and tables (rows, columns) by name. The tables of a single block of all cells, in order, are
        returned as they are.
    n_cells
        Number of all cells.
    """
    tables: dict[str, np.ndarray] = {}
    pieces: dict[str, list[sparse.csr_matrix]] = {}
    seen: list[np.ndarray] = []
    for rows, part in parts:
        if not seen and len(rows) == n_cells and (np.diff(rows) == 1).all():
            return dict(part)
        seen.append(rows)
        for name, values in part.items():
            if sparse.issparse(values):
                pieces.setdefault(name, []).append(values)
                continue
            if name not in tables:
                tables[name] = np.empty((n_cells, *values.shape[1:]), dtype=values.dtype)
            tables[name][rows] = values
    order = np.argsort(np.concatenate(seen))
    return tables | {name: sparse.vstack(found, format="csr")[order] for name, found in pieces.items()}


class _Form(NamedTuple):
    n_columns: int
    dtype: np.dtype
    is_sparse: bool


def lazy_rows(futures: Sequence[Future[Any]], blocks: Sequence[np.ndarray], client: Client) -> dict[str, da.Array]:
    """Make dask arrays of tables that stay on the workers.

    Parameters
    ----------
    futures
        For each block, a mapping of tables (cells of the block, columns) by name.
    blocks
        Rows of the cells of each block, which together are all cells.
    client
        The client of the futures.
    """
    order = np.argsort(np.concatenate(blocks))
    forms: dict[str, _Form] = client.submit(_forms, futures[0], pure=False).result()
    result = {}
    for name, form in forms.items():
        pieces = [
            _lazy_table(client.submit(dict.__getitem__, future, name, pure=False), len(rows), form)
            for future, rows in zip(futures, blocks, strict=True)
        ]
        result[name] = _concatenated(pieces)[order] if len(pieces) > 1 else pieces[0]
    return result


def _concatenated(pieces: Sequence[da.Array]) -> da.Array:
    import dask.array as da

    return da.concatenate(pieces, axis=0)


def _lazy_table(future: Future[Any], n_rows: int, form: _Form) -> da.Array:
    import dask.array as da

    meta = sparse.csr_matrix((0, 0), dtype=form.dtype) if form.is_sparse else np.empty((0, 0), dtype=form.dtype)
    return da.from_delayed(future, (n_rows, form.n_columns), form.dtype, meta=meta)


def _forms(tables: dict[str, Any]) -> dict[str, _Form]:
    return {name: _Form(values.shape[1], values.dtype, sparse.issparse(values)) for name, values in tables.items()}
