from __future__ import annotations

import pytest
import torch

from scanpy_sct.model.cells import CellEmbedder, GeneDecoder
from scanpy_sct.model.profile import BagProfile

MASK, N_GENES, N_CELLS = 5, 30, 4


@pytest.fixture
def profile() -> BagProfile:
    made = BagProfile(N_GENES, 5)
    torch.manual_seed(0)
    made.log_prior.copy_(torch.rand(N_GENES, 5).log_softmax(-1))
    return made


@pytest.fixture
def embedder() -> CellEmbedder:
    torch.manual_seed(0)
    made = CellEmbedder(5, N_GENES, 8)
    made.bin_values.data[0] = 0.2
    return made


@pytest.fixture
def tokens():
    return torch.randint(0, 7, (2, N_CELLS, N_GENES), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_embedding_is_the_standardised_deviation_from_the_profile(profile, embedder, tokens):
    found = profile(tokens)
    bag, cell = 1, 2
    sums, variance = torch.zeros(8), 1.0
    for gene in range(N_GENES):
        own = tokens[bag, cell, gene]
        if own >= 5:
            continue
        counts, total = found.bins[bag, :, gene].clone(), found.totals[bag, gene]
        if own > 0:
            counts[own - 1] -= 1
            total = total - 1
        detection = 1 - found.log_zero[bag, cell, gene].exp()
        frequency = torch.cat([1 - detection[None], detection * counts / total])
        mean = frequency @ embedder.bin_values
        sums += (embedder.bin_values[own] - mean) * embedder.gene_factors[gene]
        variance += frequency @ embedder.bin_values**2 - mean**2
    torch.testing.assert_close(embedder(found)[bag, cell], sums / variance**0.5, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_masked_genes_have_no_part_in_the_embedding(profile, embedder, tokens):
    tokens[0, 0, 4] = MASK
    before = embedder(profile(tokens))[0, 0]
    changed = tokens.clone()
    changed[0, 1:, 4] = MASK  # changes the profile of that gene; depths are left alone by the next line
    profile.log_depth_power.data.fill_(-100)
    one, other = (embedder(profile(each))[0, 0] for each in (tokens, changed))
    torch.testing.assert_close(one, other)
    assert before.shape == (8,)


@torch.no_grad()
def test_scores_are_linear_in_the_bin():
    torch.manual_seed(0)
    decoder, cells = GeneDecoder(5, N_GENES, 8), torch.randn(1, 3, 16)
    first, step = decoder(cells, 0.5)
    detection = decoder.detection(cells) @ decoder.gene_factors.T
    amount = decoder.amount(cells) @ decoder.gene_factors.T + decoder.amount_shift(cells)
    for number in range(1, 5):
        expected = 0.5 * (detection + (number - 2.5) / 5 * amount)
        torch.testing.assert_close(first + (number - 1) * step, expected)
