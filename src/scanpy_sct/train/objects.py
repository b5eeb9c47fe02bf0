"""One AnnData or several, for functions that learn from embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scanpy_sct.run.checks import check_computable
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.options import ReadOptions
    from scanpy_sct.read.reader import CellBlock
    from scanpy_sct.run.options import ComputeOptions


def as_objects(data: AnnData | Sequence[AnnData]) -> list[AnnData]:
    """Return a list of the objects; raise an error for what is not an AnnData."""
    from anndata import AnnData

    several = isinstance(data, Sequence) and not isinstance(data, str)
    objects = list(data) if several else [data]
    if not objects:
        msg = "data is empty; give at least one AnnData."
        raise ValueError(msg)
    for number, adata in enumerate(objects):
        if not isinstance(adata, AnnData):
            found = type(adata).__name__
            msg = (
                f"{name_object(number, objects)} must be an AnnData, or data a list of them; found {found}. "
                "Read a file first, with scanpy.read_h5ad."
            )
            raise TypeError(msg)
    return objects


def name_object(number: int, objects: Sequence[AnnData]) -> str:
    """Return what an object is called in messages."""
    return f"data[{number}]" if len(objects) > 1 else "data"


def read_objects(
    objects: Sequence[AnnData], checkpoint: Checkpoint, reading: ReadOptions, computing: ComputeOptions
) -> list[CellBlock]:
    """Read the objects; raise an error for those that the network could not embed."""
    blocks = []
    for number, adata in enumerate(objects):
        try:
            _, reader = open_cells(adata, checkpoint, reading)
            check_computable(checkpoint, reader, computing)
        except (KeyError, TypeError, ValueError) as error:
            if len(objects) > 1:
                error.add_note(f"This is about {name_object(number, objects)}.")
            raise
        blocks.append(reader.block())
    return blocks
