from __future__ import annotations

import pytest
import torch
from scanpy_sct.model.cell_path import CellPath

from scanpy_sct.model import Sct, SctConfig

MASK = 5


def test_cell_embedding_ignores_masked_genes():
    torch.manual_seed(0)
    path = CellPath(SctConfig(context=True, cell_dim=8), 30)
    tokens = torch.randint(0, 5, (1, 3, 30))
    tokens[0, 0, 4] = MASK
    expected, variance = torch.rand(2, 1, 3, 30)
    before = path.embed(tokens, expected, variance)
    expected[0, 0, 4], variance[0, 0, 4] = 1.9, 0.7
    torch.testing.assert_close(path.embed(tokens, expected, variance), before)


@pytest.fixture
def network() -> Sct:
    torch.manual_seed(0)
    config = SctConfig(convolutions=False, context=True, cell_dim=8, cell_layers=1, level_shift=True, num_downsamples=2)
    return Sct(config, 16).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, 4 * 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_at_places_are_those_of_the_whole(network, tokens):
    places = torch.arange(0, 128, 3)
    everything = network(tokens)["direct_logits"]
    some = network(tokens, outputs={"direct_logits"}, positions=places)["direct_logits"]
    torch.testing.assert_close(some, everything.flatten(0, 2)[places])


@torch.no_grad()
def test_a_shift_of_levels_moves_expressed_levels_of_all_genes_alike(network, tokens):
    before = network(tokens)["direct_logits"].log_softmax(-1)
    network.cell_path.level_shift.bias += 3
    after = network(tokens)["direct_logits"].log_softmax(-1)
    ratio = (after - before)[..., 1:].diff(dim=-1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 3 / 5))


def test_without_convolutions_only_direct_outputs_are_there(network, tokens):
    assert set(network(tokens)) == {"direct_logits", "cell_embedding"}
    with pytest.raises(ValueError, match=r"outputs=\['logits'\] need convolutions"):
        network(tokens, outputs={"logits"})
