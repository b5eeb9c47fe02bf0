"""Apply a fit to a block of cells; a pure function of the network, the fit and the block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute.calibrate import MAX_LOG_ODDS, Calibration, probability
from scanpy_sct.impute.denoise import denoise
from scanpy_sct.impute.estimate import BlendFit
from scanpy_sct.impute.fit import BlockPrediction, ImputationFit
from scanpy_sct.impute.low_rank import cell_scores, reconstruct_masked
from scanpy_sct.impute.neighbours import Neighbours
from scanpy_sct.impute.predict import predict_block
from scanpy_sct.impute.recovery import Moments
from scanpy_sct.impute.reference.apply import BlockInReference
from scanpy_sct.plan.passes import BlockMasks
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.memory import release_memory
from scanpy_sct.run.threads import in_threads
from scanpy_sct.sparse_tools import as_slice

if TYPE_CHECKING:
    from scanpy_sct.run.runner import Runner

CELLS_AT_ONCE = 8


@dataclass(frozen=True)
class ImputedBlock:
    """Imputed expression of a block of cells, (cells, genes) each, for the genes in `ImputationFit.plan.gene_index`."""

    rows: np.ndarray
    """Row of each cell in the object."""
    values: np.ndarray
    """float32: expected value on the log scale of the block, or counts, see `ImputeSettings.values`."""
    moments: Moments
    """Sums from which the recovery of each gene is computed."""
    detection: np.ndarray | None = None
    """float32: detection probability, if kept."""
    conditional_mean: np.ndarray | None = None
    """float32: conditional mean, if kept."""
    bins: np.ndarray | None = None
    """uint8: most probable bin of the network, before calibration, if kept."""
    confidence: np.ndarray | None = None
    """float32: probability of that bin, if kept."""
    unmeasured: np.ndarray | None = None
    """float32: expected value of the genes in `ImputationFit.reference`, if there is a reference."""
    similarity: np.ndarray | None = None
    """(cells,) float32: similarity to the reference, if there is one."""


def apply_imputation(
    runner: Runner,
    fit: ImputationFit,
    block: CellBlock,
    prediction: BlockPrediction | None = None,
    units: np.ndarray | None = None,
) -> ImputedBlock:
    """Impute a block of cells.

    Parameters
    ----------
    runner, fit
        Network and fit.
    block
        Cells with the genes in ``fit.plan.genes``.
    prediction
        Predictions for this block with this fit, whose arrays are overwritten; None: they are made here.
    units
        (cells,) value of a single count in each cell, if counts are used or predicted, or there is a reference.
    """
    plan = fit.plan
    masks = plan.masks(block)
    if prediction is None:
        prediction = predict(runner, fit, block, masks)
    network, keep_parts = prediction.network, fit.settings.keep_parts
    parts = (np.empty_like(network.log_odds), network.conditional_mean) if keep_parts else (None, None)
    genes = as_slice(plan.columns)
    reference, unmeasured = None, None
    if fit.reference is not None:
        reference = BlockInReference.of(fit.reference, block, units)
        unmeasured = np.empty((block.n_cells, len(fit.reference.kind)), dtype=np.float32)

    def applied(start: int) -> Moments:
        """Impute some cells, and return their moments."""
        rows = slice(start, min(start + CELLS_AT_ONCE, block.n_cells))
        log_odds, mean = calibrated(fit, prediction, masks, rows)
        detection = probability(log_odds)
        if reference is not None:
            alone = log_odds[:, plan.is_unmeasured], mean[:, plan.is_unmeasured]
            unmeasured[rows] = reference.values(rows, alone, fit.settings.values)
        if keep_parts:
            parts[0][rows], parts[1][rows] = detection, mean
        values = np.multiply(detection, mean, out=network.log_odds[rows])
        pass_of, observed = masks.pass_of(rows, genes), block.log_values[rows, genes]
        moments = Moments.of(observed, values, pass_of, masks.is_known)
        if fit.noise is not None:
            values[:] = _with_counts(fit, observed.toarray(), values, pass_of, masks, units[rows])
        if fit.settings.values == "counts":
            # Of what is not combined with the count, the mean count is known: that of detected genes, times detection.
            counts = np.expm1(values) if fit.noise is not None else detection * np.expm1(mean)
            values[:] = counts / units[rows, None]
        return moments

    moments = Moments.zeros(len(plan.columns), masks.n_passes)
    for of_some in in_threads(applied, range(0, block.n_cells, CELLS_AT_ONCE)):
        moments += of_some
    release_memory()
    similarity = None if reference is None else reference.placed.similarity()
    return ImputedBlock(
        block.rows, network.log_odds, moments, *parts, network.bins, network.confidence, unmeasured, similarity
    )


def predict(runner: Runner, fit: ImputationFit, block: CellBlock, masks: BlockMasks) -> BlockPrediction:
    """Predict a block with the network, and compute the scores of its cells for the reconstruction from the data."""
    scores, neighbours = None, None
    if fit.blend is not None:
        low_rank, values = fit.blend.low_rank, block.log_values
        scores = [cell_scores(each, values, masks, number) for number, each in enumerate(low_rank)]
        neighbours = Neighbours.of(low_rank, scores, values, masks.hidden)
        if neighbours is not None:
            neighbours = neighbours.at(as_slice(fit.plan.columns))
    network = predict_block(
        runner, block, masks, fit.plan, cell_weight=fit.cell_weight, keep_bins=fit.settings.keep_bins
    )
    return BlockPrediction(network, scores, neighbours)


def calibrated(
    fit: ImputationFit,
    prediction: BlockPrediction,
    masks: BlockMasks,
    rows: slice,
    columns: slice | np.ndarray = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrate and blend the predictions of some cells and predicted genes.

    Returns
    -------
    Log-odds of detection and conditional mean, (cells, genes) float32 each.
    """
    network = prediction.network
    log_odds, mean = network.log_odds[rows, columns], network.conditional_mean[rows, columns]
    if fit.network is None:
        return log_odds, mean
    plan = fit.plan
    genes = as_slice(plan.columns[columns])
    pass_of = masks.pass_of(rows, genes)
    # Index of the group of each entry in the flattened tables (genes, passes); of no meaning for unmeasured genes.
    group = pass_of + masks.n_passes * np.arange(pass_of.shape[1], dtype=np.int32)
    found = _calibrate(fit.network, columns, group, log_odds, mean)
    if fit.blend is not None and prediction.scores is not None:
        of_data = reconstruct_masked(fit.blend.low_rank, prediction.scores, pass_of, rows, genes)
        found = _blend(fit.blend, columns, group, found, of_data)
        if prediction.neighbours is not None:
            _move_to_neighbours(found[1], fit.blend, prediction.neighbours.at(columns), pass_of, rows)
    unmeasured = plan.is_unmeasured[columns]
    if unmeasured.any():
        for values, raw in zip(found, (log_odds, mean), strict=True):
            values[:, unmeasured] = raw[:, unmeasured]
    return found


