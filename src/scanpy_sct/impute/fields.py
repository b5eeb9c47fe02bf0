"""Arrange imputed blocks as the fields that are written to the object."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.impute.fit import ImputationFit
from scanpy_sct.impute.imputer import Imputer, fit_imputer
from scanpy_sct.impute.options import ImputeSettings
from scanpy_sct.impute.recovery import Moments, warn_if_smoothed
from scanpy_sct.impute.reference.report import plan_reference, reference_details, warn_if_off
from scanpy_sct.impute.resume import ImputationStore
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.reference import ReferenceCells
from scanpy_sct.read.requested import requested_genes
from scanpy_sct.run.blocks import StoredCells, find_client, run_blocks
from scanpy_sct.run.collect import Rows, collect_rows, lazy_rows
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.sparse_tools import entry_rows, keep_entries

CELLS_AT_ONCE = 512
TABLES = {"unmeasured", "similarity"}
"""Results that become columns of tables, which are in memory."""
MAX_SPARSE_FRACTION = 0.25
"""Up to this fraction of imputed genes the layer is sparse: other genes keep their values, mostly zero."""


@dataclass(frozen=True)
class ArrangedBlock:
    """Result of a block."""

    tables: dict[str, Rows]
    """`"layer"`, `"unmeasured"`, `"bins"`, `"confidence"`: (cells, columns of the object, or unmeasured genes);
    `"similarity"`: (cells, 1)."""
    moments: Moments


@dataclass(frozen=True)
class _Columns:
    """Columns of the predicted genes in the object."""

    predicted: np.ndarray
    """Which of the predicted genes have a column."""
    of_object: np.ndarray
    """Their columns."""
    n: int
    """Number of columns of the object."""

    @classmethod
    def of(cls, imputer: Imputer) -> _Columns:
        reader = imputer.reader
        column_of_gene = np.full(len(reader.measured), -1)
        column_of_gene[reader.genes.gene_index] = reader.genes.columns
        columns = column_of_gene[imputer.plan.gene_index]
        return cls(np.flatnonzero(columns >= 0), columns[columns >= 0], len(reader.var_names))

    def spread(self, values: np.ndarray, empty: Any) -> np.ndarray:
        """Put values of the predicted genes at their columns, (n,)."""
        result = np.full(self.n, empty)
        result[self.of_object] = values[self.predicted]
        return result


@dataclass(frozen=True)
class ArrangeTask:
    """Impute a block and arrange it; a task of :func:`scanpy_sct.run.blocks.run_blocks`."""

    imputer: Imputer
    columns: _Columns
    is_sparse: bool = False
    """Whether the layer is a CSR matrix."""

    def __call__(self, number: int, cells: StoredCells, fit: ImputationFit) -> ArrangedBlock:
        """Impute a block."""
        imputed = self.imputer.task(number, cells, fit)
        columns, reader = self.columns, self.imputer.reader
        layer_of = _sparse_layer if self.is_sparse else _dense_layer
        counts = self.imputer.settings.values == "counts"
        tables = {"layer": layer_of(reader, cells, imputed.values, columns, counts=counts)}
        unmeasured = self.imputer.plan.is_unmeasured
        if imputed.unmeasured is not None:
            tables |= {"unmeasured": imputed.unmeasured, "similarity": imputed.similarity[:, None]}
        elif unmeasured.any():
            tables["unmeasured"] = imputed.values[:, unmeasured]
        for name, part in (("bins", imputed.bins), ("confidence", imputed.confidence)):
            if part is not None:
                tables[name] = np.zeros((len(cells.rows), columns.n), dtype=part.dtype)
                tables[name][:, columns.of_object] = part[:, columns.predicted]
        return ArrangedBlock(tables, imputed.moments)


@dataclass(frozen=True)
class StoreTask:
    """Impute a block and write it to a store."""

    arrange: ArrangeTask
    store: ImputationStore

    def __call__(self, number: int, cells: StoredCells, fit: ImputationFit) -> None:
        """Impute a block."""
        block = self.arrange(number, cells, fit)
        self.store.write_block(number, block.tables, block.moments)


def make_imputer(
    checkpoint: Checkpoint,
    reader: CellReader,
    options: ComputeOptions,
    settings: ImputeSettings,
    genes: list[str] | None,
    reference: ReferenceCells | None = None,
) -> tuple[Imputer, dict[int, str]]:
    """Plan the imputation of genes that are requested by name, see :func:`scanpy_sct.read.requested.requested_genes`.

    Returns
    -------
    The imputation, and the name of each unmeasured gene, by its index in the vocabulary, in the requested order.
    """
    index, unmeasured = requested_genes(genes, reader, checkpoint.name, reference)
    _check_memory(reader.n_cells, len(unmeasured))
    task = (
        None if reference is None else plan_reference(reference, reader, np.array(sorted(unmeasured), dtype=np.int64))
    )
    return Imputer(checkpoint, reader, options, replace(settings, genes=index), task), unmeasured


def _check_memory(n_cells: int, n_unmeasured: int) -> None:
    """Raise a ValueError if the table of unmeasured genes, which is in memory, is larger than the memory."""
    if not hasattr(os, "sysconf"):  # Windows
        return
    needed, memory = 4 * n_cells * n_unmeasured, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        msg = (
            f"genes: {n_unmeasured} unmeasured genes in {n_cells} cells need {needed / 1e9:.0f} GB of memory, and this "
            f"machine has {memory / 1e9:.0f} GB; request fewer genes, or some cells at a time."
        )
        raise ValueError(msg)


def imputed_fields(
    imputer: Imputer, unmeasured: dict[int, str], store: ImputationStore | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Impute, and arrange the result as :func:`scanpy_sct.write.write_imputation` takes it.

    Parameters
    ----------
    imputer, unmeasured
        From :func:`make_imputer`.
    store
        Where tables of cells x columns of the object are collected; None: they are fields of the result, in memory, or
        dask arrays on the cluster that computed them.

    Returns
    -------
    Fields, and details for the record.
    """
    columns = _Columns.of(imputer)
    task = ArrangeTask(imputer, columns, _is_sparse(columns))
    fit, tables, moments = _collect(imputer, task) if store is None else _store(imputer, task, store)
    recovery = moments.correlation()
    warn_if_smoothed(recovery)
    # Computed in the order of the vocabulary, written in the requested one.
    names, requested = [unmeasured[index] for index in sorted(unmeasured)], list(unmeasured.values())
    of_unmeasured = tables.pop("unmeasured", None)
    details = _details(fit, imputer)
    if fit.reference is not None:
        warn_if_off(fit.reference)
        found = reference_details(fit.reference, names)
        details |= found | {"unmeasured": found["unmeasured"].loc[requested]}
    similarity = tables.pop("similarity", None)
    fields = {
        **tables,
        "imputed": columns.spread(np.ones(len(imputer.plan.columns), dtype=bool), False),
        "recovery": columns.spread(recovery, np.nan),
        "network_fraction": None if fit.blend is None else columns.spread(fit.blend.network_fraction, np.nan),
        "unmeasured": pd.DataFrame(of_unmeasured, imputer.reader.obs_names, names)[requested] if names else None,
        "similarity": None if similarity is None else similarity[:, 0],
    }
    return fields, details


