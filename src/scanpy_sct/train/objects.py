"""One AnnData or several, as what learns from embeddings takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scanpy_sct.run.inputs import check_coordinates, choose_bag_policy
from scanpy_sct.tl._common import read

if TYPE_CHECKING:
    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.expression import Expression


def as_objects(data: AnnData | Sequence[AnnData]) -> list[AnnData]:
    """Return a list of the objects, or refuse what is none."""
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
    """Name an object as messages do."""
    return f"data[{number}]" if len(objects) > 1 else "data"


def read_objects(
    objects: Sequence[AnnData], checkpoint: Checkpoint, bags: str, keys: Mapping[str, str | None]
) -> list[Expression]:
    """Read the objects, and refuse what the network could not embed."""
    expressions = []
    for number, adata in enumerate(objects):
        try:
            _, expression = read(adata, checkpoint, **keys)
            check_coordinates(checkpoint, expression)
            choose_bag_policy(bags, expression)
        except (KeyError, TypeError, ValueError) as error:
            if len(objects) > 1:
                error.add_note(f"This is about {name_object(number, objects)}.")
            raise
        expressions.append(expression)
    return expressions
