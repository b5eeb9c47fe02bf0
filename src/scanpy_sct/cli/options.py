"""Options of several commands of `sct`, and parsers of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scanpy_sct import files
from scanpy_sct.read.options import GivenScale
from scanpy_sct.run import options


def flag(*names: str, help: str) -> Any:
    """Make a flag whose help shows no type."""
    return typer.Option(*names, metavar="", help=help)


Input = Annotated[Path, typer.Argument(help="Cells x genes, .h5ad or .zarr.", metavar="CELLS")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File of the result, .h5ad or .zarr.")]
Overwrite = Annotated[bool, flag("--overwrite", help="Replace the output if it exists, even the input.")]
Compression = Annotated[
    files.Compression, typer.Option(help="Of an output that ends in .h5ad; .zarr is always compressed.")
]
Summary = Annotated[bool, flag("--summary", help="Write a summary beside the output, as .summary.json and .tsv.")]
Json = Annotated[bool, flag("--json", help="Print the summary as JSON.")]
Model = Annotated[str, typer.Option(help="Name of a checkpoint, a folder, or OWNER/NAME on the Hugging Face hub.")]
Layer = Annotated[str | None, typer.Option(help="Layer to read; default: X.")]
LibraryKey = Annotated[str | None, typer.Option(help="Column of .obs with the sample of each cell.")]
GeneNames = Annotated[str | None, typer.Option(help="Column of .var with gene names; default: the index.")]
Scale = Annotated[GivenScale, typer.Option(help="What the values are; auto: found from the values.")]
KeyAdded = Annotated[str, typer.Option(help="Name of the result.")]
ReferenceLayer = Annotated[str | None, typer.Option(help="Layer of the reference to read; default: X.")]
ReferenceGeneNames = Annotated[
    str | None, typer.Option(help="Column of the reference's .var with gene names; default: as --gene-names.")
]
ReferenceScale = Annotated[GivenScale, typer.Option(help="What the values of the reference are.")]
# The types of the functions, so that commands accept what functions accept.
Bags = Annotated[options.BagPolicy, typer.Option(help="Which cells are read together.")]
Precision = Annotated[options.Precision, typer.Option(help="Number format of the network.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
BatchSize = Annotated[str, typer.Option(help="Bags computed at once: auto or an integer.")]
Rng = Annotated[int, typer.Option(help="Seed of the random numbers.")]


def as_batch_size(text: str) -> int | Literal["auto"]:
    """Parse the option `--batch-size`."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) == 0:
        msg = f"batch_size={text!r} must be a positive integer or 'auto'."
        raise ValueError(msg)
    return int(text)


def as_names(text: str | None) -> list[str] | None:
    """Parse names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def is_known_gene(name: str) -> bool:
    """Return whether a name is a human gene symbol, an Ensembl id, or the name of a protein."""
    from scanpy_sct.annotate.marker_names import fraction_of_genes

    return fraction_of_genes([name]) == 1