def imputed_bytes(imputer: Imputer) -> int:
    """Estimate the size of the stored tables of cells x columns."""
    n_cells, columns = imputer.reader.n_cells, _Columns.of(imputer)
    of_layer = 8 * len(columns.of_object) if _is_sparse(columns) else 4 * columns.n
    return n_cells * (of_layer + (5 * columns.n if imputer.settings.keep_bins else 0))


def _is_sparse(columns: _Columns) -> bool:
    return len(columns.of_object) <= MAX_SPARSE_FRACTION * columns.n


def _collect(imputer: Imputer, task: ArrangeTask) -> tuple[ImputationFit, dict[str, Any], Moments]:
    """Impute all blocks; return the fit, the tables of all cells and the moments."""
    reader, rows = imputer.reader, imputer.block_rows
    client = find_client(imputer.options.client)
    fit = fit_imputer(imputer, client)
    found = run_blocks(task, reader, rows, fit, client=client, keep=client is not None, what="impute")
    if client is not None:
        futures = [future for _, future in sorted(found, key=lambda item: item[0])]
        moments = client.gather([client.submit(attrgetter("moments"), each, pure=False) for each in futures])
        tables = [client.submit(attrgetter("tables"), each, pure=False) for each in futures]
        lazy = lazy_rows(tables, rows, client)
        for name in TABLES & set(lazy):
            lazy[name] = client.compute(lazy[name]).result()
        return fit, lazy, _total(moments)
    moments = []

    def parts() -> Iterator[tuple[np.ndarray, dict[str, Rows]]]:
        for number, block in found:
            moments.append(block.moments)
            yield rows[number], block.tables

    tables = collect_rows(parts(), reader.n_cells)
    return fit, tables, _total(moments)


