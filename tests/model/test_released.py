"""The released network; equality with the reference is tested in tests/checkpoints/test_released.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scanpy_sct.model import Bags, ReleasedConfig, ReleasedNetwork

CONFIG = ReleasedConfig(
    num_downsamples=3,
    token_embed_dim=32,
    embed_dim=64,
    ffn_embed_dim=32,
    num_layers=2,
    attention_heads=4,
    key_size=8,
)
N_GENES = 64


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, 4, N_GENES), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> ReleasedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ReleasedNetwork(CONFIG, N_GENES).eval()


def test_released_channels():
    assert ReleasedConfig().channels == [64, 192, 320, 448, 544, 672, 800, 928, 1024]


def test_exact_multiples_are_not_rounded_up():
    assert ReleasedConfig(token_embed_dim=32, embed_dim=96, num_downsamples=2).channels == [32, 64, 96]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"embed_dim": 50}, "embed_dim"),
        ({"token_embed_dim": 16}, "token_embed_dim"),
        ({"alphabet_size": 10, "mask_token_id": 8}, "mask_token_id=8, pad_token_id=6"),
    ],
)
def test_impossible_shapes_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        ReleasedConfig(**options)


def test_wrong_number_of_genes_is_refused():
    with pytest.raises(ValueError, match="n_genes=60"):
        ReleasedNetwork(CONFIG, 60)


@pytest.mark.parametrize("token", [-1, 7])
@torch.no_grad()
def test_tokens_outside_the_alphabet_are_refused(network, tokens, token):
    tokens[1, 2, 3] = token
    with pytest.raises(ValueError, match=r"tokens has values from .*, expected 0 to 6"):
        network.bin_logits(Bags(tokens), torch.tensor([0]))


@torch.no_grad()
def test_head_in_chunks_equals_head_at_once(network, tokens, monkeypatch):
    index = torch.arange(tokens.numel())
    whole = network.bin_logits(Bags(tokens), index)
    monkeypatch.setattr("scanpy_sct.model.released.HEAD_CHUNK_IN_CACHE", 100)
    torch.testing.assert_close(network.bin_logits(Bags(tokens), index), whole)


@torch.no_grad()
def test_the_head_runs_at_the_requested_tokens_only(network, tokens):
    n_tokens = []
    network.head[-1].register_forward_hook(lambda module, inputs, output: n_tokens.append(len(output)))
    network.bin_logits(Bags(tokens), torch.tensor([5, 9, 300]))
    assert n_tokens == [3]


@torch.no_grad()
def test_the_embedding_is_the_mean_of_the_transformer_and_needs_no_decoder(network, tokens):
    outputs = []
    network.layers[-1].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network.up = network.head = None
    vectors = network.cell_embedding(Bags(tokens))
    torch.testing.assert_close(vectors, outputs[0].view(2, 4, 8, 64).mean(2))


def test_gradient_checkpointing_changes_nothing(network, tokens):
    saving = ReleasedNetwork(replace(CONFIG, use_gradient_checkpointing=True), N_GENES)
    saving.load_state_dict(network.state_dict())
    index = torch.arange(0, tokens.numel(), 3)
    for made in (network, saving):
        made.bin_logits(Bags(tokens), index).square().mean().backward()
    for one, other in zip(network.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@torch.no_grad()
def test_cell_weight_and_background_have_no_effect(network, tokens):
    index = torch.tensor([1, 2])
    assert not network.has_cell_embedding
    one, other = (network.bin_logits(Bags(tokens), index, cell_weight=weight) for weight in (0.0, 1.0))
    assert torch.equal(one, other)
