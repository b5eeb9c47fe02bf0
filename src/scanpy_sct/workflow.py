"""The five steps of every public function: guard, read, compute, write, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.options import ComputeOptions
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
    reading, computing, writing = options
    guard(adata, writing)
    checkpoint, reader = open_cells(adata, model, reading)
    result = compute(checkpoint, reader, computing)
    target = adata.copy() if writing.copy else adata
    given = {name: getattr(reading, name) for name in ("layer", "library_key", "gene_names")}
    how = asdict(computing)
    how["rng"] = how.pop("seed")
    result.write(
        target,
        writing.key_added,
        **result.fields,
        params={**given, **how, "device": str(computing.device), "key_added": writing.key_added, **(params or {})},
        details={**record(checkpoint, reader), **result.details},
    )
    return target if writing.copy else None


def open_cells(
    adata: AnnData, model: str | PathLike[str] | Checkpoint, options: ReadOptions | None = None
) -> tuple[Checkpoint, CellReader]:
    """Load a checkpoint and open an object for it."""
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
            "id_type": genes.id_type,
        },
        "scale": reader.scale,
        "versions": {name: version(name) for name in VERSIONS},
    }
