from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.data import draw_bag
from scanpy_sct.train.sources import open_sources
from scanpy_sct.train.stream import read_block
from scanpy_sct.train.vocabulary import bin_frequencies, coexpression_order

NEVER = {"thin_fraction": 0.0, "panel_fraction": 0.0, "masked_gene_fraction": 0.0}


def read(files, genes, validation_fraction):
    sources = open_sources(files, genes)
    held_out = [np.random.default_rng(0).random(len(source.samples)) < validation_fraction for source in sources]
    return [read_block(source, mask, 0, len(mask)) for source, mask in zip(sources, held_out, strict=True)]


@pytest.fixture
def datasets(files, genes):
    return read(files, genes, 0.2)


@pytest.fixture
def rules(genes):
    return TokenRules(genes, mask=6, pad=7, binning="counts")


def test_predicted_tokens_are_masked_and_their_bins_are_kept(datasets, rules, config):
    bag = draw_bag(datasets, rules, replace(config, **NEVER), np.random.default_rng(0), 8)
    assert (bag.tokens.ravel()[bag.token_index] == 6).all()
    assert set(np.unique(bag.bins)) <= set(range(6))
    fraction = len(bag.token_index) / bag.tokens.size
    assert 0.05 < fraction < 0.65


def test_genes_a_file_lacks_are_masked_and_never_predicted(datasets, rules, config):
    bag = draw_bag(datasets[1:], rules, replace(config, **NEVER), np.random.default_rng(0), 8)
    assert (bag.tokens[:, :20] == 6).all()
    assert (bag.token_index % bag.tokens.shape[1] >= 20).all()


def test_panel_leaves_few_genes_visible(datasets, rules, config, monkeypatch):
    monkeypatch.setattr("scanpy_sct.train.data.MIN_PANEL", 10)
    monkeypatch.setattr("scanpy_sct.train.data.MAX_PANEL", 30)
    bag = draw_bag(datasets[:1], rules, replace(config, panel_fraction=1.0), np.random.default_rng(0), 8)
    assert ((bag.tokens != 6).any(0)).sum() <= 30


def test_thinning_loses_counts(datasets, rules, config):
    fractions = {}
    for thinned in (0.0, 1.0):
        settings = replace(config, **NEVER | {"thin_fraction": thinned})
        fractions[thinned] = (draw_bag(datasets, rules, settings, np.random.default_rng(3), 8).bins > 0).mean()
    assert fractions[1.0] < fractions[0.0]


def test_held_out_cells_are_never_trained_on(files, genes):
    datasets = read(files, genes, 0.3)
    from scanpy_sct.train.data import _draw_cells

    dataset = datasets[0]
    usable = np.flatnonzero(~dataset.held_out)
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = _draw_cells(dataset, usable, 8, rng, near=rng.random() < 0.5)
        assert not dataset.held_out[rows].any()
        assert len(np.unique(dataset.samples[rows])) == 1


def test_same_seed_same_bag(datasets, rules, config):
    one, other = (draw_bag(datasets, rules, config, np.random.default_rng([0, 7]), 8) for _ in range(2))
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.token_index, other.token_index)


def test_frequencies_are_those_of_the_cells_that_measured_the_gene(datasets, rules):
    frequencies = bin_frequencies(datasets, rules)
    np.testing.assert_allclose(frequencies.sum(1), 1)
    kept = [dataset.log_counts[~dataset.held_out] for dataset in datasets]
    n_cells = kept[0].shape[0]
    detected = (kept[0][:, 3] > 0).sum()  # only the first file has this gene
    assert abs(1 - frequencies[3, 0] - detected / n_cells) < 2.5 / n_cells


def test_order_brings_genes_of_one_programme_together():
    rng = np.random.default_rng(0)
    programme = rng.integers(0, 4, 200)
    vectors = rng.normal(size=(4, 10))[programme] + 0.1 * rng.normal(size=(200, 10))
    vectors[7] = 0
    order = coexpression_order(vectors)
    assert sorted(order) == list(range(200))
    assert order[-1] == 7
    changes = (np.diff(programme[order[:-1]]) != 0).sum()
    assert changes < 30  # 150 in random order
