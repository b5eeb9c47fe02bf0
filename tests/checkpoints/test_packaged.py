"""The checkpoints of the package match their description."""

from __future__ import annotations

import pytest

import scanpy_sct as sct
from scanpy_sct.checkpoints.registry import PACKAGED_FOLDER

NAMES = ("sct-mini", "sct-mini-spatial")


@pytest.mark.parametrize("name", NAMES)
def test_network_and_tokens(name):
    checkpoint = sct.load_model(name)
    assert checkpoint.name == name
    assert checkpoint.architecture == "compact"
    assert (checkpoint.tokens.binning, checkpoint.config.n_bins) == ("counts", 8)
    assert (checkpoint.genes != "").sum() == 19_937
    assert checkpoint.license == "CC BY 4.0"
    assert checkpoint.config.reads_coordinates == (name == "sct-mini-spatial")


def test_label_heads():
    assert len(sct.load_model("sct-mini").label_head.labels) == 10
    assert sct.load_model("sct-mini-spatial").label_head is None


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_about_these_weights(name):
    assert sct.load_model(name).sha256 in sct.models.describe(name)


def test_both_together_are_small():
    files = [file for name in NAMES for file in (PACKAGED_FOLDER / name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 24e6


def test_coordinates_are_required(pbmc):
    with pytest.raises(ValueError, match=r"'sct-mini-spatial' reads coordinates from .obsm\['spatial'\].*'sct-mini'"):
        sct.tl.impute(pbmc.copy(), model="sct-mini-spatial")