def _store(
    imputer: Imputer, task: ArrangeTask, store: ImputationStore
) -> tuple[ImputationFit, dict[str, Any], Moments]:
    """Impute the blocks that the store lacks; return the fit, tables for memory, and moments."""
    client = find_client(imputer.options.client)
    rows = imputer.block_rows
    fit = store.load_fit()
    if fit is None:
        fit = fit_imputer(imputer, client)
        store.save_fit(fit)
    missing = [number for number in range(len(rows)) if not store.has_block(number)]
    for _ in run_blocks(
        StoreTask(task, store), imputer.reader, rows, fit, client=client, what="impute", numbers=missing
    ):
        pass
    names = {"unmeasured"} if imputer.plan.is_unmeasured.any() else set()
    names = TABLES if imputer.has_reference else names
    parts = ((rows[number], store.read_tables(number, sorted(names))) for number in range(len(rows)))
    tables = collect_rows(parts, imputer.reader.n_cells) if names else {}
    return fit, tables, _total([store.read_moments(number) for number in range(len(rows))])


def _total(moments: list[Moments]) -> Moments:
    return sum(moments[1:], moments[0])


def _dense_layer(
    reader: CellReader, cells: StoredCells, values: np.ndarray, columns: _Columns, *, counts: bool
) -> np.ndarray:
    """Make a block of the layer: predictions, measured values of other genes, NaN where these are hidden."""
    layer = np.empty((len(cells.rows), columns.n), dtype=np.float32)
    for start in range(0, len(layer), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        layer[part] = reader.columns_of(cells.matrix[part], counts=counts).toarray()
        if cells.hidden is not None:
            layer[part][cells.hidden[part].nonzero()] = np.nan
        layer[part, columns.of_object] = values[part][:, columns.predicted]
    return layer


def _sparse_layer(
    reader: CellReader, cells: StoredCells, values: np.ndarray, columns: _Columns, *, counts: bool
) -> sparse.csr_matrix:
    """Make the same block as a sparse matrix."""
    is_other = np.ones(columns.n, dtype=bool)
    is_other[columns.of_object] = False
    measured = reader.columns_of(cells.matrix, counts=counts)
    measured = keep_entries(measured, is_other[measured.indices])
    entries = [(entry_rows(measured), measured.indices, measured.data)]
    if cells.hidden is not None:
        hidden = cells.hidden
        hidden = keep_entries(hidden, is_other[hidden.indices])
        entries.append((entry_rows(hidden), hidden.indices, np.full(hidden.nnz, np.nan, dtype=np.float32)))
    n_cells, predicted = len(cells.rows), values[:, columns.predicted]
    cell = np.repeat(np.arange(n_cells), predicted.shape[1])
    entries.append((cell, np.tile(columns.of_object, n_cells), predicted.ravel()))
    cell, column, data = (np.concatenate(each) for each in zip(*entries, strict=True))
    return sparse.csr_matrix((data, (cell, column)), shape=(n_cells, columns.n))


def _details(fit: ImputationFit, imputer: Imputer) -> dict[str, Any]:
    details = {
        "bags": fit.plan.policy,
        "cell_weight": fit.cell_weight,
        "passes": fit.plan.passes.n + (2 if imputer.reader.has_hidden else 0),
        "fit_cells": len(imputer.cells.fit_cells.rows),
    }
    if fit.blend is None:
        return details
    blend = fit.blend
    return details | {
        "blend_weights": blend.shared_weights[0],
        "conditional_mean_weight": float(blend.shared_mean_weight[0]),
        "neighbour_weight": float(blend.neighbour_weight[0]),
    }
