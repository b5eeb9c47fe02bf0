from __future__ import annotations

import numpy as np
import pytest
import torch

from scanpy_sct.model import Sct, SctConfig
from scanpy_sct.model.neighbors import Neighbors
from scanpy_sct.model.profile import BagProfile

MASK, N_LEVELS = 5, 5
STEPS = torch.tensor([0.0, -0.3, -0.1, 0.1, 0.3])


@pytest.fixture
def neighbors() -> Neighbors:
    torch.manual_seed(0)
    made = Neighbors(dim=6, n_genes=12, heads=2)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


@pytest.fixture
def profile() -> BagProfile:
    made = BagProfile(12, N_LEVELS)
    made.log_prior.copy_(torch.rand(12, N_LEVELS, generator=torch.Generator().manual_seed(2)).log_softmax(-1))
    return made


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, 5, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cells():
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def evidence_by_hand(neighbors, tokens, levels, cells, cell, gene):
    """Evidence in one cell of one bag with plain loops; ``levels`` (cells, genes, levels) are the expected shares."""
    centred = cells - cells.mean(0)
    detection = level = 0.0
    for head in range(2):
        weighted = (centred * neighbors.dimension_weight[head]).numpy()
        cosine = [weighted[cell] @ other / np.linalg.norm(weighted[cell]) / np.linalg.norm(other) for other in weighted]
        weight = np.exp(neighbors.log_sharpness[head].exp().item() * np.array(cosine))
        weight[cell] = 0
        weight /= weight.sum()
        weight /= (weight**2).sum()
        seen = (tokens[:, gene] != MASK).numpy()
        on = (tokens[:, gene] > 0).numpy() & seen
        expected = 1 - levels[:, gene, 0].numpy()
        among = levels[:, gene, 1:].numpy() / expected[:, None]
        mean = among @ STEPS[1:].numpy()
        variance = among @ STEPS[1:].numpy() ** 2 - mean**2
        steps = STEPS[tokens[:, gene].clamp_max(4)].numpy()
        a = neighbors.log_shape[gene].exp().item()
        odds_on = (weight[on].sum() + a) / ((weight * expected)[seen].sum() + a)
        odds_off = (weight[seen & ~on].sum() + a) / ((weight * (1 - expected))[seen].sum() + a)
        detection += neighbors.detection[head].item() * (np.log(odds_on) - np.log(odds_off))
        prior = neighbors.log_level_shape.exp().item() * float((STEPS**2).mean())
        tilt = (weight * (steps - mean))[on].sum() / ((weight * variance)[on].sum() + prior)
        level += neighbors.level[head].item() * tilt
    return detection, level


def test_evidence_equals_plain_loops(neighbors, profile, tokens, cells):
    expected, _ = profile(tokens)
    levels = expected.log_frequencies().exp()
    with torch.no_grad():
        detection, level = neighbors(cells, tokens, expected, STEPS)
    for bag, cell, gene in [(0, 0, 0), (0, 3, 7), (1, 2, 11), (1, 4, 5)]:
        found = detection[bag, cell, gene].item(), level[bag, cell, gene].item()
        assert found == pytest.approx(
            evidence_by_hand(neighbors, tokens[bag], levels[bag], cells[bag], cell, gene), rel=1e-3, abs=1e-4
        )


def test_places_are_those_of_the_whole(neighbors, profile, tokens, cells):
    expected, _ = profile(tokens)
    places = torch.randperm(tokens.numel())[:40]
    for part, whole in zip(
        neighbors(cells, tokens, expected, STEPS, places), neighbors(cells, tokens, expected, STEPS), strict=True
    ):
        torch.testing.assert_close(part, whole.flatten()[places])


def test_a_cell_alone_has_no_evidence(neighbors, profile, tokens, cells):
    alone = tokens[:, :1]
    for found in neighbors(cells[:, :1], alone, profile(alone)[0], STEPS):
        torch.testing.assert_close(found, torch.zeros_like(found))


def test_genes_that_nobody_shows_have_no_evidence(neighbors, profile, tokens, cells):
    tokens[..., 4] = MASK
    for found in neighbors(cells, tokens, profile(tokens)[0], STEPS):
        torch.testing.assert_close(found[..., 4], torch.zeros(2, 5))


def test_what_like_cells_express_is_expected_more():
    torch.manual_seed(0)
    neighbors, profile = Neighbors(2, 1, 1), BagProfile(1, N_LEVELS)
    cells = torch.tensor([[[1.0, 0], [1, 0], [1, 0], [-1, 0], [-1, 0], [-1, 0]]])
    tokens = torch.tensor([MASK, 4, 4, MASK, 0, 0]).view(1, 6, 1)
    with torch.no_grad():
        detection, _ = neighbors(cells, tokens, profile(tokens)[0], STEPS)
    assert detection[0, 0, 0] > 0.5
    assert detection[0, 3, 0] < -0.5


def test_logits_at_places_and_all_agree_in_a_network():
    torch.manual_seed(0)
    config = SctConfig(convolutions=False, context=True, cell_dim=8, cell_layers=1, neighbor_heads=2, num_downsamples=2)
    network = Sct(config, 16).eval()
    tokens = torch.randint(0, 6, (2, 4 * 16))
    places = torch.arange(0, 128, 3)
    with torch.no_grad():
        everything = network(tokens)["direct_logits"]
        some = network(tokens, outputs={"direct_logits"}, positions=places)["direct_logits"]
    torch.testing.assert_close(some, everything.flatten(0, 2)[places])
