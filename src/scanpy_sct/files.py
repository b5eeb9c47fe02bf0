"""Read and write files of users: cells, marker genes, settings."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scanpy_sct.read.cell_file import check_cell_file, in_store, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)

CELL_SUFFIXES = (".h5ad", ".zarr")
Compression = Literal["gzip", "none"]
"""Of h5ad files."""


def read_cells(path: Path) -> AnnData:
    """Read an h5ad or zarr file into memory."""
    import anndata

    check_input(path)
    with naming(path):
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


@contextmanager
def cells_for(
    path: Path, output: Path | None = None, added: tuple[str, str] | None = None, n_genes: int | None = None
) -> Iterator[AnnData]:
    """Open the input of a command: in memory if the output is h5ad, else lazily, to stream it to the output.

    Parameters
    ----------
    path
        The input.
    output
        The output; None: nothing is written.
    added
        Field of the object and name of the result that is written there.
    n_genes
        Number of genes of a result in the layers; None: all.

    Raises
    ------
    ValueError
        The input is damaged or holds something else, or something in it cannot be written to the output.
    OSError
        The input does not exist, or the disk of the output is full.
    """
    from scanpy_sct.read.whole import opened

    check_input(path)
    if output is None:
        with opened(path) as adata:
            yield adata
    elif output.suffix == ".zarr":
        with opened(path) as adata, _naming_damage(path):
            _check_result(adata, output, added, n_genes)
            yield adata
    else:
        adata = read_cells(path)
        _check_result(adata, output, added, n_genes)
        yield adata


def _check_result(adata: AnnData, output: Path, added: tuple[str, str] | None, n_genes: int | None) -> None:
    """Raise an error if the object could not be written, or the result would not fit on the disk."""
    from scanpy_sct.read.whole import storable_copy
    from scanpy_sct.store import check_storable

    folder = output.absolute().parent
    with storing(output):
        check_storable(storable_copy(adata), output.suffix, folder, str(output), dict([added] if added else []))
    per_cell = 4 * adata.n_vars if n_genes is None else min(4 * adata.n_vars, 8 * n_genes)  # few genes: sparse
    needed = adata.n_obs * per_cell if added and added[0] == "layers" and output.suffix == ".h5ad" else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{output} needs about {needed / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB left. Free some, "
            "choose another disk, or ask for fewer genes."
        )
        raise OSError(errno.ENOSPC, msg)


def output_notes(adata: AnnData) -> Iterator[str]:
    """Say, for each format, what of an object an output could not hold."""
    from scanpy_sct.read.whole import storable_copy
    from scanpy_sct.store import check_storable

    with tempfile.TemporaryDirectory() as folder:
        for suffix in CELL_SUFFIXES:
            try:
                check_storable(storable_copy(adata), suffix, Path(folder), f"An output that ends in {suffix}")
            except ValueError as error:
                yield str(error)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Name the output in an error of the disk."""
    try:
        yield
    except OSError as error:
        msg = f"{path} cannot be written: {error}; free some space, make the folder writable, or choose another."
        raise OSError(error.errno, msg) from error


_OF_DAMAGE = ("synchronously read", "decompress", "shard is truncated", "checksum do not match")
"""What errors of h5py, numcodecs and zarr say where a piece of a file is damaged."""


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Name the input where a damaged piece of its matrix is found only while it is read."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if not any(text in str(error) for text in _OF_DAMAGE):
            raise
        msg = f"{path} is damaged; copy or download it again ({error})."
        raise ValueError(msg) from error


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


def check_output(path: Path, *, overwrite: bool, others: Sequence[Path] = ()) -> None:
    """Raise an error if the output cannot be written.

    Parameters
    ----------
    path
        The output.
    overwrite
        Whether an earlier one may be replaced.
    others
        Files that are only read and are not replaced, such as a reference.
    """
    _check_suffix(path, CELL_SUFFIXES)
    folder = path.absolute().parent
    if path.exists() and not overwrite:
        msg = f"{path} already exists; choose another --output, or replace it with --overwrite."
        raise FileExistsError(msg)
    if not folder.is_dir():
        msg = f"{path} cannot be written: the folder {folder} does not exist; create it first."
        raise FileNotFoundError(msg)
    if not os.access(folder, os.W_OK):
        msg = f"{path} cannot be written: no permission to write to the folder {folder}; choose another --output."
        raise PermissionError(msg)
    if path.exists():
        _check_replaceable(path, others)


def _check_replaceable(path: Path, others: Sequence[Path]) -> None:
    for other in others:
        if other.exists() and path.samefile(other):
            msg = f"--output {path} is also read as a reference or table; choose another --output."
            raise ValueError(msg)
    is_store = any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    if path.is_dir() and not (path.suffix == ".zarr" and is_store) and any(path.iterdir()):
        msg = f"{path} is a folder with other files, which --overwrite does not replace; choose another --output."
        raise FileExistsError(msg)


def write_cells(adata: AnnData, path: Path, *, overwrite: bool = False, compression: Compression = "gzip") -> None:
    """Write an h5ad or zarr file; if that fails, an earlier file is kept. zarr files are always compressed."""
    check_output(path, overwrite=overwrite)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with storing(path):
            if path.suffix == ".h5ad":
                adata.write_h5ad(new, compression=None if compression == "none" else compression)
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


def check_input(path: Path) -> None:
    """Raise an error if a file of cells does not exist, is damaged or holds something else; reads hardly anything."""
    # A missing file is named first, and a MuData with what to do; a table in a store needs no extension.
    if path.exists() and path.suffix != ".h5mu" and not in_store(path):
        _check_suffix(path, CELL_SUFFIXES)
    check_cell_file(path)


def check_table(path: Path) -> None:
    """Raise an error if a table cannot be written there."""
    if not path.expanduser().absolute().parent.is_dir():
        msg = f"{path} cannot be written: its folder does not exist; create it first."
        raise FileNotFoundError(msg)


def write_table(table: Any, path: Path) -> None:
    """Write a table of cells to a CSV file; of lazy objects, it is read first."""
    table = table.to_memory() if hasattr(table, "to_memory") else table
    table.to_csv(path, index_label="cell")


def read_markers(path: Path, is_gene: Callable[[str], bool]) -> dict[str, Any] | pd.DataFrame:
    """Read marker genes: a mapping from JSON, a table from CSV or TSV (also gzipped).

    A table whose first line holds types and genes like the lines below it, according to ``is_gene``, has no header.
    """
    import pandas as pd

    name = path.name.removesuffix(".gz")
    _check_suffix(Path(name), (".csv", ".tsv", ".json"))
    if name.endswith(".json"):
        return read_mapping(path)
    separator = "\t" if name.endswith(".tsv") else ","
    table = pd.read_csv(path, sep=separator)
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        separator = ";"
        table = pd.read_csv(path, sep=separator)
    in_header = [is_gene(str(name)) for name in table]
    in_lines = [any(map(is_gene, table[name].dropna().astype(str).head(5))) for name in table] if any(in_header) else []
    if in_header != in_lines or all(in_header):
        return table
    logger.warning(
        "%s has no header line, so its first line is read as a type and a gene; add the line 'type,gene' to be sure.",
        path,
    )
    table = pd.read_csv(path, sep=separator, header=None)
    if sum(in_header) > 1:  # a type and several genes in each line
        return table.set_index(in_header.index(False))
    return table.rename(columns={in_header.index(False): "cell_type", in_header.index(True): "gene"}).rename(
        columns=str
    )


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
