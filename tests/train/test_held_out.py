from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scanpy_sct.model import Bags, make_network
from scanpy_sct.train.data import TrainingBag
from scanpy_sct.train.held_out import (
    HeldOut,
    _baselines,
    _variants,
    ablated,
    held_out_bags,
    transformer_layers,
    validate,
)
from scanpy_sct.train.sources import open_sources
from scanpy_sct.train.start import hold_out, token_rules

CPU = torch.device("cpu")


@pytest.fixture
def network(each_config):
    torch.manual_seed(0)
    return make_network(each_config.network, 120).eval()


@pytest.fixture
def bags(files, genes, config):
    sources = open_sources(files, genes)
    return held_out_bags(sources, hold_out(sources, config), token_rules(genes, config), config)


def test_bags_repeat_and_predict_masked_entries_only(files, genes, config, bags):
    sources = open_sources(files, genes)
    again = held_out_bags(sources, hold_out(sources, config), token_rules(genes, config), config)
    for one, other in zip(bags, again, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        assert (one.tokens.ravel()[one.token_index] == 6).all()
        assert len(one.tokens) <= 50
        assert len(np.unique(one.token_index // 120)) <= 16


def test_noise_cannot_be_predicted(config, genes, tmp_path):
    """Neighbouring cells are chosen by visible entries; chosen by all of them, baselines gain .04 to .07 here."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.2, (1000, 120)).astype(np.float32)
    noise = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=genes))
    noise.obs_names = noise.obs_names.astype(str)
    noise.write_h5ad(tmp_path / "noise.h5ad")
    sources = open_sources([tmp_path / "noise.h5ad"], genes)
    bags = held_out_bags(sources, hold_out(sources, config), token_rules(genes, config), config)
    report = validate(make_network(config.network, 120), HeldOut(bags, np.full(120, 0.2)), CPU)
    fraction = np.mean([(bag.bins > 0).mean() for bag in bags])
    assert abs(report["auprc_bag_mean"] - fraction) < 0.03
    assert abs(report["auprc_knn"] - fraction) < 0.03


def test_bags_of_one_cell_are_not_used(files, genes, config):
    sources = open_sources(files, genes)
    for source in sources:
        object.__setattr__(source, "samples", np.arange(80) // 2)
    bags = held_out_bags(sources, hold_out(sources, config), token_rules(genes, config), config)
    assert bags
    assert all(len(bag.tokens) == 2 for bag in bags)


def test_everything_is_reported(network, bags):
    report = validate(network, HeldOut(bags, np.full(120, 0.5)), CPU)
    assert set(report) == {
        *(f"{what}_{name}" for what in ("loss", "auprc") for name in ("network", "ablated", "alone")),
        *(f"auprc_{name}" for name in ("gene_constant", "bag_mean", "knn")),
    }
    assert np.isfinite(list(report.values())).all()


@torch.no_grad()
def test_alone_is_every_cell_in_a_bag_of_its_own(network, bags):
    bag = bags[0]
    found = dict(_variants(network, bag, CPU))["alone"]
    cells, genes = np.divmod(bag.token_index, 120)
    expected = [
        network.bin_logits(Bags(torch.from_numpy(bag.tokens[None, [cell]])), torch.from_numpy(genes[cells == cell]))
        for cell in np.unique(cells)
    ]
    torch.testing.assert_close(found, torch.cat(expected))


@torch.no_grad()
def test_ablation_removes_attention_within_the_context_only(network, bags):
    tokens = Bags(torch.from_numpy(bags[0].tokens)[None])
    layers, outputs = transformer_layers(network), []
    handle = layers[-1].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    index = torch.from_numpy(bags[0].token_index)
    before = network.bin_logits(tokens, index)
    with ablated(layers):
        without = network.bin_logits(tokens, index)
    after = network.bin_logits(tokens, index)
    handle.remove()
    assert outputs[0].std(1).max() > 0
    torch.testing.assert_close(after, before)
    assert not torch.equal(without, before)


def test_baselines():
    tokens = np.zeros((4, 120), dtype=np.uint8)
    tokens[:3, 0] = 1
    tokens[0, 1:20] = 2  # one cell like the first, two unlike it
    tokens[1, 1:20] = 2
    tokens[0, 50] = tokens[0, 51] = 6
    tokens[1, 50] = 3
    bag = TrainingBag(tokens, np.array([50, 51]), np.array([1, 0], dtype=np.uint8), np.zeros((4, 2)))
    rate = 0.8
    scores = dict(_baselines(bag, np.full(120, rate), n_bins=6))
    np.testing.assert_allclose(scores["gene_constant"], rate)
    np.testing.assert_allclose(scores["bag_mean"], [(1 + rate) / 4, rate / 4])
    np.testing.assert_allclose(scores["knn"], [(1 + rate) / 4, rate / 4])
