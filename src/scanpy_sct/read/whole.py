"""Open whole objects without loading their matrices."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anndata as ad

from scanpy_sct.read.cell_file import naming, opened_group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

MATRICES = ("layers", "obsp", "varp")
TABLES = ("obsm", "varm")


@contextmanager
def opened(path: Path) -> Iterator[AnnData]:
    """Open an h5ad or zarr file: X, layers and raw as dask arrays, everything else in memory.

    Unlike :func:`anndata.experimental.read_lazy` it gives tables of pandas, which every function can change and write.
    """
    with opened_group(path) as group:
        with naming(path):
            adata = _from_group(group)
        yield adata


def _from_group(group: Any) -> AnnData:
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    fields = {name: read_elem(group[name]) for name in ("obs", "var", "uns", *TABLES) if name in group}
    for name in MATRICES:
        if name in group:
            fields[name] = {key: read_elem_lazy(group[name][key]) for key in group[name]}
    raw = None
    if "raw" in group and hasattr(group["raw"], "keys"):  # an array stands for "none"
        raw = {name: read_elem(group["raw"][name]) for name in ("var", "varm") if name in group["raw"]}
        raw["X"] = read_elem_lazy(group["raw"]["X"])
    return ad.AnnData(read_elem_lazy(group["X"]) if "X" in group else None, **fields, raw=raw)


def shallow_copy(adata: AnnData) -> AnnData:
    """Return an object of its own with the same matrices, which are not copied or loaded; tables are in memory."""
    from anndata.experimental import read_elem_lazy

    matrix = read_elem_lazy(adata.file["X"]) if adata.isbacked and "X" in adata.file else adata.X
    raw = None
    if adata.raw is not None:
        x = read_elem_lazy(adata.file["raw/X"]) if adata.isbacked else adata.raw.X
        raw = {"X": x, "var": _table(adata.raw.var), "varm": dict(adata.raw.varm)}
    # anndata 0.13 lists X among the layers, as None.
    fields = {
        name: {key: value for key, value in getattr(adata, name).items() if key is not None}
        for name in (*MATRICES, *TABLES)
    }
    for name in TABLES:
        fields[name] = {key: _table(value) for key, value in fields[name].items()}
    uns = _loaded(adata.uns)
    return ad.AnnData(matrix, obs=_table(adata.obs), var=_table(adata.var), uns=uns, raw=raw, **fields)


def storable_copy(adata: AnnData) -> AnnData:
    """Return such a copy as anndata writes it: strings are categories where values repeat or are missing."""
    copy = shallow_copy(adata)
    for table in (copy.obs, copy.var, *(() if copy.raw is None else (copy.raw.var,))):
        if table.columns.is_unique:
            copy.strings_to_categoricals(table)
    return copy


def _table(value: Any) -> Any:
    """Return a table of pandas of its own; other values as they are."""
    value = value.to_memory() if hasattr(value, "to_memory") and hasattr(value, "columns") else value
    return value.copy() if hasattr(value, "columns") else value


def _loaded(value: Any) -> Any:
    """Copy nested mappings and load what is lazy in them; nothing else is copied."""
    if isinstance(value, Mapping):
        return {name: _loaded(item) for name, item in value.items()}
    return value.compute() if hasattr(value, "compute") else value
