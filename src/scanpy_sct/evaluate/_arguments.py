"""Checks of arguments that the three evaluations share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.annotate.labels import has_no_label, texts_without_label
from scanpy_sct.read.columns import read_column

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


def check_number(name: str, value: int, least: int = 0) -> None:
    """Raise an error for what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        msg = f"{name}={value!r} must be an integer."
        raise TypeError(msg)
    if value < least:
        msg = f"{name}={value} must be at least {least}."
        raise ValueError(msg)


def check_expression(values: sparse.csr_matrix, argument: str) -> None:
    """Raise an error if all values are zero."""
    if not values.nnz:
        msg = (
            f"{argument} has no expression: every value that would be read is zero. Pass cells with counts, or another "
            "matrix with `layer=`."
        )
        raise ValueError(msg)


def read_strings(adata: AnnData, key: str, argument: str, *, owner: str = "adata", complete: bool = False) -> pd.Series:
    """Read a column of `.obs` as strings; missing values stay missing, or raise an error where it must be complete.

    Texts such as "nan" count as missing in labels.
    """
    values = read_column(adata.obs, key, argument, f"{owner}.obs").astype(object)
    texts = ""
    if argument == "labels_key":
        missing = has_no_label(values)
        texts = texts_without_label(values[missing])
        values = values.where(~missing)
    n_missing = int(values.isna().sum())
    if n_missing and complete:
        where = f"{owner}.obs[{key!r}] ({argument})"
        msg = f"{where} is missing for {n_missing} of {adata.n_obs} cells{texts}; remove these cells."
        raise ValueError(msg)
    if texts:
        logger.warning("%s.obs[%r] (%s): %d cells count as unlabelled%s.", owner, key, argument, n_missing, texts)
    return values.where(values.isna(), values.astype(str))


def load_optional(model: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """Load a checkpoint, if one is given."""
    if model is None:
        return None
    from scanpy_sct.checkpoints.registry import load_model

    return load_model(model)
