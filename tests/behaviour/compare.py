"""Compare objects and results: bit by bit, or up to a tolerance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

CONTAINERS = ("obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns")


def snapshot(value: Any) -> Any:
    """Return all that an object is made of (types, dtypes, bytes, order of names), to compare with ``==``."""
    if isinstance(value, AnnData):
        parts = {name: getattr(value, name) for name in CONTAINERS}
        raw = None if value.raw is None else (value.raw.X, value.raw.var)
        names = (value.obs_names, value.var_names)
        return ("AnnData", value.is_view, snapshot(value.X), snapshot(raw), snapshot(names), snapshot(parts))
    if isinstance(value, pd.DataFrame):
        return ("table", snapshot(value.index), [(name, snapshot(value[name])) for name in value.columns])
    if isinstance(value, pd.Series | pd.Index):
        categories = snapshot(value.dtype.categories) if isinstance(value.dtype, pd.CategoricalDtype) else None
        return (type(value).__name__, str(value.dtype), value.name, categories, list(map(repr, value)))
    if sparse.issparse(value):
        arrays = (value.data, value.indices, value.indptr)
        return (type(value).__name__, value.shape, *map(snapshot, arrays))
    if isinstance(value, np.ndarray):
        data = list(map(repr, value.ravel())) if value.dtype == object else value.tobytes()
        return (type(value).__name__, value.shape, value.dtype.str, value.flags.c_contiguous, data)
    if hasattr(value, "to_memory"):
        return (type(value).__name__, snapshot(value.to_memory()))
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return (type(value).__name__, [(name, snapshot(item)) for name, item in value.items()])
    if isinstance(value, tuple | list):
        return (type(value).__name__, [snapshot(item) for item in value])
    if hasattr(value, "__dask_graph__"):
        return ("dask", value.chunks, value.dtype.str, snapshot(value.compute()))
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic):
        return (type(value).__name__, snapshot(np.asarray(value)))
    return (type(value).__name__, repr(value))


def snapshot_of_folder(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def results(adata: AnnData) -> dict[str, pd.DataFrame]:
    """Return all that functions have written, as tables with the names of cells and genes."""
    cells, genes = adata.obs_names.astype(str), adata.var_names.astype(str)
    found = {
        f"layers {name}": pd.DataFrame(_dense(adata.layers[name]), cells, genes)
        for name in adata.layers
        if name and "sct" in name
    }
    found |= {f"obsm {name}": pd.DataFrame(_dense(adata.obsm[name]), cells) for name in adata.obsm if "sct" in name}
    for part, index in (("obs", cells), ("var", genes)):
        table = getattr(adata, part)
        columns = [name for name in table if str(name).startswith("sct")]
        found |= {f"{part} {name}": pd.DataFrame(np.asarray(table[name]), index) for name in columns}
    return found


def assert_same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame], tolerance: float) -> None:
    """Check that results agree for the cells and genes of the expected ones, which are found by name or by position."""
    assert list(found) == list(expected)
    for name, known in expected.items():
        table = found[name]
        if known.index.isin(table.index).all() and table.index.is_unique:
            table = table.loc[known.index]
        if known.columns.isin(table.columns).all() and table.columns.is_unique:
            table = table[known.columns]
        assert table.shape == known.shape, name
        if known.dtypes.iloc[0].kind == "f":
            np.testing.assert_allclose(table.to_numpy(), known.to_numpy(), rtol=0, atol=tolerance, err_msg=name)
        else:
            assert np.array_equal(table.to_numpy(), known.to_numpy()), name


def _dense(values: Any) -> np.ndarray:
    values = values.compute() if hasattr(values, "compute") else values
    return np.asarray(values.toarray() if sparse.issparse(values) else values)
