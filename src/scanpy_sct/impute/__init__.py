"""Imputation: fitted to a bounded number of cells, then applied to each block of cells."""

from scanpy_sct.impute.apply import ImputedBlock, apply_imputation
from scanpy_sct.impute.fit import ImputationFit, fit_imputation
from scanpy_sct.impute.imputer import Imputation, Imputer, impute_cells
from scanpy_sct.impute.options import ImputeSettings, Values
from scanpy_sct.impute.storage import load_fit, save_fit

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
