from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.train.data import draw_bag
from scanpy_sct.train.sources import open_sources
from scanpy_sct.train.stream import read_block
from scanpy_sct.train.vocabulary import coexpression_order, level_frequencies

NEVER = {"thin_share": 0.0, "panel_share": 0.0, "hidden_gene_share": 0.0}


def read(files, genes, validation_share):
    sources = open_sources(files, genes)
    held_out = [np.random.default_rng(0).random(len(source.samples)) < validation_share for source in sources]
    return [read_block(source, mask, 0, len(mask)) for source, mask in zip(sources, held_out, strict=True)]


@pytest.fixture
def datasets(files, genes):
    return read(files, genes, 0.2)


@pytest.fixture
def rules(genes):
    return TokenRules(genes, mask=5, pad=6)


def test_hidden_places_are_masked_and_their_truth_is_kept(datasets, rules, config):
    bag = draw_bag(datasets, rules, replace(config, **NEVER), np.random.default_rng(0), 8)
    assert (bag.tokens.ravel()[bag.places] == 5).all()
    assert set(np.unique(bag.truth)) <= {0, 1, 2, 3, 4}
    share = len(bag.places) / bag.tokens.size
    assert 0.05 < share < 0.55


def test_genes_a_file_lacks_are_masked_and_never_asked_for(datasets, rules, config):
    bag = draw_bag(datasets[1:], rules, replace(config, **NEVER), np.random.default_rng(0), 8)
    assert (bag.tokens[:, :20] == 5).all()
    assert (bag.places % bag.tokens.shape[1] >= 20).all()


def test_panel_leaves_few_genes_visible(datasets, rules, config, monkeypatch):
    monkeypatch.setattr("scanpy_sct.train.data.MIN_PANEL", 10)
    monkeypatch.setattr("scanpy_sct.train.data.MAX_PANEL", 30)
    bag = draw_bag(datasets[:1], rules, replace(config, panel_share=1.0), np.random.default_rng(0), 8)
    assert ((bag.tokens != 5).any(0)).sum() <= 30


def test_thinning_loses_counts(datasets, rules, config):
    drawn = {
        share: draw_bag(datasets, rules, replace(config, **NEVER | {"thin_share": share}), np.random.default_rng(3), 8)
        for share in (0.0, 1.0)
    }
    assert (drawn[1.0].truth > 0).mean() < (drawn[0.0].truth > 0).mean()


def test_without_gene_effects_bags_stay_as_they_were(datasets, rules, config):
    # What a recipe drew before there were any: no random number may be taken for them.
    class Counting:
        def __init__(self):
            self.rng, self.n_drawn = np.random.default_rng(3), 0

        def __getattr__(self, name):
            self.n_drawn += 1
            return getattr(self.rng, name)

    drawn = {}
    for share in (0.0, 1e-12):
        rng = Counting()
        draw_bag(datasets, rules, replace(config, gene_effect_share=share), rng, 8)
        drawn[share] = rng.n_drawn
    assert drawn[1e-12] == drawn[0.0] + 1


def test_gene_effects_are_those_of_the_whole_bag(files, genes, rules, config):
    [dataset] = read(files[:1], genes, 0.2)
    many = dataset.log_counts.copy()
    many.data[:] = np.log1p(2.0**12)
    config = replace(config, **NEVER | {"gene_effect_share": 1.0, "mask_range": (0.9, 0.95)})
    rules = replace(rules, n_bins=13, mask=14, pad=15, binning="counts")
    bag = draw_bag([replace(dataset, log_counts=many)], rules, config, np.random.default_rng(3), 8)
    level_by_gene = {}
    for place, level in zip(bag.places % len(genes), bag.truth, strict=True):
        if level > 0:
            level_by_gene.setdefault(place, []).append(int(level))
    # Between the genes the levels differ by what they lost, within a gene at most by chance about an edge.
    assert max(np.ptp(levels) for levels in level_by_gene.values()) <= 1
    assert np.std([levels[0] for levels in level_by_gene.values()]) > 0.3


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
    np.testing.assert_array_equal(one.places, other.places)


def test_frequencies_are_those_of_the_cells_that_measured_the_gene(datasets, rules):
    frequencies = level_frequencies(datasets, rules)
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
