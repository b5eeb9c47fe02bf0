"""Properties of both networks."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scanpy_sct.model import Bags, CompactConfig, CompactNetwork, ReleasedConfig, ReleasedNetwork, make_network

N_GENES, N_CELLS = 64, 4
RELEASED = ReleasedConfig(
    num_downsamples=3,
    token_embed_dim=32,
    embed_dim=64,
    ffn_embed_dim=32,
    num_layers=2,
    attention_heads=4,
    key_size=8,
)
COMPACT = CompactConfig(n_bins=5, cell_dim=8, cell_layers=1)


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, N_CELLS, N_GENES), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[RELEASED, COMPACT], ids=["released", "compact"])
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make_network(request.param, N_GENES).eval()
        for parameter in made.parameters():  # no parameter may be zero, which would mask mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


def test_a_network_without_values_is_made_without_the_compiler():
    """Loading a checkpoint would else take seconds and 100 MB more."""
    script = """
import sys
import torch
from scanpy_sct.model import CompactConfig, ReleasedConfig, make_network

with torch.device("meta"):
    make_network(CompactConfig(reads_coordinates=True), 64)
    make_network(ReleasedConfig(num_downsamples=3, num_layers=1, use_spatial_information=True), 64)
sys.exit(" ".join({"torch._dynamo", "sympy"} & set(sys.modules)) or 0)
"""
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_configuration_names_the_network():
    assert isinstance(make_network(RELEASED, N_GENES), ReleasedNetwork)
    assert isinstance(make_network(COMPACT, N_GENES), CompactNetwork)


@pytest.mark.parametrize("config", [RELEASED, COMPACT])
def test_properties_of_the_configuration(config):
    assert (config.n_bins, config.mask_token, config.pad_token, config.bag_size) == (5, 5, 6, 50)
    assert not config.reads_coordinates


@torch.no_grad()
def test_logits_at_some_tokens_are_those_of_all(network, tokens):
    everything = network.bin_logits(Bags(tokens), torch.arange(tokens.numel()))
    assert everything.shape == (tokens.numel(), 5)
    index = torch.tensor([3, 70, 511, 70, 0])
    torch.testing.assert_close(network.bin_logits(Bags(tokens), index), everything[index])


@torch.no_grad()
def test_bags_of_a_batch_are_independent(network, tokens):
    both = network.bin_logits(Bags(tokens), torch.arange(tokens.numel())).unflatten(0, (2, -1))
    alone = network.bin_logits(Bags(tokens[1:]), torch.arange(tokens[1:].numel()))
    torch.testing.assert_close(both[1], alone, atol=1e-5, rtol=1e-5)
    vectors = network.cell_embedding(Bags(tokens))
    torch.testing.assert_close(vectors[1:], network.cell_embedding(Bags(tokens[1:])), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_cells", [1, 2, 7])
@torch.no_grad()
def test_any_number_of_cells(network, tokens, n_cells):
    bags = Bags(tokens.flatten(0, 1)[:n_cells][None])
    logits = network.bin_logits(bags, torch.arange(n_cells * N_GENES))
    assert torch.isfinite(logits).all()
    vectors = network.cell_embedding(bags)
    assert vectors.shape[:2] == (1, n_cells)
    assert torch.isfinite(vectors).all()


@torch.no_grad()
def test_bfloat16_is_close_to_float32(network, tokens):
    index = torch.arange(tokens.numel())
    exact = network.bin_logits(Bags(tokens), index)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.bin_logits(Bags(tokens), index)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.std() + 0.05


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@torch.no_grad()
def test_tokens_of_any_integer_type(network, tokens, dtype):
    index = torch.arange(0, tokens.numel(), 5)
    expected = network.bin_logits(Bags(tokens.int()), index)
    torch.testing.assert_close(network.bin_logits(Bags(tokens.to(dtype)), index), expected)


def test_every_parameter_gets_a_gradient(network, tokens):
    index = (tokens.flatten() == 5).nonzero().squeeze(1)
    network.bin_logits(Bags(tokens), index).square().mean().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("shape", [(1, 65), (2, 4, 32), (64,)])
def test_tokens_of_other_genes_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"tokens has shape .*, expected \(batch, cells, 64\)"):
        network.cell_embedding(Bags(torch.zeros(shape, dtype=torch.int64)))


@pytest.mark.parametrize("kind", ["released", "compact"])
def test_coordinates_are_required_where_they_are_read(kind, tokens):
    config = CompactConfig(n_bins=5, cell_dim=8, cell_layers=1, reads_coordinates=True)
    if kind == "released":
        config = ReleasedConfig(**{**vars(RELEASED), "use_spatial_information": True})
    network, index = make_network(config, N_GENES), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="coordinates are missing"):
        network.bin_logits(Bags(tokens), index)
    with pytest.raises(ValueError, match=r"coordinates has shape \(2, 3, 2\), expected \(2, 4, 2\)"):
        network.bin_logits(Bags(tokens, torch.zeros(2, 3, 2)), index)
    near, far = (network.bin_logits(Bags(tokens, value * torch.ones(2, 4, 2)), index) for value in (0, 3))
    assert not torch.equal(near, far)
