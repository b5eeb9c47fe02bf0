"""Read and write files of users: cells, marker genes, settings."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanpy_sct.read.whole import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)

CELL_SUFFIXES = (".h5ad", ".zarr")


def read_cells(path: Path) -> AnnData:
    """Read an h5ad or zarr file into memory."""
    import anndata

    _check_input(path)
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


@contextmanager
def cells_for(path: Path, output: Path | None = None) -> Iterator[AnnData]:
    """Open the input of a command: in memory if the output is h5ad, else lazily, to stream it to the output."""
    if output is not None and output.suffix != ".zarr":
        yield read_cells(path)
        return
    _check_input(path)
    with opened(path) as adata:
        yield adata


@contextmanager
def store_for(output: Path) -> Iterator[Path | None]:
    """Give the path of the store for :func:`scanpy_sct.tl.impute`, None for h5ad; at the end it replaces ``output``.

    The path is the same every time, so that an interrupted command goes on where it was.
    """
    if output.suffix != ".zarr":
        yield None
        return
    new = output.with_name(f"{output.stem}.new.zarr") if output.exists() else output
    yield new
    if new != output:
        _put(new, output)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise an error if the output cannot be written."""
    _check_suffix(path, CELL_SUFFIXES)
    if path.exists() and not overwrite:
        msg = f"{path} already exists; choose another --output, or replace it with --overwrite."
        raise FileExistsError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"{path} cannot be written: the folder {path.absolute().parent} does not exist; create it first."
        raise FileNotFoundError(msg)


def write_cells(adata: AnnData, path: Path, *, overwrite: bool = False) -> None:
    """Write an h5ad or zarr file; if that fails, an earlier file is kept."""
    check_output(path, overwrite=overwrite)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if path.suffix == ".h5ad":
            adata.write_h5ad(new)
        else:
            adata.write_zarr(new)
        _put(new, path)
    finally:
        _remove(new)


def _put(new: Path, path: Path) -> None:
    """Move a file or folder to its place, where an earlier one may be."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        if path.is_dir():  # unlike a file, a folder cannot be replaced in one step
            path.rename(old)
        new.replace(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    finally:
        _remove(old)


def _check_input(path: Path) -> None:
    _check_suffix(path, CELL_SUFFIXES)
    if not path.exists():
        msg = f"{path} does not exist; check the path."
        raise FileNotFoundError(msg)


def read_markers(path: Path, is_gene: Callable[[str], bool]) -> dict[str, Any] | pd.DataFrame:
    """Read marker genes: a mapping from JSON, a table from CSV or TSV (also gzipped).

    A table whose first line has a gene in its second column, according to ``is_gene``, is read as one without a header.
    """
    import pandas as pd

    name = path.name.removesuffix(".gz")
    _check_suffix(Path(name), (".csv", ".tsv", ".json"))
    if name.endswith(".json"):
        return read_mapping(path)
    separator = "\t" if name.endswith(".tsv") else ","
    table = pd.read_csv(path, sep=separator)
    if len(table.columns) < 2 or not is_gene(str(table.columns[1])):
        return table
    logger.warning("%s has no header line; its first line is read as a type and a gene.", path)
    table = pd.read_csv(path, sep=separator, header=None)
    return table.rename(columns={0: "cell_type", 1: "gene"}).rename(columns=str)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a mapping from a JSON or TOML file."""
    _check_suffix(path, (".json", ".toml"))
    text = path.read_text(encoding="utf-8")
    values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    if not isinstance(values, dict):
        msg = f"{path} must contain a mapping at the top level, found {type(values).__name__}."
        raise ValueError(msg)
    return values


def _check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        msg = f"{path} has an unknown file name extension; use {' or '.join(suffixes)}."
        raise ValueError(msg)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
