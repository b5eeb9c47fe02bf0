from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

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


def test_truth_has_no_influence_on_any_score(network, bags):
    changed = [replace(bag, truth=4 - bag.truth) for bag in bags]
    for bag, other in zip(bags, changed, strict=True):
        for (name, one), (_, two) in zip(_baselines(network, bag), _baselines(network, other), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_everything_is_reported(network, bags):
    report = validate(network, bags, torch.device("cpu"))
    variants = ("full", "lesion", "direct", "alone")
    assert set(report) == {
        *(f"{what}_{name}" for what in ("loss", "auprc") for name in variants),
        *(f"auprc_{name}" for name in ("gene_constant", "bag_mean", "knn")),
        "cell_variance_stem",
        "cell_variance_trunk",
    }
    assert np.isfinite(list(report.values())).all()


def test_lesion_takes_the_trunk_away_and_gives_it_back(network, bags):
    tokens = torch.from_numpy(bags[0].tokens).reshape(1, -1)
    with torch.no_grad():
        before = network(tokens, outputs={"transformer_out"})["transformer_out"]
        with lesion(network):
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
