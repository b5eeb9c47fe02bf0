"""Imputation on arrays: what is learnt from the data (fit), and how it is applied to a block of cells."""

from scanpy_sct.impute.imputer import Imputation, Imputer, impute_cells
from scanpy_sct.impute.options import ImputeSettings

__all__ = ["ImputeSettings", "Imputation", "Imputer", "impute_cells"]
