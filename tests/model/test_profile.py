from __future__ import annotations

import pytest
import torch

from scanpy_sct.model.profile import BagProfile

MASK = 5


@pytest.fixture
def profile() -> BagProfile:
    made = BagProfile(30, 5)
    torch.manual_seed(0)
    made.log_prior.copy_(torch.rand(30, 5).log_softmax(-1))
    return made


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (1, 6, 30), generator=torch.Generator().manual_seed(1))


def test_frequencies_sum_to_one(profile, tokens):
    log_profile = profile(tokens)[0].log_frequencies()
    torch.testing.assert_close(log_profile.exp().sum(-1), torch.ones(1, 6, 30), atol=1e-3, rtol=0)


def test_own_token_has_no_part_in_the_own_profile(profile, tokens):
    # The depth of a cell is a fact about all its genes; with its power at zero only the leave-one-out counts remain.
    profile.log_depth_power.data.fill_(-100)
    changed = tokens.clone()
    changed[0, 2, 7] = (tokens[0, 2, 7] + 1) % 5
    before, after = profile(tokens)[0].log_frequencies(), profile(changed)[0].log_frequencies()
    torch.testing.assert_close(before[0, 2, 7], after[0, 2, 7])
    assert not torch.allclose(before[0, 3, 7], after[0, 3, 7])


def test_many_equal_cells_give_their_frequencies(profile):
    profile.log_depth_power.data.fill_(-100)
    profile.log_prior_weight.data.fill_(-20)
    tokens = torch.zeros(1, 401, 30, dtype=torch.int64)
    tokens[0, 1:101] = 3
    zero = profile(tokens)[0].log_frequencies()[0, 0, :, 0].exp()
    torch.testing.assert_close(zero, torch.full((30,), 0.75), atol=1e-3, rtol=0)


def test_masked_bag_gives_the_training_frequencies(profile):
    profile.log_depth_power.data.fill_(-100)
    log_profile = profile(torch.full((1, 4, 30), MASK))[0].log_frequencies()
    torch.testing.assert_close(log_profile[0, 0], profile.log_prior, atol=1e-3, rtol=1e-3)


def test_deeper_cell_is_expected_to_express_more(profile):
    tokens = torch.zeros(1, 8, 30, dtype=torch.int64)
    tokens[0, :, ::3] = 1
    tokens[0, 0] = 1
    tokens[0, :, 5] = MASK
    zero = profile(tokens)[0].log_frequencies()[0, :, 5, 0]
    assert zero[0] < zero[1:].min()


def test_parts_of_the_profile_are_the_whole(profile, tokens):
    tokens = torch.cat([tokens, tokens.flip(1)])
    parts, _ = profile(tokens)
    whole = parts.log_frequencies()
    places = torch.randperm(whole[..., 0].numel())[:200]
    torch.testing.assert_close(parts.log_frequencies_at(places).T, whole.flatten(0, 2)[places])
    values = torch.tensor([0.0, 0.4, 1.0, 1.5, 2.0])
    mean, variance = parts.moments(values)
    torch.testing.assert_close(mean, whole.exp() @ values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(variance, whole.exp() @ values**2 - (whole.exp() @ values) ** 2, atol=1e-4, rtol=1e-3)
