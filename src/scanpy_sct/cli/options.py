"""What the commands of `sct` share: their options, how option values are read, and errors in the words of a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

_OPTIONS = (
    "bags batch_size blend calibrate config denoise device gene_names genes hide key_added labels_key layer "
    "library_key markers minutes model path precision reference reference_layer revision rng source steps store_bins "
    "threshold"
).split()
# `layer=` and layer='counts', not adata.layer and not a part of a path.
_ASSIGNED = re.compile(rf"(?<![.\w/])({'|'.join(_OPTIONS)})=(None|True|False|)(?=([`\s]|$)?)")
# By their names alone only those that are no words of English.
_LONG_NAME = re.compile(rf"(?<![-.\w/\[\"'])({'|'.join(name for name in _OPTIONS if '_' in name)})\b(?![/\"'])")


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
Bags = Annotated[str, typer.Option(help="Cells read together: auto, spatial, similar or random.")]
NetworkPath = Annotated[str, typer.Option(help="Part of the network that predicts: auto, full or direct.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
BatchSize = Annotated[str, typer.Option(help="Bags computed at once: auto or a number.")]
Rng = Annotated[int, typer.Option(help="Seed; the same seed gives the same numbers.")]


def as_batch_size(text: str) -> int | str:
    """Read the option `--batch-size`."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) == 0:
        msg = f"--batch-size {text} is neither 'auto' nor a positive whole number."
        raise ValueError(msg)
    return int(text)


def as_names(text: str | None) -> list[str] | None:
    """Read names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def is_known_gene(name: str) -> bool:
    """Tell whether a name stands for a human gene."""
    from scanpy_sct.read.genes import to_ensembl

    return bool(to_ensembl([name]).ensembl_ids[0])


def in_shell(message: str) -> str:
    """Put options in the place of the arguments of Python that a message names.

    Examples
    --------
    >>> in_shell("labels_key='x' is not there; name a layer with `layer=`.")
    "--labels-key 'x' is not there; name a layer with `--layer`."
    """
    return _LONG_NAME.sub(lambda found: _option(found[1]), _ASSIGNED.sub(_assigned, message))


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"


def _assigned(found: re.Match[str]) -> str:
    argument, constant, nothing_follows = found.groups()
    option = _option(argument)
    if constant:
        return {"None": f"no {option}", "True": option, "False": f"--no-{option[2:]}"}[constant]
    return option if nothing_follows is not None else f"{option} "
