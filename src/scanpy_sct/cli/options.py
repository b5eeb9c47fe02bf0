"""What the commands of `sct` share: their options, and how option values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scanpy_sct.run import options


def flag(*names: str, help: str) -> Any:
    """Make an option without a value, whose help shows no type."""
    return typer.Option(*names, metavar="", help=help)


Input = Annotated[Path, typer.Argument(help="Cells x genes, .h5ad or .zarr.", metavar="CELLS")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the result goes, .h5ad or .zarr.")]
Overwrite = Annotated[bool, flag("--overwrite", help="Replace the output if it exists, even the input.")]
Model = Annotated[str, typer.Option(help="Name of a checkpoint, a folder, or OWNER/NAME on the Hugging Face hub.")]
Layer = Annotated[str | None, typer.Option(help="Layer to read; without it, X.")]
LibraryKey = Annotated[str | None, typer.Option(help="Column of .obs that names the sample of each cell.")]
GeneNames = Annotated[str | None, typer.Option(help="Column of .var with gene names; without it, the index.")]
KeyAdded = Annotated[str, typer.Option(help="Name of the result.")]
# The functions' own types, so that the commands take what the functions take.
Bags = Annotated[options.BagPolicy, typer.Option(help="Which cells are read together.")]
Precision = Annotated[options.Precision, typer.Option(help="Numbers that the network computes with.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
BatchSize = Annotated[str, typer.Option(help="Bags computed at once: auto or a number.")]
Rng = Annotated[int, typer.Option(help="Seed; the same seed gives the same numbers.")]


def as_batch_size(text: str) -> int | Literal["auto"]:
    """Read the option `--batch-size`."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) == 0:
        msg = f"batch_size={text!r} must be a positive integer or 'auto'."
        raise ValueError(msg)
    return int(text)


def as_names(text: str | None) -> list[str] | None:
    """Read names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def is_known_gene(name: str) -> bool:
    """Return whether a name is that of a human gene."""
    from scanpy_sct.read.genes import to_ensembl

    return bool(to_ensembl([name]).ensembl_ids[0])
