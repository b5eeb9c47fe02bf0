"""The five steps of every public function: guard, read, compute, write, record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.scale import sampled_rows
from scanpy_sct.read.whole import storable_copy
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.progress import cell_progress
from scanpy_sct.storable import storable
from scanpy_sct.store import PartStore, check_storable, locked, open_layer
from scanpy_sct.write import WriteOptions, guard

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.options import ReadOptions

VERSIONS = ("scanpy_sct", "torch", "anndata", "numpy")


@dataclass(frozen=True)
class Result:
    """Result of a computation, ready to be written."""

    write: Callable[..., None]
    """The function of :mod:`scanpy_sct.write` that writes it."""
    fields: Mapping[str, Any]
    """Its keyword arguments, without ``params`` and ``details``."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More to record."""
    stored: StoredTables | None = None
    """Tables that are in a store instead of among the fields."""


@dataclass(frozen=True)
class StoredTables:
    """Tables of the cells that were written to a store, block by block."""

    parts: PartStore
    blocks: Sequence[np.ndarray]
    """Rows of the cells of each block."""
    layers: Mapping[str, str]
    """Field of the result -> name of the layer."""


def run_workflow(
    adata: AnnData,
    model: str | PathLike[str] | Checkpoint,
    options: tuple[ReadOptions, ComputeOptions, WriteOptions],
    compute: Callable[[Checkpoint, CellReader, ComputeOptions], Result],
    params: Mapping[str, Any] | None = None,
) -> AnnData | None:
    """Guard, read, compute, write and record; returns the copy, if one is requested.

    Parameters
    ----------
    adata, model
        Arguments of the public function.
    options
        Options of reading, computing and writing.
    compute
        Function that computes the result; it raises errors before it computes, and writes nothing.
    params
        Other arguments of the public function, for the record.
    """
    writing = options[-1]
    check_is_anndata(adata)
    guard(adata, writing)
    if writing.out is None:
        return _run(adata, model, options, compute, params)
    with locked(writing.out):
        return _run(adata, model, options, compute, params)


def _run(
    adata: AnnData,
    model: str | PathLike[str] | Checkpoint,
    options: tuple[ReadOptions, ComputeOptions, WriteOptions],
    compute: Callable[[Checkpoint, CellReader, ComputeOptions], Result],
    params: Mapping[str, Any] | None,
) -> AnnData | None:
    reading, computing, writing = options
    checkpoint, reader = open_cells(adata, model, reading)
    if writing.out is not None:
        added = dict.fromkeys(("layers", "uns"), writing.key_added)
        folder = Path(writing.out).expanduser().absolute().parent
        check_storable(storable_copy(adata), ".zarr", folder, f"out={str(writing.out)!r}", added)
    result = compute(checkpoint, reader, computing)
    provenance = {
        "params": {**call_params(options), **(params or {})},
        "details": {**record(checkpoint, reader), **result.details},
    }
    if result.stored is not None:
        result = _finish(adata, writing.key_added, result, result.stored, provenance)
    target = adata.copy() if writing.copy else adata
    result.write(target, writing.key_added, **result.fields, **provenance)
    return target if writing.copy else None


def call_params(options: tuple[ReadOptions, ComputeOptions, WriteOptions]) -> dict[str, Any]:
    """Return the options that are recorded, under the names of the arguments of public functions."""
    reading, computing, writing = options
    given = {name: getattr(reading, name) for name in ("layer", "library_key", "gene_names", "scale")}
    how = {name: getattr(computing, name) for name in ("bags", "precision", "batch_size")}
    where = {"device": str(computing.device), "key_added": writing.key_added}
    return {**given, **how, "rng": computing.seed, **where}


def open_parts(
    out: str | PathLike[str],
    checkpoint: Checkpoint,
    reader: CellReader,
    blocks: Sequence[np.ndarray],
    options: tuple[ReadOptions, ComputeOptions, WriteOptions],
    params: Mapping[str, Any],
    n_bytes: int,
    also: Mapping[str, Any] | None = None,
) -> PartStore:
    """Open the store of a result, new or left by an interrupted run of the same call.

    Parameters
    ----------
    out
        Its path.
    checkpoint, reader, blocks
        Network, cells, and rows of the cells of each block.
    options, params
        Options, and other arguments of the public function.
    n_bytes
        Estimate of the size of the result.
    also
        What else must be the same in the run that goes on.

    Raises
    ------
    OSError, ValueError
        As :meth:`scanpy_sct.store.PartStore.open`.
    """
    # What only decides where and how fast it is computed may change from one run to the next.
    free = ("device", "batch_size")
    call = {name: value for name, value in {**call_params(options), **params}.items() if name not in free}
    rows = sampled_rows(reader.n_cells)
    sample = reader.rows(rows)
    return PartStore.open(
        out,
        {
            "call": storable(call),
            "model": checkpoint.sha256,
            "cells": _digest(reader.name_hashes),
            "genes": _digest(pd.util.hash_array(reader.var_names.to_numpy(dtype=object))),
            "samples and coordinates": _digest(reader.samples, reader.coordinates),
            "expression": _digest(sample.data, sample.indices, sample.indptr),
            "blocks": len(blocks),
            "version": version("scanpy_sct"),
            **(also or {}),
        },
        n_bytes=n_bytes,
    )


def _digest(*arrays: np.ndarray | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _finish(adata: AnnData, key: str, result: Result, stored: StoredTables, provenance: Mapping[str, Any]) -> Result:
    """Complete the store with the whole object and the result; the tables in it become lazy fields."""
    whole = storable_copy(adata)
    result.write(whole, key, **dict.fromkeys(stored.layers), **result.fields, **provenance)
    with cell_progress(adata.n_obs, "write") as advance:
        path = stored.parts.finish(whole, stored.blocks, stored.layers, advance)
    return replace(
        result, fields={**result.fields, **{field: open_layer(path, name) for field, name in stored.layers.items()}}
    )


def open_cells(
    adata: AnnData, model: str | PathLike[str] | Checkpoint, options: ReadOptions | None = None
) -> tuple[Checkpoint, CellReader]:
    """Load a checkpoint and open an object for it."""
    check_is_anndata(adata)  # before a checkpoint is downloaded
    checkpoint = load_model(model)
    return checkpoint, CellReader(adata, checkpoint.genes, checkpoint.tokens.scale, options)


def record(checkpoint: Checkpoint, reader: CellReader) -> dict[str, Any]:
    """Collect the provenance of a result: model, weights, genes, scale, versions."""
    genes = reader.genes
    return {
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision or "",
            "sha256": checkpoint.sha256,
            "license": checkpoint.license,
        },
        "genes": {
            "matched": len(genes.columns),
            "unmatched": len(genes.unmatched),
            "ambiguous": len(genes.ambiguous),
            "duplicates": len(genes.duplicates),
            "not_genes": len(genes.not_genes),
            "id_type": genes.id_type,
        },
        "scale": reader.scale,
        "versions": {name: version(name) for name in VERSIONS},
    }
