from __future__ import annotations

import pytest
import torch

from scanpy_sct.model.profile import BagProfile, Profile, VisibleTokens, detection_probability

MASK, N_GENES = 5, 30


@pytest.fixture
def profile() -> BagProfile:
    made = BagProfile(N_GENES, 5)
    torch.manual_seed(0)
    made.log_prior.copy_(torch.rand(N_GENES, 5).log_softmax(-1))
    return made


@pytest.fixture
def tokens():
    return torch.randint(0, 7, (2, 6, N_GENES), generator=torch.Generator().manual_seed(1))


def zero(found: Profile):
    return found.log_zero.exp()


def test_visible_tokens(tokens):
    found = VisibleTokens.of(tokens, 5)
    visible, detected = tokens < 5, (tokens > 0) & (tokens < 5)
    assert torch.equal(found.is_visible.bool(), visible)
    assert torch.equal(found.detected, detected.flatten().nonzero().squeeze(1))
    bag, cell, gene = detected.nonzero(as_tuple=True)
    assert torch.equal(found.cell, bag * 6 + cell)
    assert torch.equal(found.gene, bag * N_GENES + gene)
    assert torch.equal(found.bin, tokens[detected])


def test_depth_is_the_log_ratio_of_detected_genes_to_those_expected(profile, tokens):
    found = profile(tokens).depth
    visible = tokens[1, 3] < 5
    expected = (1 - profile.log_prior[:, 0].exp())[visible].sum()
    n_detected = (visible & (tokens[1, 3] > 0)).sum()
    torch.testing.assert_close(found[1, 3], torch.log((n_detected + 1) / (expected + 1)))


def test_zero_probability_is_that_of_the_formula(profile, tokens):
    profile.log_depth_power.data.fill_(0.3)
    found = profile(tokens)
    bag, cell, gene = 1, 2, 7
    others = [each for each in range(6) if each != cell]
    power, weight = profile.log_depth_power.exp(), profile.log_prior_weight.exp()
    depth = found.depth[bag]
    mean_depth = depth[others].mean()
    prior = profile.log_prior[gene, 0].exp() ** (power * mean_depth).exp()
    values = tokens[bag, others, gene]
    shrunk = ((values == 0).sum() + weight * prior) / ((values < 5).sum() + weight)
    torch.testing.assert_close(zero(found)[bag, cell, gene], shrunk ** (power * (depth[cell] - mean_depth)).exp())
    torch.testing.assert_close(detection_probability(found.log_zero), 1 - zero(found), atol=2e-6, rtol=1e-5)


def test_bins_are_counted_with_the_prior_of_one_cell(profile, tokens):
    found = profile(tokens)
    prior = profile.log_prior[7, 1:].exp() / (1 - profile.log_prior[7, 0].exp())
    counts = torch.stack([(tokens[1, :, 7] == number).sum() for number in range(1, 5)])
    torch.testing.assert_close(found.bins[1, :, 7], counts + prior)
    torch.testing.assert_close(found.totals, found.bins.sum(1))


def test_own_token_has_no_part_in_the_own_profile(profile, tokens):
    # The depth of a cell depends on all its genes; with its power at zero only the leave-one-out counts remain.
    profile.log_depth_power.data.fill_(-100)
    tokens[0, 2, 7] = 0
    changed = tokens.clone()
    changed[0, 2, 7] = 3
    before, after = zero(profile(tokens)), zero(profile(changed))
    torch.testing.assert_close(before[0, 2, 7], after[0, 2, 7])
    assert not torch.allclose(before[0, 3, 7], after[0, 3, 7])


def test_many_equal_cells_give_their_frequencies(profile):
    profile.log_depth_power.data.fill_(-100)
    profile.log_prior_weight.data.fill_(-20)
    tokens = torch.zeros(1, 401, N_GENES, dtype=torch.int64)
    tokens[0, 1:101] = 3
    torch.testing.assert_close(zero(profile(tokens))[0, 0], torch.full((N_GENES,), 0.75), atol=1e-3, rtol=0)


def test_masked_bag_gives_the_training_frequencies(profile):
    profile.log_depth_power.data.fill_(-100)
    found = profile(torch.full((1, 4, N_GENES), MASK))
    torch.testing.assert_close(found.log_zero[0, 0], profile.log_prior[:, 0], atol=1e-3, rtol=1e-3)


def test_deeper_cell_is_expected_to_detect_more(profile):
    tokens = torch.zeros(1, 8, N_GENES, dtype=torch.int64)
    tokens[0, :, ::3] = 1
    tokens[0, 0] = 1
    tokens[0, :, 5] = MASK
    found = zero(profile(tokens))[0, :, 5]
    assert found[0] < found[1:].min()


def test_counts_of_disjoint_cells_add_up(profile, tokens):
    whole, first, last = (profile.count(part) for part in (tokens, tokens[:, :4], tokens[:, 4:]))
    total = first + last
    assert total.n_cells == whole.n_cells == 6
    for name in ("visible", "zero", "bins", "depth"):
        torch.testing.assert_close(getattr(total, name), getattr(whole, name))


def test_the_bag_as_its_own_background_changes_nothing(profile, tokens):
    given = profile(tokens, profile.count(tokens), torch.ones(2, 6, dtype=torch.bool))
    for name in ("log_zero", "bins", "totals"):
        torch.testing.assert_close(getattr(given, name), getattr(profile(tokens), name))


def test_cells_of_the_background_are_left_out_of_their_own_profile(profile, tokens):
    sample = torch.randint(0, 6, (1, 40, N_GENES), generator=torch.Generator().manual_seed(2))
    counts = profile.count(sample)
    bag = torch.cat([sample[:, 3:5], tokens[:1, :2]], dim=1)
    found = profile(bag, counts, torch.tensor([[True, True, False, False]]))
    without = profile.count(torch.cat([sample[:, :3], sample[:, 4:]], dim=1))
    torch.testing.assert_close(found.log_zero[0, 0], profile(sample[:, 3:4], without).log_zero[0, 0])
    torch.testing.assert_close(found.log_zero[0, 2:], profile(tokens[:1, :2], counts).log_zero[0])


def test_parts_of_a_bag_have_the_profile_of_the_whole_bag(profile, tokens):
    whole, parts = profile(tokens), profile.in_parts(tokens, 4)
    assert [part.depth.shape[1] for part in parts] == [4, 2]
    for name in ("depth", "log_zero"):
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts], dim=1), getattr(whole, name))
    for part in parts:
        torch.testing.assert_close(part.bins, whole.bins)
        torch.testing.assert_close(part.background.zero, whole.background.zero)
