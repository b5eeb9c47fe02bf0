"""Correlation of the predictions of each gene with its measured values, from sums that add up over blocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import entry_rows

logger = logging.getLogger(__name__)

TRUSTED = 0.3
"""From this recovery on, an imputed gene follows the measured one in single cells. The estimated trust of unmeasured
genes is a correlation, too, and has the same limit.

Derived in `benchmarks/recovery.py` (docs/which_genes.md): even of genes with a recovery of 0.3 to 0.5, nine in ten
predicted held-out values with a correlation of 0.2 or more, on each of four data sets.
"""
RIGHT_ON_AVERAGE = 0.1
"""From this recovery on, averages over regions or cell types can be compared. In the same benchmark, the median
correlation with held-out values was 0.14 or less below it."""
TOO_HIGH = 0.9
"""Nine in ten genes of measured data never have a higher recovery."""
MIN_GENES = 20


@dataclass(frozen=True)
class Moments:
    """Sums over the entries of each gene and pass, (genes, passes) float64 each, of observed and predicted values."""

    number: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    observed_squared: np.ndarray
    predicted_squared: np.ndarray
    product: np.ndarray

    @classmethod
    def zeros(cls, n_genes: int, n_passes: int) -> Moments:
        """Make moments of no entries."""
        return cls(*(np.zeros((n_genes, n_passes)) for _ in range(6)))

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __iadd__(self, other: Moments) -> Moments:
        for each in fields(self):
            table = getattr(self, each.name)
            table += getattr(other, each.name)
        return self

    @classmethod
    def of(
        cls, observed: sparse.csr_matrix, predicted: np.ndarray, pass_of: np.ndarray, is_known: np.ndarray
    ) -> Moments:
        """Sum over some cells.

        Parameters
        ----------
        observed, predicted
            (cells, genes) values on the log scale of the input.
        pass_of
            (cells, genes) pass in which each entry was masked and predicted; beyond the last: unmeasured.
        is_known
            (passes,) bool: passes whose entries are added.
        """
        result = cls.zeros(predicted.shape[1], len(is_known))
        for number in np.flatnonzero(is_known):
            inside = pass_of == number
            masked = predicted * inside
            result.number[:, number] = inside.sum(axis=0)
            result.predicted[:, number] = masked.sum(axis=0, dtype=np.float64)
            result.predicted_squared[:, number] = np.einsum("ij,ij->j", masked, masked, dtype=np.float64)
        rows, genes = entry_rows(observed), observed.indices
        passes = pass_of[rows, genes].astype(np.int64)
        counted = (passes < len(is_known)) & np.append(is_known, False)[np.minimum(passes, len(is_known))]
        group = (genes * len(is_known) + passes)[counted]
        values, shape = observed.data[counted].astype(np.float64), result.observed.shape
        for table, weights in (
            (result.observed, values),
            (result.observed_squared, values**2),
            (result.product, values * predicted[rows, genes][counted]),
        ):
            table += np.bincount(group, weights, minlength=table.size).reshape(shape)
        return result

    def correlation(self) -> np.ndarray:
        """Compute the Pearson correlation of observed and predicted values of each gene, (genes,); NaN: constant gene.

        Both are deviations from the mean of the gene in the same pass. A pass that masks high values by chance is
        calibrated to the lower visible ones, so that without this the recovery of a random gene would be negative.
        """
        number = np.maximum(self.number, 1)
        product = (self.product - self.observed * self.predicted / number).sum(axis=1)
        of_observed = (self.observed_squared - self.observed**2 / number).sum(axis=1)
        of_predicted = (self.predicted_squared - self.predicted**2 / number).sum(axis=1)
        scale = np.sqrt(np.maximum(of_observed, 0) * np.maximum(of_predicted, 0))
        return np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 1e-12)


def warn_if_smoothed(recovery: np.ndarray) -> None:
    """Log a warning if nearly all genes have a recovery that measured values do not have."""
    known = recovery[~np.isnan(recovery)]
    if len(known) >= MIN_GENES and np.quantile(known, 0.1) > TOO_HIGH:
        logger.warning(
            "The recovery is above %g for nine in ten genes. The values seem to be smoothed or imputed already, and "
            "then the recovery says nothing: pass measured values.",
            TOO_HIGH,
        )
