"""Apply the fit of a reference to a block of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanpy_sct.impute.options import Values
from scanpy_sct.impute.reference.fit import ReferenceFit, shared_counts
from scanpy_sct.impute.reference.model import CellsInReference
from scanpy_sct.read.reader import CellBlock


@dataclass(frozen=True)
class BlockInReference:
    """Cells of a block, placed in the reference."""

    fit: ReferenceFit
    placed: CellsInReference
    units: np.ndarray
    """(cells,) value of a single count."""

    @classmethod
    def of(cls, fit: ReferenceFit, block: CellBlock, units: np.ndarray) -> BlockInReference:
        """Place a block with the genes of the plan."""
        return cls(fit, fit.model.place(*shared_counts(block, fit.shared, units)), units)

    def values(self, rows: slice, network: tuple[np.ndarray, np.ndarray], values: Values) -> np.ndarray:
        """Predict the unmeasured genes in some cells, (cells, genes) float32.

        Parameters
        ----------
        rows
            Which cells.
        network
            Log-odds and conditional means of these cells, (cells, unmeasured genes of the plan).
        values
            See :class:`scanpy_sct.impute.options.ImputeSettings`; counts are products of the probability of detection
            and the count given that the gene is detected.
        """
        units = self.units[rows]
        weights = self.fit.gene_weights
        detection, mean = weights.blend(self.fit.sources(self.placed, rows, network, units))
        return weights.counts(detection, mean, units) if values == "counts" else detection * mean
