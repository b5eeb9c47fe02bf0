"""Imputation: fitted to a bounded number of cells, then applied to each block of cells."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanpy_sct.impute.apply import ImputedBlock, apply_imputation
    from scanpy_sct.impute.fit import ImputationFit, fit_imputation
    from scanpy_sct.impute.imputer import Imputation, Imputer, impute_cells
    from scanpy_sct.impute.options import ImputeSettings, Values
    from scanpy_sct.impute.storage import load_fit, save_fit

# Imported when first used: the command line needs the options alone, also to complete what is typed.
_HOMES = {
    "Imputation": "imputer",
    "ImputationFit": "fit",
    "ImputeSettings": "options",
    "ImputedBlock": "apply",
    "Imputer": "imputer",
    "Values": "options",
    "apply_imputation": "apply",
    "fit_imputation": "fit",
    "impute_cells": "imputer",
    "load_fit": "storage",
    "save_fit": "storage",
}

__all__ = [
    "Imputation",
    "ImputationFit",
    "ImputeSettings",
    "ImputedBlock",
    "Imputer",
    "Values",
    "apply_imputation",
    "fit_imputation",
    "impute_cells",
    "load_fit",
    "save_fit",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"scanpy_sct.impute.{_HOMES[name]}"), name)
    msg = f"module 'scanpy_sct.impute' has no attribute {name!r}"
    raise AttributeError(msg)
