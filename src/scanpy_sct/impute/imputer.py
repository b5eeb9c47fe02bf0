"""Impute all cells of an object, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.apply import ImputedBlock, apply_imputation, calibrated
from scanpy_sct.impute.calibrate import probability
from scanpy_sct.impute.denoise import NoiseModel, fit_noise
from scanpy_sct.impute.fit import BlockPrediction, ImputationFit, fit_imputation
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.impute.planning import plan_imputation
from scanpy_sct.impute.recovery import Moments
from scanpy_sct.plan.blocks import MAX_CELLS
from scanpy_sct.read.reader import CellBlock, CellReader
from scanpy_sct.read.scale import count_units
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.runner import Runner

GENES_AT_ONCE = 1000


@dataclass(frozen=True)
class Imputation:
    """Imputed expression of all cells, (cells, genes) each; see :class:`~scanpy_sct.impute.apply.ImputedBlock`."""

    fit: ImputationFit
    values: np.ndarray
    moments: Moments
    detection: np.ndarray | None = None
    conditional_mean: np.ndarray | None = None

    @property
    def gene_index(self) -> np.ndarray:
        """Indices into the vocabulary of the imputed genes, (genes,)."""
        return self.fit.plan.gene_index


class Imputer:
    """Imputation of one object: plan, then fit, then block by block.

    Parameters
    ----------
    checkpoint
        The network.
    reader
        The cells.
    options, settings
        How to compute, and settings of the imputation.
    max_cells
        Largest number of cells in a block, and of cells in the fit.

    Raises
    ------
    ValueError
        An option does not work with these data or on this machine; raised before anything is computed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        reader: CellReader,
        options: ComputeOptions,
        settings: ImputeSettings,
        *,
        max_cells: int = MAX_CELLS,
    ) -> None:
        self.reader, self.settings = reader, settings
        self.plan, self.cells = plan_imputation(checkpoint, reader, options, settings, max_cells)
        if settings.denoise and not reader.holds_counts:
            msg = (
                "denoise=True needs counts, or log-normalised values (natural logarithm) of counts, and the values of "
                "adata are neither; pass a layer with counts as `layer=`, or use denoise=False."
            )
            raise ValueError(msg)
        self.runner = Runner(checkpoint, options, self.plan.genes)
        self._fitted: tuple[ImputationFit, CellBlock, BlockPrediction] | None = None

    def fit(self) -> ImputationFit:
        """Fit the imputation to the data."""
        block = self.read(self.cells.fit_cells.rows)
        fit, prediction = fit_imputation(self.runner, block, self.plan, self.settings, self.cells.fit_cells.bags)
        if self.settings.denoise:
            fit = replace(fit, noise=_fit_noise(fit, block, prediction, self._units(block)))
        # Predictions of the fit are used again for its result, if the fit has all cells.
        self._fitted = (fit, block, prediction) if self.cells.is_one_block else None
        return fit

    def blocks(self, fit: ImputationFit) -> Iterator[ImputedBlock]:
        """Impute all cells by ``fit``, block by block."""
        fitted, self._fitted = self._fitted, None
        for cells in self.cells.blocks:
            if fitted is not None and fitted[0] is fit:
                _, block, prediction = fitted
            else:
                block, prediction = self.read(cells.rows), None
            fitted = None
            imputed = apply_imputation(self.runner, fit, block, prediction, self._units(block))
            del block, prediction  # to free the memory while the result is used
            yield imputed

    def read(self, rows: np.ndarray) -> CellBlock:
        """Read some cells, with the genes of the plan."""
        return self.cells.read(self.reader, rows, self.plan.genes)

    def _units(self, block: CellBlock) -> np.ndarray | None:
        return count_units(block.log_values, self.reader.scale) if self.settings.denoise else None


def impute_cells(
    checkpoint: Checkpoint,
    reader: CellReader,
    options: ComputeOptions | None = None,
    settings: ImputeSettings | None = None,
    *,
    max_cells: int = MAX_CELLS,
) -> Imputation:
    """Impute all cells, in memory; arguments as those of :class:`Imputer`."""
    settings = settings or ImputeSettings()
    imputer = Imputer(checkpoint, reader, options or ComputeOptions(), settings, max_cells=max_cells)
    fit = imputer.fit()
    shape = (reader.n_cells, len(imputer.plan.columns))
    tables = [np.empty(shape, dtype=np.float32) for _ in range(3 if settings.keep_parts else 1)]
    moments: Moments | None = None
    for block in imputer.blocks(fit):
        parts = (block.values, block.detection, block.conditional_mean)
        for table, part in zip(tables, parts, strict=False):
            table[block.rows] = part
        moments = block.moments if moments is None else moments + block.moments
    return Imputation(fit, tables[0], moments, *tables[1:])


def _fit_noise(fit: ImputationFit, block: CellBlock, prediction: BlockPrediction, units: np.ndarray) -> NoiseModel:
    """Estimate the noise of each predicted gene on the cells of the fit."""
    plan = fit.plan
    masks = plan.masks(block)
    scale, shape = np.ones((2, len(plan.columns)))
    measured = np.flatnonzero(~plan.is_unmeasured)
    for columns in np.array_split(measured, max(1, -(-len(measured) // GENES_AT_ONCE))):
        genes = plan.columns[columns]
        log_odds, mean = calibrated(fit, prediction, masks, slice(None), columns)
        count = np.rint(np.expm1(block.log_values[:, genes].toarray().astype(np.float64)) / units[:, None])
        known = None if masks.hidden_pass is None else masks.pass_of[:, genes] != masks.hidden_pass
        noise = fit_noise(count, probability(log_odds) * mean, units, known)
        scale[columns], shape[columns] = noise.scale, noise.shape
    return NoiseModel(scale, shape)
