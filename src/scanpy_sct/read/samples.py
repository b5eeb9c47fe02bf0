"""Which sample each cell belongs to, and where it lies on the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData


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
    ValueError
        Some cells have no sample.
    """
    if library_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ("all",)
    if library_key not in adata.obs:
        columns = ", ".join(map(repr, adata.obs.columns)) or "none"
        msg = f"library_key={library_key!r} is not a column of adata.obs; there are: {columns}."
        raise KeyError(msg)
    values = adata.obs[library_key]
    n_missing = int(values.isna().sum())
    if n_missing:
        msg = (
            f"adata.obs[{library_key!r}] (library_key) is missing for {n_missing} of {adata.n_obs} cells. "
            "Name the sample of every cell, or leave these cells out."
        )
        raise ValueError(msg)
    samples = pd.Categorical(values).remove_unused_categories()
    return samples.codes.astype(np.int64), tuple(map(str, samples.categories))


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
