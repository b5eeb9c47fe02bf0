"""Preprocessing checks: what would be used of an object, before anything is computed."""

from scanpy_sct.pp._check import Report, check

__all__ = ["Report", "check"]