def _calibrate(
    fit: Calibration, columns: slice | np.ndarray, group: np.ndarray, log_odds: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    shifted = np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    shifted += _of_groups(fit.shift[columns], group)
    np.clip(shifted, -MAX_LOG_ODDS, MAX_LOG_ODDS, out=shifted)
    return shifted, mean * _of_groups(fit.factor[columns], group)


def _blend(
    fit: BlendFit,
    columns: slice | np.ndarray,
    group: np.ndarray,
    network: tuple[np.ndarray, np.ndarray],
    data: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    data = _calibrate(fit.data, columns, group, *data)
    log_odds = _of_groups(fit.weights[columns, :, 0], group)
    log_odds *= network[0]
    log_odds += _of_groups(fit.weights[columns, :, 1], group) * data[0]
    log_odds += _of_groups(fit.weights[columns, :, 2], group)
    weight, factor = fit.mean_weight[columns], fit.factor[columns]
    mean = _of_groups(weight * factor, group)
    mean *= network[1]
    mean += _of_groups((1 - weight) * factor, group) * data[1]
    return log_odds, mean


def _move_to_neighbours(
    mean: np.ndarray, fit: BlendFit, neighbours: Neighbours, pass_of: np.ndarray, rows: slice
) -> None:
    """Blend conditional means, in place, with those of the nearest cells, where these know the gene."""
    change = neighbours.conditional_mean(pass_of, rows)
    change -= mean
    change *= fit.neighbour_weight.take(pass_of, mode="clip")
    mean += np.nan_to_num(change, copy=False)


def _of_groups(table: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the value of each entry's group."""
    return table.ravel().take(group, mode="clip")


def _with_counts(
    fit: ImputationFit,
    observed: np.ndarray,
    values: np.ndarray,
    pass_of: np.ndarray,
    masks: BlockMasks,
    units: np.ndarray,
) -> np.ndarray:
    """Combine predictions with the counts of the same entries, except where the user hides them."""
    count = np.rint(np.expm1(observed.astype(np.float64)) / units[:, None])
    is_known = pass_of < (masks.n_passes if masks.hidden_pass is None else masks.hidden_pass)
    return np.where(is_known, denoise(fit.noise, count, values, units), values)
