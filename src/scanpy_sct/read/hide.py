"""Entries that the user wants to be treated as not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData


def read_hide(adata: AnnData, hide: str | np.ndarray | sparse.spmatrix | None) -> sparse.csr_matrix | None:
    """Read the argument `hide`, (n_obs, n_vars) bool, and refuse what does not fit."""
    if hide is None:
        return None
    if isinstance(hide, str):
        if hide not in adata.layers:
            msg = f"hide={hide!r} is not a layer; there are {[name for name in adata.layers if name]}."
            raise KeyError(msg)
        hide = adata.layers[hide]
    try:
        hide = sparse.csr_matrix(hide).astype(bool)
    except (TypeError, ValueError) as error:
        found = type(hide).__name__
        msg = f"hide must be a boolean matrix, cells x genes, or the name of a layer; found {found}: {error}"
        raise TypeError(msg) from error
    if hide.shape != adata.shape:
        msg = f"hide has shape {hide.shape}, the object has {adata.shape}."
        raise ValueError(msg)
    return hide
