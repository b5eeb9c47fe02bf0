"""Read which entries the user hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scanpy_sct.read.storage import StoredMatrix, open_stored

if TYPE_CHECKING:
    from anndata import AnnData


def open_hide(adata: AnnData, hide: Any) -> StoredMatrix | None:
    """Open the argument `hide`, boolean (n_obs, n_vars) or the name of a layer; entries that are not zero are hidden.

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
        opened = open_stored(hide, "hide")
    except (TypeError, ValueError) as error:
        found = type(hide).__name__
        msg = f"hide must be a boolean matrix, cells x genes, or the name of a layer; found {found}: {error}"
        raise TypeError(msg) from error
    if opened.shape != adata.shape:
        msg = f"hide has shape {opened.shape}, expected shape {adata.shape}."
        raise ValueError(msg)
    return opened
