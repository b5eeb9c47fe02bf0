"""The network that evaluations are tested with."""

from __future__ import annotations

import pytest

import scanpy_sct as sct


@pytest.fixture(scope="session")
def model(compact_checkpoint):
    """A tiny compact network with random weights, for the genes of `pbmc`."""
    return compact_checkpoint


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
