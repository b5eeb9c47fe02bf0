"""The checkpoints of the package match their description."""

from __future__ import annotations

import numpy as np
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
def test_the_label_head_knows_blood(pbmc, name):
    head = sct.load_model(name).label_head
    assert len(head.labels) == 6
    assert "blood" in head.home.sources[0]
    adata = pbmc.copy()
    sct.tl.annotate(adata, model=name)
    assert adata.uns["sct_label"]["source"] == "label_head"
    types = {
        "CD19+ B": "B cell",
        "CD14+ Monocyte": "monocyte",
        "CD56+ NK": "natural killer cell",
        "CD4+/CD25 T Reg": "CD4-positive, alpha-beta T cell",
        "CD34+": "hematopoietic precursor cell",
    }
    of_type = adata.obs["bulk_labels"].astype(str).map(types)
    probable = adata.obsm["sct_label_probs"].idxmax(axis=1)
    assert (probable == of_type)[of_type.notna()].mean() > 0.8
    known = adata.obs["sct_label"].astype(str) != "unknown"
    assert (known & of_type.notna()).sum() > 0.5 * of_type.notna().sum()


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_no_known_type_are_unknown(pbmc, name, caplog):
    other = pbmc.copy()
    other.var_names = np.random.default_rng(0).permutation(other.var_names)
    sct.tl.annotate(other, model=name)
    assert (other.obs["sct_label"] == "unknown").mean() > 0.9
    assert "are unlike all cells that the label head of 'sct-mini' was fitted to" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_about_these_weights(name):
    assert sct.load_model(name).sha256 in sct.models.describe(name)


def test_it_is_small():
    files = [file for name in NAMES for file in (PACKAGED_FOLDER / name).iterdir()]
    assert sum(file.stat().st_size for file in files) <= 12e6
