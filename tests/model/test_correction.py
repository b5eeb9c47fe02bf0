from __future__ import annotations

import math

import pytest
import torch

from scanpy_sct.model.correction import BagCorrection
from scanpy_sct.model.profile import BagProfile

MASK = 5
N_CELLS, N_GENES = 6, 30


@pytest.fixture
def correction() -> BagCorrection:
    return BagCorrection()


@pytest.fixture
def tokens():
    return torch.randint(0, MASK + 1, (2, N_CELLS, N_GENES), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def chance():
    return torch.rand(2, N_CELLS, N_GENES, generator=torch.Generator().manual_seed(2))


def profile_of(tokens):
    return BagProfile(N_GENES, MASK)(tokens)[0]


def test_correction_is_the_shrunk_difference_of_log_odds(correction, tokens, chance):
    found = correction(profile_of(tokens), chance)
    prior = correction.log_prior_cells.exp().item()
    bag, cell, gene = 1, 2, 7
    others = [each for each in range(N_CELLS) if each != cell and tokens[bag, each, gene] != MASK]
    observed = sum(int(tokens[bag, each, gene] > 0) for each in others)
    expected = sum(chance[bag, each, gene].item() for each in others)
    gain = math.log((observed + prior) / (expected + prior))
    loss = math.log((len(others) - observed + prior) / (len(others) - expected + prior))
    assert found[bag, cell, gene].item() == pytest.approx(gain - loss, abs=1e-5)


def test_own_token_has_no_part_in_the_own_correction(correction, tokens, chance):
    changed = tokens.clone()
    changed[0, 2, 7] = (tokens[0, 2, 7] + 1) % 5
    changed[0, 2, 8] = MASK
    before, after = correction(profile_of(tokens), chance), correction(profile_of(changed), chance)
    torch.testing.assert_close(before[0, 2], after[0, 2])
    assert not torch.allclose(before[0, 3, 7], after[0, 3, 7])


@pytest.mark.parametrize("only", ["hidden", "alone"])
def test_what_no_other_cell_shows_is_not_corrected(correction, tokens, chance, only):
    if only == "hidden":
        tokens[:, :, 4] = MASK
        assert not correction(profile_of(tokens), chance)[..., 4].any()
    else:
        assert not correction(profile_of(tokens[:, :1]), chance[:, :1]).any()


def test_large_bags_bring_a_wrong_chance_to_the_frequency_seen(correction):
    tokens = torch.zeros(1, 2001, N_GENES, dtype=torch.int64)
    tokens[0, 1:501] = 3
    chance = torch.full((1, 2001, N_GENES), 0.6)
    corrected = (torch.logit(chance) + correction(profile_of(tokens), chance)).sigmoid()[0, 0]
    torch.testing.assert_close(corrected, torch.full((N_GENES,), 0.25), atol=0.005, rtol=0)


def test_at_places_it_is_that_of_the_whole(correction, tokens, chance):
    places = torch.arange(0, tokens.numel(), 3)
    profile = profile_of(tokens)
    torch.testing.assert_close(correction(profile, chance, places), correction(profile, chance).flatten()[places])


def test_only_the_prior_learns(correction, tokens, chance):
    chance.requires_grad_()
    correction(profile_of(tokens), chance).square().sum().backward()
    assert chance.grad is None
    assert correction.log_prior_cells.grad.abs() > 0
