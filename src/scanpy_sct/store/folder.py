"""The folder in which a result is collected, and the store that it becomes."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.store.base import write_base
from scanpy_sct.store.merge import ZARR_FORMAT, Merge
from scanpy_sct.store.parts import stored_arrays, write_arrays

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

logger = logging.getLogger(__name__)

SUFFIX = ".zarr"
N_DIFFERENCES = 10
"""Differences of two calls that an error lists."""


@dataclass(frozen=True)
class PartStore:
    """Parts of a result on disk, and the store that they become.

    Work happens in the folder ``<out>.partial`` beside the output, so the output appears only when it is complete, and
    nothing else is touched. The object holds only a path, so processes can share it: each may write other parts.
    """

    out: Path
    """The store that appears at the end; absolute."""

    @classmethod
    def open(cls, out: str | PathLike[str], fingerprint: Mapping[str, Any], n_bytes: int = 0) -> PartStore:
        """Begin a result, or go on with one that was interrupted.

        Parameters
        ----------
        out
            The store to write, a path that ends with ``.zarr``.
        fingerprint
            Everything on which the result depends, as JSON can store it: a partial result can be completed only by a
            call with the same.
        n_bytes
            Estimate of the size of the result.

        Raises
        ------
        ValueError
            The path does not end with ``.zarr`` or exists, or the partial result is of another call.
        OSError
            The folder cannot be made, or the disk has not enough space.
        """
        store = cls(_checked_path(out))
        given = json.loads(json.dumps(fingerprint))
        if store._is_spent():
            shutil.rmtree(store.partial)
        store._check_partial(given)
        try:
            store.partial.mkdir(exist_ok=True)
            _write_json(store._plan, given)
        except OSError as error:
            msg = f"out={str(store.out)!r} cannot be written: {error}; make its folder writable, or choose another."
            raise OSError(error.errno, msg) from error
        store._check_space(n_bytes)
        return store

    @property
    def partial(self) -> Path:
        """Folder of the result until it is complete; also for small files of the caller, such as the fit."""
        return self.out.with_name(f"{self.out.name}.partial")

    def has_part(self, number: int) -> bool:
        """Whether the part of a block is complete."""
        return self._folder(number).is_dir()

    def write_part(self, number: int, arrays: Mapping[str, np.ndarray | sparse.csr_matrix]) -> None:
        """Write the part of a block; if another process has already written it, that one is kept.

        Parameters
        ----------
        number
            Number of the block.
        arrays
            Arrays and CSR matrices by name. Those that become layers have the cells of the block along the first axis.
        """
        temporary = Path(tempfile.mkdtemp(prefix=f".{self._folder(number).name}.", dir=self.partial))
        try:
            write_arrays(temporary, arrays)
            temporary.rename(self._folder(number))
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (isinstance(error, OSError) and self.has_part(number)):
                raise

    def read_part(self, number: int, names: Sequence[str] | None = None, rows: slice = slice(None)) -> dict[str, Any]:
        """Read arrays of a part into memory; once the merge has begun, only those that do not become layers.

        Parameters
        ----------
        number
            Number of the block.
        names
            Names of the arrays; None: all.
        rows
            Consecutive rows.
        """
        arrays = stored_arrays(self._folder(number))
        return {name: arrays[name].read(rows) for name in (arrays if names is None else names)}

    def finish(
        self,
        adata: AnnData,
        blocks: Sequence[np.ndarray],
        layers: Mapping[str, str],
        on_rows: Callable[[int], object] | None = None,
    ) -> Path:
        """Merge the parts into an AnnData store, and move it to its place.

        If it is interrupted, a second call goes on where the first one stopped. Parts are deleted as they are used up.

        Parameters
        ----------
        adata
            Everything but the new layers. Dask arrays are written chunk by chunk.
        blocks
            Rows of each block in the object, increasing.
        layers
            Name of an array of the parts -> name of the layer it becomes. A layer of this name in ``adata`` is
            replaced.
        on_rows
            Called with the number of rows that were merged since the last time.

        Returns
        -------
        The path of the store.
        """
        import zarr

        _check_absent(self.out)
        folders = [self._folder(number) for number in range(len(blocks))]
        missing = [number for number in range(len(blocks)) if not self.has_part(number)]
        if missing:
            msg = f"{str(self.partial)!r} lacks the parts {missing}; write them first."
            raise ValueError(msg)
        merge = Merge(folders, blocks, layers, adata.shape)
        for leftover in self.partial.glob(".part-*"):  # of writers that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        done = self._merged_rows()
        if done is None:
            write_base(adata, self._result, without_layers=layers.values())
        group = zarr.open_group(self._result, mode="r+", zarr_format=ZARR_FORMAT, use_consolidated=False)
        if done is None:
            merge.create(group["layers"])
            _write_json(self._progress, {"rows": 0})
        self._merge(merge, group["layers"], done or 0, on_rows)
        zarr.consolidate_metadata(self._result, zarr_format=ZARR_FORMAT)
        self._publish()
        return self.out

    def _merge(self, merge: Merge, layers: Any, done: int, on_rows: Callable[[int], object] | None) -> None:
        if on_rows is not None and done:
            on_rows(done)
        for rows in merge.windows(layers, done):
            _write_json(self._progress, {"rows": rows})
            merge.drop(rows)
            if on_rows is not None:
                on_rows(rows - done)
            done = rows

    def _publish(self) -> None:
        _check_absent(self.out)
        self._result.rename(self.out)
        shutil.rmtree(self.partial, ignore_errors=True)
        if self.partial.exists():
            logger.warning("%s is complete, but %s could not be deleted; delete it yourself.", self.out, self.partial)

    @property
    def _plan(self) -> Path:
        return self.partial / "plan.json"

    @property
    def _progress(self) -> Path:
        return self.partial / "merged.json"

    @property
    def _result(self) -> Path:
        return self.partial / "result.zarr"

    def _folder(self, number: int) -> Path:
        return self.partial / f"part-{number:06d}"

    def _merged_rows(self) -> int | None:
        """Return the number of merged rows; None if the merge has not begun."""
        return json.loads(self._progress.read_text(encoding="utf-8"))["rows"] if self._progress.exists() else None

    def _is_spent(self) -> bool:
        """Whether this is a leftover of a complete result, which was moved to its place (and has left it since)."""
        return self._plan.exists() and self._progress.exists() and not self._result.exists()

    def _check_partial(self, fingerprint: dict[str, Any]) -> None:
        if not self.partial.exists():
            return
        ways_out = f"delete {str(self.partial)!r}, or choose another path as out."
        try:
            earlier = json.loads(self._plan.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if self.partial.is_dir() and not [path for path in self.partial.iterdir() if path.name[0] != "."]:
                return  # killed before its first file was complete
            msg = f"out={str(self.out)!r}: {str(self.partial)!r} exists and is no partial result; {ways_out}"
            raise ValueError(msg) from None
        differences = list(_differences(earlier, fingerprint))
        if differences:
            more = len(differences) - N_DIFFERENCES
            lines = [*differences[:N_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
            msg = (
                f"out={str(self.out)!r}: a partial result of another call exists, which differs in "
                f"{'; '.join(lines)}. Repeat that call to complete it, {ways_out}"
            )
            raise ValueError(msg)

    def _check_space(self, n_bytes: int) -> None:
        free = shutil.disk_usage(self.partial).free
        present = sum(path.stat().st_size for path in self.partial.rglob("*") if path.is_file())
        if n_bytes - present > free:
            msg = (
                f"out={str(self.out)!r} needs about {n_bytes / 1e9:.1f} GB, of which {present / 1e9:.1f} GB are there; "
                f"the disk has {free / 1e9:.1f} GB left. Free some, choose another disk, or ask for fewer genes."
            )
            raise OSError(errno.ENOSPC, msg)


def open_layer(path: str | PathLike[str], name: str) -> Any:
    """Open a layer of a store as a dask array of dense or CSR chunks of whole rows; nothing is read yet."""
    import zarr
    from anndata.experimental import read_elem_lazy

    return read_elem_lazy(zarr.open_group(Path(path).expanduser(), mode="r")[f"layers/{name}"])


def _checked_path(out: str | PathLike[str]) -> Path:
    path = Path(out).expanduser().absolute()
    if path.suffix != SUFFIX:
        msg = f"out={str(out)!r} must end with {SUFFIX!r}; use out={str(Path(out).with_suffix(SUFFIX))!r}."
        raise ValueError(msg)
    if "://" in str(out):
        msg = f"out={str(out)!r} is an address; use a path on a disk, and copy the store when it is complete."
        raise ValueError(msg)
    _check_absent(path)
    return path


def _check_absent(path: Path) -> None:
    if path.exists() or path.is_symlink():
        msg = f"out={str(path)!r} already exists; delete it, or choose another path."
        raise ValueError(msg)


def _differences(earlier: Any, now: Any, name: str = "") -> Iterator[str]:
    """Describe where two nested mappings differ."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in sorted(earlier.keys() | now.keys()):
            yield from _differences(earlier.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif earlier != now:
        yield f"{name}: {_shown(earlier)} there, {_shown(now)} now"


def _shown(value: Any, length: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= length else f"{text[:length]}..."


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that is never seen incomplete."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")  # several processes may open the same
    new.write_text(json.dumps(values, indent=1), encoding="utf-8")
    new.replace(path)
