"""Write many small arrays of a zarr store through memory: each of them takes zarr milliseconds on a disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanpy_sct.store.merge import ZARR_FORMAT


@contextmanager
def through_memory(path: Path, name: str = "") -> Iterator[Any]:
    """Yield a zarr group in memory; what was written to it is saved as files of the store at ``path``.

    With ``name`` only the part of this name is saved, beside what the store has.
    """
    import zarr

    contents: dict[str, Any] = {}
    yield zarr.open_group(zarr.storage.MemoryStore(contents), mode="w", zarr_format=ZARR_FORMAT)
    for key, content in contents.items():
        if not name or key.startswith(f"{name}/"):
            file = path / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.to_bytes())
