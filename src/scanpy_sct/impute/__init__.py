"""Imputation on arrays: what is fitted to the data, and how it is applied to a block of cells."""
