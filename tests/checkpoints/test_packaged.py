"""The checkpoints of the package match their description."""

from __future__ import annotations

import pytest

import scanpy_sct as sct
from scanpy_sct.checkpoints.registry import PACKAGED_FOLDER

NAMES = ("sct-mini",)


@pytest.mark.parametrize("name", NAMES)
def test_network_and_tokens(name):
    checkpoint = sct.load_model(name)
    assert checkpoint.name == name
    assert checkpoint.architecture == "compact"
    assert (checkpoint.tokens.binning, checkpoint.config.n_bins) == ("counts", 8)
    assert (checkpoint.genes != "").sum() == 19_937
    assert checkpoint.license == "CC BY 4.0"
    assert not checkpoint.config.reads_coordinates


@pytest.mark.parametrize("name", NAMES)
def test_no_label_head_is_used_unasked(pbmc, name):
    assert sct.load_model(name).label_head is None
    adata = pbmc.copy()
    adata.obsm["spatial"] = adata.obsm["X_umap"]
    with pytest.raises(ValueError, match=r"no label head; pass reference= and labels_key= .* or markers="):
        sct.tl.annotate(adata, model=name)
    assert "sct_label" not in adata.obs


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_about_these_weights(name):
    assert sct.load_model(name).sha256 in sct.models.describe(name)


def test_it_is_small():
    files = [file for name in NAMES for file in (PACKAGED_FOLDER / name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 12e6
