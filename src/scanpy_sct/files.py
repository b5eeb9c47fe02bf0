"""Files of the command line: cells, marker genes, settings."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)

CELL_SUFFIXES = (".h5ad", ".zarr")
# Those of PanglaoDB; other tables have the type in the first column and the gene in the second.
MARKER_COLUMNS = ("cell.type", "official.gene.symbol")


def read_cells(path: Path) -> AnnData:
    """Read an h5ad or zarr file into memory."""
    import anndata

    _check_suffix(path, CELL_SUFFIXES)
    if not path.exists():
        msg = f"{path} does not exist; check the path."
        raise FileNotFoundError(msg)
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise an error, before anything is computed, if the output could not be written."""
    _check_suffix(path, CELL_SUFFIXES)
    if path.exists() and not overwrite:
        msg = f"{path} already exists; choose another --output, or replace it with --overwrite."
        raise FileExistsError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"{path} cannot be written: the folder {path.absolute().parent} does not exist; create it first."
        raise FileNotFoundError(msg)


def write_cells(adata: AnnData, path: Path, *, overwrite: bool = False) -> None:
    """Write an h5ad or zarr file; if that fails, an earlier file stays as it was."""
    check_output(path, overwrite=overwrite)
    with _replacing(path) as temporary:
        if path.suffix == ".h5ad":
            adata.write_h5ad(temporary)
        else:
            adata.write_zarr(temporary)


def read_markers(path: Path, *, is_gene: Callable[[str], bool] | None = None) -> dict[str, list[str]] | pd.DataFrame:
    """Read marker genes: a mapping from JSON, a table from CSV or TSV (also gzipped).

    Parameters
    ----------
    path
        The file. The first line of a table is its header.
    is_gene
        Returns whether a name is that of a gene. A first line with a gene in its second column is then not a header.
    """
    if path.suffix == ".json":
        markers = read_mapping(path)
        genes = {str(gene) for each in markers.values() for gene in (each if isinstance(each, list) else [each])}
        logger.info("%s: %d types, %d genes.", path, len(markers), len(genes))
        return markers
    table = _read_marker_table(path, is_gene)
    columns = list(MARKER_COLUMNS if set(MARKER_COLUMNS) <= set(table) else table.columns[:2])
    if len(columns) == 2:  # for others, the function raises an error
        logger.info("%s: %d types, %d genes.", path, *table[columns].nunique())
    return table


def _read_marker_table(path: Path, is_gene: Callable[[str], bool] | None) -> pd.DataFrame:
    import pandas as pd

    name = path.name.removesuffix(".gz")
    _check_suffix(Path(name), (".csv", ".tsv", ".json"))
    separator = "\t" if name.endswith(".tsv") else ","
    table = pd.read_csv(path, sep=separator)
    if is_gene is None or len(table.columns) < 2 or not is_gene(str(table.columns[1])):
        return table
    logger.warning("%s has no header line: its first line is read as a type and its gene.", path)
    table = pd.read_csv(path, sep=separator, header=None)
    return table.rename(columns={0: "cell_type", 1: "gene"}).rename(columns=str)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a mapping from a JSON or TOML file."""
    _check_suffix(path, (".json", ".toml"))
    text = path.read_text(encoding="utf-8")
    values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    if not isinstance(values, dict):
        msg = f"{path} must contain a mapping at the top level, not a {type(values).__name__}."
        raise ValueError(msg)
    return values


def _check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        msg = f"{path} has an unknown file name extension; use {' or '.join(suffixes)}."
        raise ValueError(msg)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if path.is_dir():
            # A folder cannot be replaced in one step: the old one is kept until the new one is in its place.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
