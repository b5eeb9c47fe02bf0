"""Checks of arguments that the three evaluations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.read.columns import read_column

if TYPE_CHECKING:
    from os import PathLike

    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

__all__ = ["check_number", "load_optional", "read_column", "refuse_no_expression"]


def check_number(name: str, value: int, least: int = 0) -> None:
    """Raise an error for what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        msg = f"{name}={value!r} must be an integer."
        raise TypeError(msg)
    if value < least:
        msg = f"{name}={value} must be at least {least}."
        raise ValueError(msg)


def refuse_no_expression(values: sparse.csr_matrix, argument: str) -> None:
    """Raise an error for data that are zero throughout."""
    if not values.nnz:
        msg = (
            f"{argument} holds no expression: every value that would be read is zero. Give cells that express "
            "something, or name another matrix with `layer=`."
        )
        raise ValueError(msg)


def load_optional(model: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """Load a checkpoint, if one is given."""
    if model is None:
        return None
    from scanpy_sct.checkpoints.registry import load_model

    return load_model(model)
