"""Example data sets."""

from __future__ import annotations

from scanpy_sct.datasets.her2st import her2st
from scanpy_sct.datasets.pbmc68k import pbmc68k

__all__ = ["her2st", "pbmc68k"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
