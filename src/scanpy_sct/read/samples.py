"""Which sample each cell belongs to, and where it lies on the tissue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.read.columns import check_is_name, read_column

if TYPE_CHECKING:
    from anndata import AnnData

_SAMPLE_WORD = r"(sample|batch|library|section|donor|patient|slide)s?"
_SAMPLE_COLUMN = re.compile(rf"{_SAMPLE_WORD}([_. -]?(id|ids|key|name|no|number))?", re.IGNORECASE)
MAX_SHARED_PLACES = 0.1
"""Share of the cells that may lie exactly where another does; more tell of several sections, or of no coordinates."""


def read_samples(adata: AnnData, library_key: str | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sample of each cell; cells of different samples never share a bag.

    Parameters
    ----------
    adata
        Cells x genes.
    library_key
        Column of `adata.obs` that names the sample; None: all cells are one sample, `"all"`.

    Returns
    -------
    Number of the sample of each cell, shape `(n_obs,)`, and the names of the samples; categories without cells are
    left out.

    Raises
    ------
    KeyError
        There is no such column.
    TypeError
        `library_key` is no name.
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
            "Name the sample of every cell, or leave these cells out."
        )
        raise ValueError(msg)
    samples = pd.Categorical(values).remove_unused_categories()
    return samples.codes.astype(np.int64), tuple(map(str, samples.categories))


def sample_columns(adata: AnnData) -> list[str]:
    """Columns of `adata.obs` that seem to name samples, by their names, and have more than one value."""
    named = [name for name in adata.obs if isinstance(name, str) and _SAMPLE_COLUMN.fullmatch(name)]
    return [name for name in named if 1 < adata.obs[name].nunique() < adata.n_obs]


def missed_samples(adata: AnnData, coordinates: np.ndarray | None) -> str:
    """Say what speaks for several samples in an object read as one, and the way out; empty if nothing does.

    Parameters
    ----------
    adata
        Cells x genes, read without `library_key`.
    coordinates
        Place of each cell, from :func:`read_coordinates`.
    """
    columns = sample_columns(adata)
    signs = [f"adata.obs[{columns[0]!r}] has {adata.obs[columns[0]].nunique()} values"] if columns else []
    n_shared = 0 if coordinates is None else _count_shared_places(coordinates)
    if n_shared > MAX_SHARED_PLACES * adata.n_obs:
        signs.append(f"{n_shared:,} cells lie exactly where another does in adata.obsm['spatial']")
    if not signs:
        return ""
    way_out = f"library_key={columns[0]!r}" if columns else "library_key='<the column of .obs that names the sample>'"
    other = "" if columns else ", and if these are no real coordinates, bags='similar'"
    return f"All cells are read as one sample, but {' and '.join(signs)}: for several samples give {way_out}{other}."


def _count_shared_places(coordinates: np.ndarray) -> int:
    """Count the cells that lie exactly where another one does."""
    # One complex number a cell: sorted many times faster than rows of two.
    _, counts = np.unique(coordinates[:, 0] + 1j * coordinates[:, 1], return_counts=True)
    return int(counts[counts > 1].sum())


def read_coordinates(adata: AnnData) -> np.ndarray | None:
    """Coordinates of the cells on the tissue.

    Parameters
    ----------
    adata
        Cells x genes.

    Returns
    -------
    First two columns of `adata.obsm["spatial"]` as float64, shape `(n_obs, 2)`, in their own unit (often pixels);
    None without such an entry.

    Raises
    ------
    ValueError
        There are fewer than two columns, or values that are no finite numbers.
    """
    if "spatial" not in adata.obsm:
        return None
    stored = adata.obsm["spatial"]
    stored = stored.compute() if hasattr(stored, "compute") else stored
    try:
        coordinates = np.asarray(stored, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"adata.obsm['spatial'] must hold numbers: {error}"
        raise ValueError(msg) from error
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        msg = f"adata.obsm['spatial'] must have the columns x and y, found shape {coordinates.shape}."
        raise ValueError(msg)
    coordinates = coordinates[:, :2]
    n_bad = int((~np.isfinite(coordinates)).any(axis=1).sum())
    if n_bad:
        msg = (
            f"adata.obsm['spatial'] is NaN or infinite for {n_bad} of {adata.n_obs} cells. Leave these cells out, or "
            "delete or rename adata.obsm['spatial'] to go without coordinates."
        )
        raise ValueError(msg)
    return coordinates
