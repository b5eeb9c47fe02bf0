"""The compact network; properties shared with the released one are in test_network.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scanpy_sct.model import Bags, CompactConfig, CompactNetwork
from scanpy_sct.model import compact as module
from scanpy_sct.model.compact import _expected_detection

MASK, PAD, N_GENES, N_CELLS = 5, 6, 16, 5
CONFIG = CompactConfig(n_bins=5, cell_dim=8, cell_layers=1)


def a_network(config: CompactConfig = CONFIG) -> CompactNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CompactNetwork(config, N_GENES).eval()
        network.decoder.gene_factors.data.normal_(std=0.3)
        network.profile.log_prior.copy_(torch.rand(N_GENES, 5).log_softmax(-1))
    return network


@pytest.fixture
def network() -> CompactNetwork:
    return a_network()


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, N_CELLS, N_GENES), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def probabilities(network, tokens, **options):
    index = torch.arange(tokens.numel())
    return network.bin_logits(Bags(tokens), index, **options).softmax(-1).view(*tokens.shape, 5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell_dim": 7}, "cell_dim=7 must be a multiple of 2"),
        ({"cell_dim": 0}, "cell_dim=0 must be an integer of at least 2"),
        ({"n_bins": 1}, "n_bins=1"),
        ({"n_bins": 255}, "n_bins=255 must be at most 254"),
        ({"bag_size": 2.5}, r"bag_size=2\.5 must be an integer"),
        ({"cell_layers": -1}, "cell_layers=-1"),
    ],
)
def test_impossible_shapes_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        CompactConfig(**options)


def test_without_genes_there_is_no_network():
    with pytest.raises(ValueError, match="n_genes=0"):
        CompactNetwork(CONFIG, 0)


@torch.no_grad()
def test_own_token_informs_its_prediction_only_through_the_cell(tokens):
    # With the weight of the cell embedding at 0 and no power of depth only counts of the other cells remain. (The
    # correction is left out: what is expected of the other cells depends on this one where it is visible.)
    network = a_network(replace(CONFIG, bag_correction=False))
    network.profile.log_depth_power.fill_(-100)
    tokens[0, 2, 7] = 0
    before = probabilities(network, tokens, cell_weight=0.0)
    for other in (2, 4, MASK):
        changed = tokens.clone()
        changed[0, 2, 7] = other
        after = probabilities(network, changed, cell_weight=0.0)
        torch.testing.assert_close(after[0, 2, 7], before[0, 2, 7])
        assert not torch.allclose(after[0, 3, 7], before[0, 3, 7])


@torch.no_grad()
def test_expected_detection_is_that_of_the_logits(tokens):
    network = a_network(replace(CONFIG, bag_correction=False))
    profile = network.profile(tokens)
    cells = network.cell_transformer(network.embedder(profile), profile.depth, None)
    expected = _expected_detection(profile, *network.decoder(cells, 1.0))
    # Where the cell has no bin of its own, the bins of the bag are the same in both.
    no_bin = tokens == 0
    torch.testing.assert_close(expected[no_bin], 1 - probabilities(network, tokens)[..., 0][no_bin])
    assert not expected[tokens == MASK].any()


@torch.no_grad()
def test_correction_follows_the_bag_and_leaves_the_other_bins_alone(network, tokens):
    plain = a_network(replace(CONFIG, bag_correction=False))
    tokens[:, :, 3], tokens[:, :, 4], tokens[:, :, 5] = 2, 0, MASK
    before, after = probabilities(plain, tokens), probabilities(network, tokens)
    assert (after[..., 3, 0] < before[..., 3, 0]).all()
    assert (after[..., 4, 0] > before[..., 4, 0]).all()
    torch.testing.assert_close(after[..., 5, :], before[..., 5, :])
    fractions = [each[..., 1:] / each[..., 1:].sum(-1, keepdim=True) for each in (before, after)]
    torch.testing.assert_close(*fractions)


@torch.no_grad()
def test_the_correction_counts_the_other_cells(network, tokens):
    plain = a_network(replace(CONFIG, bag_correction=False))
    index = torch.tensor([N_CELLS * N_GENES + 2 * N_GENES + 7])  # bag 1, cell 2, gene 7
    profile = plain.profile(tokens)
    cells = plain.cell_transformer(plain.embedder(profile), profile.depth, None)
    expected = _expected_detection(profile, *plain.decoder(cells, 1.0))[1, :, 7]
    others = [each for each in range(N_CELLS) if each != 2]
    bins = tokens[1, others, 7]
    n_visible, n_detected = (bins < 5).sum(), ((bins > 0) & (bins < 5)).sum()
    correction = network.correction(n_visible, n_detected, expected[others].sum())
    change = network.bin_logits(Bags(tokens), index) - plain.bin_logits(Bags(tokens), index)
    torch.testing.assert_close(change[0], torch.cat([torch.zeros(1), correction.expand(4)]), atol=1e-5, rtol=1e-5)


def test_only_the_prior_learns_from_the_correction(network, tokens):
    index = (tokens.flatten() == MASK).nonzero().squeeze(1)
    plain = a_network(replace(CONFIG, bag_correction=False))
    for made in (network, plain):
        made.bin_logits(Bags(tokens), index)[:, 1].sum().backward()
    assert network.correction.log_prior_cells.grad.abs() > 0
    torch.testing.assert_close(network.decoder.gene_factors.grad, plain.decoder.gene_factors.grad)


@torch.no_grad()
def test_a_shift_of_the_amount_moves_the_bins_of_all_genes_alike(tokens):
    network = a_network(replace(CONFIG, bag_correction=False))
    before = probabilities(network, tokens).log()
    network.decoder.amount_shift.bias += 3
    ratio = (probabilities(network, tokens).log() - before)[..., 1:].diff(dim=-1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 3 / 5), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_no_weight_means_no_cell_embedding(network, tokens):
    before = probabilities(network, tokens, cell_weight=0.0)
    network.embedder.gene_factors += 1
    torch.testing.assert_close(probabilities(network, tokens, cell_weight=0.0), before)
    assert not torch.allclose(probabilities(network, tokens), before)


@pytest.mark.parametrize("token", [MASK, PAD])
@torch.no_grad()
def test_genes_that_are_masked_in_all_cells_can_be_left_out(network, tokens, token):
    genes = torch.tensor([0, 1, 4, 5, 6, 9, 11, 12, 15])
    others = torch.ones(N_GENES, dtype=torch.bool)
    others[genes] = False
    tokens[..., others] = token
    part = network.at_genes(genes)
    assert part.n_genes == 9
    torch.testing.assert_close(probabilities(part, tokens[..., genes]), probabilities(network, tokens)[..., genes, :])
    bags = Bags(tokens), Bags(tokens[..., genes])
    torch.testing.assert_close(part.cell_embedding(bags[1]), network.cell_embedding(bags[0]))
    # Its weights are copies.
    part.decoder.gene_factors += 1
    torch.testing.assert_close(probabilities(network, tokens), probabilities(a_network(), tokens))


@torch.no_grad()
def test_an_embedding_on_a_background_does_not_depend_on_the_bag(network, tokens):
    sample = torch.randint(0, 6, (60, N_GENES), generator=torch.Generator().manual_seed(2))
    background = network.background(sample[:20]) + network.background(sample[20:])
    assert background.n_cells == 60
    alone = network.cell_embedding(Bags(tokens[:, :1]), background)
    together = network.cell_embedding(Bags(tokens), background)
    torch.testing.assert_close(together[:, :1], alone)
    assert not torch.allclose(network.cell_embedding(Bags(tokens))[:, :1], alone)


@torch.no_grad()
def test_a_cell_of_the_background_is_left_out_of_its_own_profile(network, tokens):
    sample = tokens.flatten(0, 1)
    background = network.background(sample)
    flags = torch.ones(1, len(sample), dtype=torch.bool)
    found = network.cell_embedding(Bags(sample[None], in_background=flags), background)
    torch.testing.assert_close(found, network.cell_embedding(Bags(sample[None])))
    others = network.background(torch.cat([sample[:3], sample[4:]]))
    expected = network.cell_embedding(Bags(sample[None, 3:4]), others)
    torch.testing.assert_close(found[:, 3:4], expected)


@torch.no_grad()
@pytest.mark.parametrize("bag_correction", [True, False])
@pytest.mark.parametrize("at_once", [1, 2 * N_GENES * 2, 10**6])
def test_expectations_are_those_of_the_logits(tokens, bag_correction, at_once, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", at_once)
    network = a_network(replace(CONFIG, bag_correction=bag_correction))
    index = (tokens.flatten() == MASK).nonzero().squeeze(1)
    values = torch.rand(2, N_CELLS, 4, generator=torch.Generator().manual_seed(3))
    found = network.expectations(Bags(tokens), index, values, cell_weight=0.7)
    p = network.bin_logits(Bags(tokens), index, cell_weight=0.7).double().softmax(-1)
    of_token = values.flatten(0, 1)[index // N_GENES]
    torch.testing.assert_close(found[0].double(), (p[:, 1:].sum(1) / p[:, 0]).log(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1].double(), (p[:, 1:] * of_token).sum(1) / p[:, 1:].sum(1), atol=1e-5, rtol=1e-4)
