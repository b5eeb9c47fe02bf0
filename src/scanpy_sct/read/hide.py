"""Entries of an object that are hidden: by the user, or because a sample never measured the gene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

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


@dataclass(frozen=True)
class HiddenEntries:
    """Hidden entries of all cells, of which those of some are read at a time."""

    by_user: StoredMatrix | None
    """(n_cells, n_columns) not zero where the user hides an entry; None: nowhere."""
    samples: np.ndarray
    """(n_cells,) sample of each cell."""
    lacking: sparse.csr_matrix | None = None
    """(n_samples, n_columns) bool: genes that each sample lacks; None: there are none."""

    @property
    def exist(self) -> bool:
        """Whether any entry of the object may be hidden."""
        return self.by_user is not None or self.lacking is not None

    def rows(self, rows: np.ndarray | None = None) -> sparse.csr_matrix | None:
        """Read the hidden entries of some cells (None: all), (cells, columns) bool; None: none in the whole object."""
        hidden = self.user_rows(rows)
        if self.lacking is None:
            return hidden
        lacking = self.lacking[self.samples if rows is None else self.samples[rows]]
        return lacking if hidden is None else (hidden + lacking).astype(bool)

    def user_rows(self, rows: np.ndarray | None = None) -> sparse.csr_matrix | None:
        """Read the entries that the user hides; those that a sample lacks have no values to be removed."""
        return None if self.by_user is None else self.by_user.rows(rows).astype(bool)

    def numbers_lacking(self, sample_names: Sequence[str]) -> dict[str, int]:
        """Return the number of genes that each sample lacks, by name; samples that lack none are left out."""
        numbers = [0] * len(sample_names) if self.lacking is None else np.diff(self.lacking.indptr).tolist()
        return {name: n for name, n in zip(sample_names, numbers, strict=True) if n}
