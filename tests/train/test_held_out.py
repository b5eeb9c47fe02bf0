from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scanpy_sct.model import Sct
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.data import TrainingBag
from scanpy_sct.train.held_out import _baselines, held_out_bags, lesion, validate
from scanpy_sct.train.pretrain import hold_out
from scanpy_sct.train.sources import open_sources


@pytest.fixture
def network(config):
    torch.manual_seed(0)
    network = Sct(config.network, 120)
    torch.nn.init.normal_(network.head[-1].weight)
    return network.eval()


@pytest.fixture
def bags(files, genes, config):
    sources = open_sources(files, genes)
    rules = TokenRules(genes, mask=5, pad=6)
    return held_out_bags(sources, hold_out(sources, config), rules, config)


def test_bags_repeat_and_ask_for_hidden_entries_only(files, genes, config, bags):
    sources = open_sources(files, genes)
    again = held_out_bags(sources, hold_out(sources, config), TokenRules(genes, mask=5, pad=6), config)
    for one, other in zip(bags, again, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        assert (one.tokens.ravel()[one.places] == 5).all()
        assert len(one.tokens) <= 50
        assert len(np.unique(one.places // 120)) <= 16


def test_noise_cannot_be_predicted(network, config, genes, tmp_path):
    """The company of a cell is chosen by what is visible of it; chosen by all of it, baselines gain .04 to .07 here."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.2, (1000, 120)).astype(np.float32)
    noise = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=genes))
    noise.obs_names = noise.obs_names.astype(str)
    noise.write_h5ad(tmp_path / "noise.h5ad")
    sources = open_sources([tmp_path / "noise.h5ad"], genes)
    config = replace(config, mask_fraction=0.25)
    bags = held_out_bags(sources, hold_out(sources, config), TokenRules(genes, mask=5, pad=6), config)
    report = validate(network, bags, torch.device("cpu"))
    share = np.mean([(bag.truth > 0).mean() for bag in bags])
    assert abs(report["auprc_bag_mean"] - share) < 0.03
    assert abs(report["auprc_knn"] - share) < 0.03


def test_bags_of_one_cell_are_no_test(files, genes, config):
    sources = open_sources(files, genes)
    for source in sources:
        object.__setattr__(source, "samples", np.arange(80) // 2)
    bags = held_out_bags(sources, hold_out(sources, config), TokenRules(genes, mask=5, pad=6), config)
    assert bags
    assert all(len(bag.tokens) == 2 for bag in bags)


def test_everything_is_reported(network, bags):
    report = validate(network, bags, torch.device("cpu"))
    variants = ("full", "lesion", "direct", "cells_lesion", "alone")
    assert set(report) == {
        *(f"{what}_{name}" for what in ("loss", "auprc") for name in variants),
        *(f"auprc_{name}" for name in ("gene_constant", "bag_mean", "knn")),
        "cell_variance_stem",
        "cell_variance_trunk",
    }
    assert np.isfinite(list(report.values())).all()
    without = validate(network, bags, torch.device("cpu"), with_tower=False)
    assert without == {name: report[name] for name in without}
    assert set(report) - set(without) == {
        *("loss_full", "loss_lesion", "auprc_full", "auprc_lesion", "cell_variance_stem", "cell_variance_trunk")
    }


def test_lesion_takes_the_trunk_away_and_gives_it_back(network, bags):
    tokens = torch.from_numpy(bags[0].tokens).reshape(1, -1)
    with torch.no_grad():
        before = network(tokens, outputs={"transformer_out"})["transformer_out"]
        with lesion(network.layers):
            without = network(tokens, outputs={"transformer_out"})["transformer_out"]
        after = network(tokens, outputs={"transformer_out"})["transformer_out"]
    torch.testing.assert_close(without, before.mean(1, keepdim=True).expand_as(before))
    assert before.std(1).max() > 0
    torch.testing.assert_close(after, before)


def test_baselines_are_what_they_say(network):
    tokens = np.zeros((4, 120), dtype=np.uint8)
    tokens[:3, 0] = 1
    tokens[0, 1:20] = 2  # one cell like the first, two unlike it
    tokens[1, 1:20] = 2
    tokens[0, 50] = tokens[0, 51] = 5
    tokens[1, 50] = 3
    bag = TrainingBag(tokens, np.array([50, 51]), np.array([1, 0], dtype=np.uint8), np.zeros((4, 2)))
    scores = dict(_baselines(network, bag))
    prior = 0.8  # the log prior of a new network is even over five levels
    np.testing.assert_allclose(scores["gene_constant"], prior, atol=1e-6)
    np.testing.assert_allclose(scores["bag_mean"], [(1 + prior) / 4, prior / 4], atol=1e-6)
    np.testing.assert_allclose(scores["knn"], [(1 + prior) / 4, prior / 4], atol=1e-6)
