"""Folders of format version 1, written by the package before networks were split in two, are still read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scanpy_sct.checkpoints import TokenSettings, read_checkpoint, save_checkpoint
from scanpy_sct.model import Bags, CompactConfig

OLD = Path(__file__).parents[1] / "data" / "version_1"


@pytest.fixture
def expected():
    return {name: torch.from_numpy(array) for name, array in np.load(OLD / "expected.npz").items()}


@pytest.fixture
def changed(tmp_path):
    """Return a function that copies the old folder, with some of the values in its `config.json` changed."""

    def make(**changes):
        folder = Path(shutil.copytree(OLD / "compact", tmp_path / "old"))
        config = json.loads((folder / "config.json").read_text())
        for section, values in changes.items():
            config[section] = config[section] | values if isinstance(values, dict) else values
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


def test_facts():
    checkpoint = read_checkpoint(OLD / "compact")
    assert checkpoint.config == CompactConfig(
        n_bins=8, bag_size=6, cell_dim=4, cell_layers=1, bag_correction=True, reads_coordinates=True
    )
    assert checkpoint.tokens == TokenSettings(binning="counts", scale="log1p_counts")
    assert (checkpoint.name, checkpoint.coordinates, checkpoint.revision) == ("old", "spacing", "abc")


@torch.no_grad()
def test_a_compact_network_computes_what_it_did(expected, tmp_path):
    checkpoint = read_checkpoint(OLD / "compact")
    again = read_checkpoint(save_checkpoint(tmp_path / "new", checkpoint))
    assert json.loads((tmp_path / "new" / "config.json").read_text())["format_version"] == 2
    bags, index = Bags(expected["tokens"], expected["coordinates"]), torch.arange(expected["tokens"].numel())
    for network in (checkpoint.network, again.network):
        for name, weight in (("logits", 1.0), ("half_logits", 0.5)):
            found = network.bin_logits(bags, index, cell_weight=weight).softmax(-1)
            torch.testing.assert_close(found, expected[name].flatten(0, 2).softmax(-1), atol=1e-5, rtol=0)
        torch.testing.assert_close(network.cell_embedding(bags), expected["cell_embedding"], atol=1e-5, rtol=0)


def test_a_released_network_is_read(tiny, tmp_path):
    folder = save_checkpoint(tmp_path / "released", tiny)
    config = json.loads((folder / "config.json").read_text())
    old = json.loads((OLD / "compact" / "config.json").read_text())
    del config["architecture"]
    ours = {"convolutions": True, "context": False, "cell_dim": 0, "cell_layers": 0, "bag_correction": False}
    config |= {"format_version": 1, "temperature": 1.0, "embedding": "transformer", "path": "full"}
    config["network"] = old["network"] | ours | {"level_shift": False} | config["network"]
    config["tokens"] |= {"n_bins": 4, "unmeasured": "mask"}
    (folder / "config.json").write_text(json.dumps(config))
    found = read_checkpoint(folder)
    assert (found.config, found.tokens) == (tiny.config, tiny.tokens)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": {"convolutions": True}}, "convolutions beside a profile or a cell embedding"),
        ({"network": {"level_shift": False}}, "a cell embedding without level_shift"),
        ({"network": {"sigma_max": 20.0}}, "other scales of the coordinates"),
        ({"tokens": {"unmeasured": "zero"}}, "unmeasured='zero'"),
        ({"tokens": {"n_bins": 4}}, "n_bins=4 beside mask_token_id=8"),
        ({"temperature": 0.9}, r"temperature=0\.9"),
    ],
)
def test_networks_that_are_no_longer_supported_are_refused(changed, changes, reason):
    with pytest.raises(ValueError, match=rf"no longer supported \({reason}.*train a compact network"):
        read_checkpoint(changed(**changes))


def test_quantile_bins_are_refused(changed):
    with pytest.raises(ValueError, match="binning='quantile' is not known"):
        read_checkpoint(changed(tokens={"binning": "quantile"}))


def test_unknown_keys_are_refused(changed):
    with pytest.raises(ValueError, match=r"unknown: surprise"):
        read_checkpoint(changed(surprise=1))
