"""Impute all cells of an object, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.apply import ImputedBlock, apply_imputation, calibrated
from scanpy_sct.impute.calibrate import probability
from scanpy_sct.impute.denoise import NoiseModel, fit_noise
from scanpy_sct.impute.fit import BlockPrediction, ImputationFit, fit_imputation
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.impute.planning import plan_imputation
from scanpy_sct.impute.recovery import Moments
from scanpy_sct.impute.reference.fit import ReferenceFitting, ReferenceTask
from scanpy_sct.read.reader import CellBlock, CellReader
from scanpy_sct.read.scale import count_units
from scanpy_sct.run.blocks import StoredCells, find_client, read_cells, run_blocks
from scanpy_sct.run.collect import collect_rows
from scanpy_sct.run.options import ComputeOptions

if TYPE_CHECKING:
    from distributed import Client

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

    A copy that is sent to another process has everything but the expression of the cells.

    Parameters
    ----------
    checkpoint
        The network.
    reader
        The cells.
    options, settings
        How to compute, and settings of the imputation.
    reference
        Unmeasured genes to predict with a reference; None: there is none.

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
        reference: ReferenceTask | None = None,
    ) -> None:
        self.checkpoint, self.reader, self.options, self.settings = checkpoint, reader, options, settings
        self.reference, self.has_reference = reference, reference is not None
        self.plan, self.cells = plan_imputation(checkpoint, reader, options, settings)
        _check_counts(reader, settings, has_reference=reference is not None)
        if find_client(options.client) is None:
            _ = self.runner  # a device or precision that cannot be used raises its error here
        self._fitted: tuple[ImputationFit, CellBlock, BlockPrediction] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The network is moved to the device of the process that uses it.
        kept = {name: value for name, value in self.__dict__.items() if name != "runner"}
        options = replace(self.options, client=None)
        given_apart = {"reference": None, "_fitted": None}
        return kept | {"reader": self.reader.without_matrix(), "options": options, **given_apart}

    @cached_property
    def runner(self) -> Runner:
        """The network on its device."""
        from scanpy_sct.run.runner import Runner  # torch is slow to import

        return Runner(self.checkpoint, self.options, self.plan.genes)

    @property
    def block_rows(self) -> list[np.ndarray]:
        """Rows of the cells of each block."""
        return [each.rows for each in self.cells.blocks]

    def read(self, cells: StoredCells | np.ndarray) -> CellBlock:
        """Convert cells, or read some rows, to a block with the genes of the plan."""
        cells = cells if isinstance(cells, StoredCells) else read_cells(self.reader, cells)
        return self.cells.convert(self.reader.to_block(cells.matrix, cells.rows, cells.hidden), self.plan.genes)

    def fit(self) -> ImputationFit:
        """Fit the imputation in this process."""
        block = self.read(self.cells.fit_cells.rows)
        fit, prediction = self.fit_block(block, self.reference)
        # Predictions of the fit are used again for its result, if the fit has all cells.
        self._fitted = (fit, block, prediction) if self.cells.is_one_block else None
        return fit

    def task(self, number: int, cells: StoredCells, fit: ImputationFit) -> ImputedBlock:
        """Impute a block; a task of :func:`scanpy_sct.run.blocks.run_blocks`."""
        fitted, self._fitted = self._fitted, None
        if fitted is not None and fitted[0] is fit:
            _, block, prediction = fitted
        else:
            block, prediction = self.read(cells), None
        del fitted
        return apply_imputation(self.runner, fit, block, prediction, self._units(block))

    def blocks(self, fit: ImputationFit) -> Iterator[ImputedBlock]:
        """Impute all cells by ``fit`` in this process, block by block."""
        for _, block in run_blocks(self.task, self.reader, self.block_rows, fit, what="impute"):
            yield block

    def fit_block(self, block: CellBlock, reference: ReferenceTask | None) -> tuple[ImputationFit, BlockPrediction]:
        """Fit the imputation to a block; also returns the predictions for it."""
        fit, prediction = fit_imputation(self.runner, block, self.plan, self.settings, self.cells.fit_cells.bags)
        if self.settings.denoise:
            fit = replace(fit, noise=_fit_noise(fit, block, prediction, self._units(block)))
        if reference is not None:
            units = self._units(block)
            fitting = ReferenceFitting(self.runner, block, self.plan, reference, units, fit.cell_weight)
            fit = replace(fit, reference=fitting.fit(prediction.network))
        return fit, prediction

    def _units(self, block: CellBlock) -> np.ndarray | None:
        """Find the value of a single count in each cell; None where it is not needed."""
        if block.units is None and not self.settings.denoise and not self.has_reference:
            return None
        return count_units(block.log_values, self.reader.log_scale) if block.units is None else block.units


def _check_counts(reader: CellReader, settings: ImputeSettings, *, has_reference: bool) -> None:
    """Raise a ValueError for settings that need counts, if the values cannot be turned into counts."""
    needs = {
        "values='counts'": (settings.values == "counts", "values='lognorm'"),
        "denoise=True": (settings.denoise, "denoise=False"),
        "reference=": (has_reference, "no reference"),
    }
    for given, (is_given, instead) in needs.items():
        if is_given and not reader.holds_counts:
            msg = (
                f"{given} needs counts, or log-normalised values (natural logarithm) of counts, and the values of "
                f"adata are neither; pass a layer with counts as `layer=`, or use {instead}."
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class FitTask:
    """Fit an imputation to cells; a task of :func:`scanpy_sct.run.blocks.run_blocks`.

    Unlike other tasks it sends the reference to the worker.
    """

    imputer: Imputer
    reference: ReferenceTask | None

    def __call__(self, number: int, cells: StoredCells) -> ImputationFit:
        """Fit the imputation."""
        return self.imputer.fit_block(self.imputer.read(cells), self.reference)[0]


def fit_imputer(imputer: Imputer, client: Client | None) -> ImputationFit:
    """Fit an imputation here, or on a worker of ``client``."""
    if client is None:
        return imputer.fit()
    rows = imputer.cells.fit_cells.rows
    task = FitTask(imputer, imputer.reference)
    return next(run_blocks(task, imputer.reader, [rows], client=client, what="fit"))[1]


def impute_cells(
    checkpoint: Checkpoint,
    reader: CellReader,
    options: ComputeOptions | None = None,
    settings: ImputeSettings | None = None,
) -> Imputation:
    """Impute all cells, in memory; arguments as those of :class:`Imputer`."""
    imputer = Imputer(checkpoint, reader, options or ComputeOptions(), settings or ImputeSettings())
    client = find_client(imputer.options.client)
    fit = fit_imputer(imputer, client)
    moments: list[Moments] = []

    def tables() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for number, block in run_blocks(imputer.task, reader, imputer.block_rows, fit, client=client, what="impute"):
            moments.append(block.moments)
            found = {name: getattr(block, name) for name in ("values", "detection", "conditional_mean")}
            yield imputer.block_rows[number], {name: table for name, table in found.items() if table is not None}

    collected = collect_rows(tables(), reader.n_cells)
    return Imputation(fit, moments=sum(moments[1:], moments[0]), **collected)


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
        known = None if masks.hidden_pass is None else masks.pass_of(genes=genes) != masks.hidden_pass
        noise = fit_noise(count, probability(log_odds) * mean, units, known)
        scale[columns], shape[columns] = noise.scale, noise.shape
    return NoiseModel(scale, shape)
