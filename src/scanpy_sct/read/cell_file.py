"""Find out whether a file holds an AnnData, before anything is read from it, and name what it holds instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TABLES = ("obs", "var")
FIRST_BYTES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; rename it to end with .h5ad",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x1f\x8b": "compressed with gzip; unpack it first (gunzip)",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
    b"%%MatrixMarket": "a Matrix Market file; read it with scanpy.read_mtx, and write it as .h5ad",
    b"<": "a web page, so the download failed; download it again",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself; fetch it with 'git lfs pull'",
}
OTHER_CONTENT = {
    ("matrix/barcodes",): "a matrix of 10x Genomics; read it with scanpy.read_10x_h5, and write it as .h5ad",
    ("row_attrs", "col_attrs"): "a loom file; read it with anndata.io.read_loom, and write it as .h5ad",
}
"""Names in a file -> what it is."""
OF_SEVERAL = {"mod": ("MuData", "modalities"), "tables": ("SpatialData", "tables")}
"""Name of a group of several AnnData -> what has it, and what they are."""


@contextmanager
def opened_group(path: Path) -> Iterator[Any]:
    """Open an h5ad or zarr file as a group of h5py or zarr, of which it is known that it holds an AnnData.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not what its name says, is incomplete, or holds something else.
    OSError
        The file cannot be opened, for example without the permission to read it.
    """
    if not path.exists():
        msg = f"{path} does not exist; check the path."
        raise FileNotFoundError(msg)
    if in_store(path):
        group = _zarr_group(path)
        _check_content(group, path)
        yield group
        return
    with _hdf5_file(path) as group:
        _check_content(group, path)
        yield group


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the libraries that read it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} cannot be read and seems damaged; copy or download it again ({type(error).__name__}: {error})."
        raise ValueError(msg) from error
    except Exception as error:
        if type(error).__name__ != "IORegistryError":  # it has no public name
            raise
        msg = f"{path} has parts that this version of anndata cannot read; update anndata ({error})."
        raise ValueError(msg) from error


def in_store(path: Path) -> bool:
    """Return whether a path is a zarr store or leads into one, such as to a table of a SpatialData."""
    return any(part.suffix == ".zarr" for part in (path, *path.parents)) and path.suffix not in (".h5ad", ".h5mu")


def check_cell_file(path: Path) -> None:
    """Raise the errors of :func:`opened_group`, without reading anything."""
    with opened_group(path):
        pass


def _hdf5_file(path: Path) -> Any:
    import h5py

    if path.is_dir():
        found = (
            "a zarr store; rename it to end with .zarr"
            if _has_zarr_metadata(path)
            else "a folder; give the path of the file"
        )
        msg = f"{path} is not an h5ad file but {found}."
        raise ValueError(msg)
    if path.stat().st_size == 0:
        msg = f"{path} is empty; write, copy or download it again."
        raise ValueError(msg)
    if not h5py.is_hdf5(path):
        _check_readable(path)
        msg = f"{path} is not an h5ad file but {_kind_of(path)}."
        raise ValueError(msg)
    try:
        return h5py.File(path, mode="r")
    except OSError as error:
        if isinstance(error, PermissionError | BlockingIOError):
            msg = f"{path} cannot be opened: {error}. Check its permissions, and close other programs that use it."
            raise OSError(error.errno, msg) from error
        msg = f"{path} is damaged or incomplete; copy or download it again ({error})."
        raise ValueError(msg) from error


def _zarr_group(path: Path) -> Any:
    import zarr

    if path.is_file():
        msg = f"{path} is not a zarr store (a folder) but {_kind_of(path)}."
        raise ValueError(msg)
    if not _has_zarr_metadata(path):
        msg = (
            f"{path} is not a zarr store, or an incomplete one: the folder has neither zarr.json nor .zgroup. Copy it "
            "again, or check the path."
        )
        raise ValueError(msg)
    with naming(path):
        # Consolidated metadata would also list what is no longer there.
        return zarr.open_group(path, mode="r", use_consolidated=False)


def _has_zarr_metadata(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def _check_readable(path: Path) -> None:
    with path.open("rb"):
        pass


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(32).lstrip()
    if not start.strip(b"\0"):
        return "empty; write, copy or download it again"
    for first, kind in FIRST_BYTES.items():
        if start.startswith(first):
            return kind
    return "another kind of file, or damaged; write it with adata.write_h5ad"


def _check_content(group: Any, path: Path) -> None:
    for names, kind in OTHER_CONTENT.items():
        if all(name in group for name in names) and "obs" not in group:
            msg = f"{path} does not hold an AnnData but {kind}."
            raise ValueError(msg)
    for name, (holder, parts) in OF_SEVERAL.items():
        if name in group and (name == "mod" or "obs" not in group):
            advice = _advise_part(path, name, sorted(group[name]), parts)
            msg = f"{path} does not hold an AnnData but a {holder}; {advice}."
            raise ValueError(msg)
    missing = [name for name in TABLES if name not in group]
    if missing:
        found = ", ".join(sorted(group)[:8]) or "nothing"
        msg = (
            f"{path} does not hold an AnnData, or not all of it: it lacks {' and '.join(missing)}; found {found}. "
            "Write it again with adata.write_h5ad or adata.write_zarr."
        )
        raise ValueError(msg)
    with naming(path):
        lost = [name for name in _matrices(group) if _lacks_chunks(group[name])]
    if lost:
        msg = f"{path} is incomplete: chunks of {', '.join(lost)} are missing; copy it again."
        raise ValueError(msg)


def _advise_part(path: Path, group: str, names: list[str], parts: str) -> str:
    """Say how to give one of several AnnData in a file."""
    if not names:
        return f"it has no {parts}"
    if in_store(path):
        return f"give the path of one of its {parts}: {' or '.join(f'{path}/{group}/{name}' for name in names)}"
    name = "rna" if "rna" in names else names[0]
    found = ", ".join(map(repr, names))
    code = f"mudata.read_h5mu({str(path)!r}).mod[{name!r}].write_h5ad({f'{name}.h5ad'!r})"
    return f"write one of its {parts} ({found}) as .h5ad, in Python: {code}"


def _matrices(group: Any) -> list[str]:
    return [name for name in ("X", "raw/X", *(f"layers/{name}" for name in group.get("layers", ()))) if name in group]


def _lacks_chunks(matrix: Any) -> bool:
    """Whether values of a sparse matrix in a zarr store are missing; zarr would read them as zeros.

    Of a dense matrix it cannot be known: chunks of zeros are not written.
    """
    data = matrix.get("data") if hasattr(matrix, "keys") else None
    # A shard counts as all of its chunks, also where the last one has fewer.
    return hasattr(data, "nchunks_initialized") and data.nchunks_initialized < data.nchunks
