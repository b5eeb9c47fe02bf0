"""Before anything is computed: what would be used."""

from scanpy_sct.pp._check import Report, check

__all__ = ["Report", "check"]
