"""Checkpoints that can be loaded by name."""

from scanpy_sct.checkpoints.models import describe, download, list

__all__ = ["describe", "download", "list"]
