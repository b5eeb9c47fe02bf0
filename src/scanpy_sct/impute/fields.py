"""Arrange imputed blocks as the fields that are written to the object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.apply import ImputedBlock
from scanpy_sct.impute.fit import ImputationFit
from scanpy_sct.impute.imputer import Imputer
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.requested import requested_genes
from scanpy_sct.run.options import ComputeOptions

CELLS_AT_ONCE = 512


@dataclass(frozen=True)
class _Columns:
    """Columns of the predicted genes in the object."""

    predicted: np.ndarray
    """Which of the predicted genes have a column."""
    of_object: np.ndarray
    """Their columns."""


def imputed_fields(
    checkpoint: Checkpoint,
    reader: CellReader,
    options: ComputeOptions,
    settings: ImputeSettings,
    genes: list[str] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Impute, and arrange the result as :func:`scanpy_sct.write.write_imputation` takes it.

    Parameters
    ----------
    checkpoint, reader
        Network and cells.
    options, settings
        How to compute, and settings of the imputation.
    genes
        Requested genes by name; None: all measured ones.

    Returns
    -------
    Fields, and details for the record.
    """
    index, unmeasured = requested_genes(genes, reader, checkpoint.name)
    imputer = Imputer(checkpoint, reader, options, replace(settings, genes=index))
    columns = _columns(imputer, reader)
    shape = (reader.n_cells, len(reader.var_names))
    layer = np.empty(shape, dtype=np.float32)
    bins = np.zeros(shape, dtype=np.uint8) if settings.keep_bins else None
    confidence = np.zeros(shape, dtype=np.float32) if settings.keep_bins else None
    of_unmeasured = np.empty((reader.n_cells, int(imputer.plan.is_unmeasured.sum())), dtype=np.float32)
    moments = None
    fit = imputer.fit()
    for block in imputer.blocks(fit):
        _put_values(layer, reader, block, columns)
        of_unmeasured[block.rows] = block.values[:, imputer.plan.is_unmeasured]
        for table, part in ((bins, block.bins), (confidence, block.confidence)):
            if table is not None:
                table[np.ix_(block.rows, columns.of_object)] = part[:, columns.predicted]
        moments = block.moments if moments is None else moments + block.moments
    names = [unmeasured[index] for index in imputer.plan.gene_index[imputer.plan.is_unmeasured]]
    fields = {
        "layer": layer,
        "imputed": _at_columns(np.ones(len(columns.of_object), dtype=bool), columns, shape[1], False),
        "recovery": _at_columns(moments.correlation()[columns.predicted], columns, shape[1], np.nan),
        "network_fraction": _network_fraction(fit, columns, shape[1]),
        "unmeasured": pd.DataFrame(of_unmeasured, index=reader.obs_names, columns=names) if names else None,
        "bins": bins,
        "confidence": confidence,
    }
    return fields, _details(fit, imputer)


def _columns(imputer: Imputer, reader: CellReader) -> _Columns:
    column_of_gene = np.full(len(reader.measured), -1)
    column_of_gene[reader.genes.gene_index] = reader.genes.columns
    columns = column_of_gene[imputer.plan.gene_index]
    return _Columns(np.flatnonzero(columns >= 0), columns[columns >= 0])


def _put_values(layer: np.ndarray, reader: CellReader, block: ImputedBlock, columns: _Columns) -> None:
    """Write a block into the layer: predictions, measured values of other genes, NaN where these are hidden."""
    measured, hidden = reader.columns_of(reader.rows(block.rows)), reader.hidden_columns(block.rows)
    for start in range(0, len(block.rows), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        values = measured[part].toarray()
        if hidden is not None:
            values[hidden[part].nonzero()] = np.nan
        values[:, columns.of_object] = block.values[part][:, columns.predicted]
        layer[block.rows[part]] = values


def _at_columns(values: np.ndarray, columns: _Columns, n_columns: int, empty: Any) -> np.ndarray:
    result = np.full(n_columns, empty)
    result[columns.of_object] = values
    return result


def _network_fraction(fit: ImputationFit, columns: _Columns, n_columns: int) -> np.ndarray | None:
    if fit.blend is None:
        return None
    return _at_columns(fit.blend.network_fraction[columns.predicted], columns, n_columns, np.nan)


def _details(fit: ImputationFit, imputer: Imputer) -> dict[str, Any]:
    details = {
        "bags": fit.plan.policy,
        "cell_weight": fit.cell_weight,
        "passes": fit.plan.passes.n + (0 if imputer.reader.hide is None else 2),
        "fit_cells": len(imputer.cells.fit_cells.rows),
    }
    if fit.blend is None:
        return details
    blend = fit.blend
    return details | {
        "blend_weights": blend.shared_weights[0],
        "conditional_mean_weight": float(blend.shared_mean_weight[0]),
    }
