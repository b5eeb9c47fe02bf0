"""From predictions to the fields that are written: columns of the object, recovery, counts taken into account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.impute.entries import Prediction
from scanpy_sct.impute.posterior import combine
from scanpy_sct.read.expression import Expression
from scanpy_sct.read.hide import hidden_at_positions
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import counts_unit, to_log

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS_AT_ONCE = 1000


def count_units(expression: Expression) -> np.ndarray:
    """Find what one count is worth in each cell."""
    if expression.scale == "counts":
        return np.ones(len(expression.samples))
    unit = counts_unit(expression.log_values)
    if unit is None:
        msg = (
            "denoise=True needs counts, or log-normalised values (natural logarithm) of counts, and the values of "
            "adata are neither; name a layer with counts, or leave denoise out."
        )
        raise ValueError(msg)
    return unit


def imputed_fields(
    adata: AnnData,
    prediction: Prediction,
    expression: Expression,
    hide: sparse.csr_matrix | None,
    unit: np.ndarray | None,
    layer: str | None,
    unmeasured: dict[int, str],
) -> dict[str, Any]:
    """Arrange a prediction as :func:`scanpy_sct.write.write_imputation` wants it, in the columns of the object.

    What is in ``hide`` (cells x columns) and not predicted becomes NaN. With ``unit``, what one count is worth in each
    cell, predictions are combined with the counts measured.
    """
    hidden = hidden_at_positions(hide, expression)
    column_of_position = np.full(len(expression.measured), -1)
    column_of_position[expression.genes.positions] = expression.genes.columns
    columns = column_of_position[prediction.positions]
    measured = columns >= 0
    imputed = np.zeros(adata.n_vars, dtype=bool)
    imputed[columns[measured]] = True

    values = to_log(read_matrix(adata, layer), expression.scale).toarray()
    if hide is not None:
        values[hide.nonzero()] = np.nan
    recovery = np.full(adata.n_vars, np.nan)
    value = prediction.value
    recovery[columns[measured]] = _recovery(expression, prediction, measured, hidden)
    if unit is not None:
        value = _with_measured(expression, prediction.positions, value, unit, hidden)
    values[:, columns[measured]] = value[:, measured]
    share = None
    if prediction.network_share is not None:
        share = np.full(adata.n_vars, np.nan)
        share[columns[measured]] = prediction.network_share[measured]

    def at_columns(predicted: np.ndarray | None, dtype: type) -> np.ndarray | None:
        if predicted is None:
            return None
        result = np.zeros(adata.shape, dtype=dtype)
        result[:, columns[measured]] = predicted[:, measured]
        return result

    table = None
    if unmeasured:
        names = [unmeasured[position] for position in prediction.positions[~measured]]
        table = pd.DataFrame(value[:, ~measured], index=adata.obs_names, columns=names)
    return {
        "layer": values,
        "imputed": imputed,
        "recovery": recovery,
        "network_share": share,
        "unmeasured": table,
        "bins": at_columns(prediction.bins, np.uint8),
        "confidence": at_columns(prediction.confidence, np.float32),
    }


def _with_measured(
    expression: Expression,
    positions: np.ndarray,
    value: np.ndarray,
    unit: np.ndarray,
    hidden: sparse.csr_matrix | None,
) -> np.ndarray:
    """Combine predictions with the counts measured at the same entries; those the user hid, and others, stay."""
    result = value.copy()
    measured = np.flatnonzero(expression.measured[positions])
    for start in range(0, len(measured), COLUMNS_AT_ONCE):
        block = measured[start : start + COLUMNS_AT_ONCE]
        count = np.expm1(expression.log_values[:, positions[block]].toarray().astype(np.float64)) / unit[:, None]
        known = None if hidden is None else ~hidden[:, positions[block]].toarray()
        result[:, block] = combine(np.rint(count), value[:, block], unit, known)
    return result


def _recovery(
    expression: Expression, prediction: Prediction, measured: np.ndarray, hidden: sparse.csr_matrix | None
) -> np.ndarray:
    """Pearson correlation per gene of observed and predicted values, over entries the user did not hide.

    Both are taken as deviations from the mean of the gene in the same pass. A pass that happens to hide many high
    values is calibrated to what is left, the lower ones: over all passes together, a gene that nobody can predict would
    therefore seem to be predicted the wrong way round.
    """
    columns = np.flatnonzero(measured)
    result, value = np.full(len(columns), np.nan), prediction.value
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        block = columns[start : start + COLUMNS_AT_ONCE]
        positions = prediction.positions[block]
        observed = expression.log_values[:, positions].toarray().astype(np.float64)
        predicted = value[:, block].astype(np.float64)
        passes = prediction.passes[:, block]
        known = np.ones(passes.shape, dtype=bool) if hidden is None else ~hidden[:, positions].toarray()
        for number in np.unique(passes):
            inside = (passes == number) & known
            n_entries = np.maximum(inside.sum(0), 1)
            observed -= inside * ((observed * inside).sum(0) / n_entries)
            predicted -= inside * ((predicted * inside).sum(0) / n_entries)
        observed, predicted = observed * known, predicted * known
        scale = np.sqrt((observed**2).sum(0) * (predicted**2).sum(0))
        np.divide((observed * predicted).sum(0), scale, out=result[start : start + len(block)], where=scale > 1e-12)
    return result
