"""Fit an imputation to a bounded number of cells: cell weight, calibration, blend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute.calibrate import Calibration
from scanpy_sct.impute.cell_weight import choose_cell_weight
from scanpy_sct.impute.denoise import NoiseModel
from scanpy_sct.impute.estimate import BlendFit, Estimate
from scanpy_sct.impute.low_rank import CellScores, fit_low_rank
from scanpy_sct.impute.neighbours import Neighbours
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.impute.planning import ImputationPlan
from scanpy_sct.impute.predict import NetworkPrediction, predict_block
from scanpy_sct.impute.reference.fit import ReferenceFit
from scanpy_sct.plan.bags import Bag
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.memory import release_memory
from scanpy_sct.sparse_tools import as_slice

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner

N_PROBES = 400
MIN_CELLS, MIN_GENES = 20, 50
"""Smaller data are too small for a reconstruction."""


@dataclass(frozen=True)
class ImputationFit:
    """All that an imputation learns from the data; it is frozen when it is applied to blocks of cells."""

    plan: ImputationPlan
    settings: ImputeSettings
    cell_weight: float = 1.0
    """Weight of the cell embedding of the network."""
    network: Calibration | None = None
    """Calibration of the network, (predicted genes, passes); None: not calibrated."""
    blend: BlendFit | None = None
    """None: the network alone."""
    noise: NoiseModel | None = None
    """Noise of the measured counts around the predictions, if both are combined."""
    reference: ReferenceFit | None = None
    """Prediction of unmeasured genes from a reference, if there is one."""


@dataclass(frozen=True)
class BlockPrediction:
    """Predictions for a block before calibration and blending; kept for the cells of the fit."""

    network: NetworkPrediction
    scores: list[CellScores] | None = None
    """Scores of the cells in each pass, on the components of the blend."""
    neighbours: Neighbours | None = None
    """The nearest cells of the block, with the counts of the predicted genes; None: too few cells."""


def fit_imputation(
    runner: Runner,
    block: CellBlock,
    plan: ImputationPlan,
    settings: ImputeSettings,
    bags: list[Bag] | None = None,
) -> tuple[ImputationFit, BlockPrediction]:
    """Fit an imputation to a block of cells.

    Parameters
    ----------
    runner
        The network.
    block
        Cells with the genes in ``plan.genes``.
    plan, settings
        Plan and settings of the imputation.
    bags
        Bags that are planned beforehand; None: they are planned here.

    Returns
    -------
    The fit, and the predictions for this block.
    """
    release_memory()
    masks = plan.masks(block)
    is_blended = settings.calibrate and settings.blend
    probes = _probe_genes(block, plan.seed) if is_blended else np.zeros(0, dtype=np.int64)
    wider = plan.predicting(np.union1d(plan.columns, probes))
    weight = choose_cell_weight(runner, block, plan, bags) if settings.calibrate else 1.0
    release_memory()
    low_rank, scores, neighbours = None, None, None
    if len(probes):
        # Before the network runs, so that its predictions and the dense matrix are not in memory together.
        low_rank, scores = fit_low_rank(block.log_values, masks, plan.seed)
        neighbours = Neighbours.of(low_rank, scores, block.log_values, masks.hidden)
        release_memory()
    network = predict_block(runner, block, masks, wider, cell_weight=weight, bags=bags, keep_bins=settings.keep_bins)
    release_memory()
    of_network, blend = None, None
    if settings.calibrate:
        estimate = Estimate(block, masks, wider, plan.columns, network, low_rank, scores, neighbours)
        of_network, blend = (estimate.calibration(), None) if low_rank is None else estimate.blend(probes)
        release_memory()
    fit = ImputationFit(plan, settings, weight, of_network, blend)
    kept = np.searchsorted(wider.columns, plan.columns)
    if neighbours is not None:
        neighbours = neighbours.at(as_slice(plan.columns))
    return fit, BlockPrediction(network.at_columns(kept), scores, neighbours)


def _probe_genes(block: CellBlock, seed: int) -> np.ndarray:
    """Draw the genes on which the shared weights of a blend are estimated, whichever genes are predicted.

    They are detected in at least 1 % of the cells. Without genes, there is no blend.
    """
    n_cells = block.n_cells
    usable = np.flatnonzero(block.measured & (block.log_values.getnnz(axis=0) >= max(3, n_cells / 100)))
    if n_cells < MIN_CELLS or block.measured.sum() < MIN_GENES or len(usable) < MIN_GENES:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.random.default_rng([seed, 4]).permutation(usable)[:N_PROBES])
