"""The checkpoints that can be used by name: list, describe, download."""

from scanpy_sct.checkpoints.models import describe, download, list

__all__ = ["describe", "download", "list"]
