"""Example data sets."""

from scanpy_sct.datasets._her2st import her2st
from scanpy_sct.datasets._pbmc68k import pbmc68k

__all__ = ["her2st", "pbmc68k"]
