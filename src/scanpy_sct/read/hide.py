"""Read which entries the user hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData


def read_hide(adata: AnnData, hide: str | np.ndarray | sparse.spmatrix | None) -> sparse.csr_matrix | None:
    """Read the argument `hide`, boolean (n_obs, n_vars) or the name of a layer.

    Raises
    ------
    KeyError, TypeError, ValueError
        There is no such layer, it is not a matrix, or its shape differs.
    """
    if hide is None:
        return None
    if isinstance(hide, str):
        if hide not in adata.layers:
            msg = f"hide={hide!r} is not in adata.layers; available: {[name for name in adata.layers if name]}."
            raise KeyError(msg)
        hide = adata.layers[hide]
    try:
        hide = sparse.csr_matrix(hide).astype(bool)
    except (TypeError, ValueError) as error:
        found = type(hide).__name__
        msg = f"hide must be a boolean matrix, cells x genes, or the name of a layer; found {found}: {error}"
        raise TypeError(msg) from error
    if hide.shape != adata.shape:
        msg = f"hide has shape {hide.shape}, expected shape {adata.shape}."
        raise ValueError(msg)
    return hide
