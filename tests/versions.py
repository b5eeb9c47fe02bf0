"""Marks of tests that hold for some versions of a package only."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

NAMES_OF_ANNDATA_12 = pytest.mark.skipif(
    Version(version("anndata")) >= Version("0.13"),
    reason="from 0.13 on anndata writes other names: none with a slash, and such that differ in case only",
)
