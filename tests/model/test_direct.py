from __future__ import annotations

import pytest
import torch

from scanpy_sct.model import Sct, SctConfig

N_GENES, N_CELLS = 16, 5


def a_network(**options) -> Sct:
    torch.manual_seed(0)
    shape = {"convolutions": False, "context": True, "cell_dim": 8, "cell_layers": 1, "num_downsamples": 2}
    network = Sct(SctConfig(**shape | {"level_shift": True} | options), N_GENES).eval()
    network.cell_path.gene_output.data.normal_(std=0.3)
    return network


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, N_CELLS * N_GENES), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def probabilities(network, tokens, **options):
    return network(tokens, **options)["direct_logits"].softmax(-1)


@torch.no_grad()
def test_chance_of_expression_is_that_of_the_logits(tokens):
    network = a_network()
    bags = tokens.unflatten(1, (N_CELLS, N_GENES))
    profile, depth = network.profile(bags)
    cells = network.cell_path(network(tokens)["cell_embedding"], depth)
    chance = network.cell_path.chance_of_expression(profile, *network.cell_path.scores(cells))
    # Where the cell has no level of its own the levels of the bag are the same in both.
    no_level = (bags == 0) | (bags == 5)
    torch.testing.assert_close(chance[no_level], 1 - probabilities(network, tokens)[..., 0][no_level])


@torch.no_grad()
def test_correction_follows_the_bag_and_leaves_the_levels_alone(tokens):
    plain, corrected = a_network(), a_network(bag_correction=True)
    corrected.load_state_dict(plain.state_dict(), strict=False)
    tokens = tokens.unflatten(1, (N_CELLS, N_GENES)).clone()
    tokens[:, :, 3], tokens[:, :, 4], tokens[:, :, 5] = 2, 0, 5
    before, after = (probabilities(network, tokens.flatten(1)) for network in (plain, corrected))
    assert (after[..., 3, 0] < before[..., 3, 0]).all()
    assert (after[..., 4, 0] > before[..., 4, 0]).all()
    torch.testing.assert_close(after[..., 5, :], before[..., 5, :])
    shares = [each[..., 1:] / each[..., 1:].sum(-1, keepdim=True) for each in (before, after)]
    torch.testing.assert_close(*shares)


@torch.no_grad()
def test_at_places_they_are_those_of_the_whole(tokens):
    network = a_network(bag_correction=True)
    places = torch.arange(0, tokens.numel(), 3)
    everything = network(tokens)["direct_logits"]
    some = network(tokens, outputs={"direct_logits"}, positions=places)["direct_logits"]
    torch.testing.assert_close(some, everything.flatten(0, 2)[places])
