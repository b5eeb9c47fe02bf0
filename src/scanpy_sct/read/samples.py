"""Read the sample of each cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.read.columns import as_series, check_is_name, read_column

if TYPE_CHECKING:
    from anndata import AnnData

_SAMPLE_WORD = r"(sample|batch|library|section|donor|patient|slide)s?"
_SAMPLE_COLUMN = re.compile(rf"{_SAMPLE_WORD}([_. -]?(id|ids|key|name|no|number))?", re.IGNORECASE)
MAX_SHARED_FRACTION = 0.1
"""Fraction of cells with the coordinates of another cell above which several sections are suspected."""


def read_samples(adata: AnnData, library_key: str | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the sample of each cell from the column ``library_key``; None: all cells are one sample, `"all"`.

    Returns
    -------
    (n_obs,) integers, the sample of each cell; and the names of the samples, without categories that have no cells.

    Raises
    ------
    KeyError
        There is no such column.
    TypeError
        `library_key` is not a string.
    ValueError
        Some cells have no sample.
    """
    check_is_name("library_key", library_key)
    if library_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ("all",)
    values = read_column(adata.obs, library_key, "library_key", "adata.obs")
    n_missing = int(values.isna().sum())
    if n_missing:
        msg = (
            f"adata.obs[{library_key!r}] (library_key) is missing for {n_missing} of {adata.n_obs} cells. "
            "Give every cell a sample, or remove these cells."
        )
        raise ValueError(msg)
    samples = pd.Categorical(values).remove_unused_categories()
    return samples.codes.astype(np.int64), tuple(map(str, samples.categories))


def sample_columns(adata: AnnData) -> list[str]:
    """Return the columns of `adata.obs` that seem, by their names, to hold samples, and have more than one value."""
    named = [name for name in adata.obs if isinstance(name, str) and _SAMPLE_COLUMN.fullmatch(name)]
    return [name for name in named if 1 < as_series(adata.obs[name]).nunique() < adata.n_obs]


def missed_samples(adata: AnnData, coordinates: np.ndarray | None) -> str:
    """Return a warning if an object that is read without `library_key` seems to hold several samples; else "".

    ``coordinates`` come from :func:`scanpy_sct.read.coordinates.read_coordinates`.
    """
    columns = sample_columns(adata)
    signs = [f"adata.obs[{name!r}] has {as_series(adata.obs[name]).nunique()} values" for name in columns[:1]]
    n_shared = 0 if coordinates is None else _count_shared(coordinates)
    if n_shared > MAX_SHARED_FRACTION * adata.n_obs:
        signs.append(f"{n_shared:,} cells lie exactly where another does in adata.obsm['spatial']")
    if not signs:
        return ""
    fix = f"library_key={columns[0]!r}" if columns else "library_key='<the column of .obs with the sample>'"
    other = "" if columns else "; if these are not real coordinates, use bags='similar'"
    return f"All cells are read as one sample, but {' and '.join(signs)}: for several samples pass {fix}{other}."


def _count_shared(coordinates: np.ndarray) -> int:
    """Count the cells that have the same coordinates as another one."""
    coordinates = coordinates[np.isfinite(coordinates).all(axis=1)]
    # Complex numbers are sorted many times faster than rows of two.
    _, counts = np.unique(coordinates[:, 0] + 1j * coordinates[:, 1], return_counts=True)
    return int(counts[counts > 1].sum())
