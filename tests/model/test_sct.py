"""What must hold for the network beside equality with the reference (tests/checkpoints/test_released.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scanpy_sct.model import Sct, SctConfig

PLAIN = SctConfig(
    num_downsamples=3,
    token_embed_dim=32,
    embed_dim=64,
    ffn_embed_dim=32,
    num_layers=2,
    attention_heads=4,
    key_size=8,
)
WITH_CONTEXT = replace(PLAIN, context=True, cell_dim=8, cell_layers=1)
CENTERED = replace(WITH_CONTEXT, center_tokens=True)
N_GENES = 64


@pytest.fixture
def tokens():
    return torch.randint(0, 6, (2, 4 * N_GENES), generator=torch.Generator().manual_seed(0))


def network(config: SctConfig) -> Sct:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Sct(config, N_GENES).eval()
        for parameter in made.parameters():  # nothing may stay at zero: it would hide mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("config", [PLAIN, WITH_CONTEXT, CENTERED], ids=["plain", "context", "centered"])
@torch.no_grad()
def test_positions_and_outputs_only_restrict(config, tokens):
    made = network(config)
    whole = made(tokens)
    positions = torch.tensor([3, 70, 511])
    part = made(tokens, outputs={"logits"}, positions=positions)
    torch.testing.assert_close(part["logits"], whole["logits"].flatten(0, 1)[positions])
    short = made(tokens, outputs={"transformer_out"})
    assert "deconv_out" not in short
    torch.testing.assert_close(short["transformer_out"], whole["transformer_out"])


@pytest.mark.parametrize("config", [PLAIN, WITH_CONTEXT], ids=["plain", "context"])
@torch.no_grad()
def test_bags_of_a_batch_do_not_see_each_other(config, tokens):
    made = network(config)
    torch.testing.assert_close(made(tokens)["logits"][1:], made(tokens[1:])["logits"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_any_number_of_cells(tokens):
    made = network(WITH_CONTEXT)
    for n_cells in (1, 2, 7):
        bag = tokens.flatten().repeat(4)[: n_cells * N_GENES][None]
        assert made(bag)["logits"].shape == (1, n_cells * N_GENES, 7)
        assert torch.isfinite(made(bag)["logits"]).all()


@torch.no_grad()
def test_head_in_chunks_equals_head_at_once(tokens, monkeypatch):
    made = network(PLAIN)
    whole = made(tokens)["logits"]
    monkeypatch.setattr("scanpy_sct.model.sct.HEAD_CHUNK", 100)
    torch.testing.assert_close(made(tokens)["logits"], whole)


@torch.no_grad()
def test_bfloat16_is_close_to_float32(tokens):
    made = network(PLAIN)
    exact = made(tokens)["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = made(tokens)["logits"]
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.std() + 0.05


def test_gradient_checkpointing_changes_nothing(tokens):
    plain = network(PLAIN)
    saving = Sct(replace(PLAIN, use_gradient_checkpointing=True), N_GENES)
    saving.load_state_dict(plain.state_dict())
    for made in (plain, saving):
        made(tokens)["logits"].square().mean().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((torch.zeros(1, 65, dtype=torch.int64),), "tokens"),
        ((torch.zeros(1, 64, dtype=torch.int64), torch.zeros(1, 1, 2)), "coordinates"),
    ],
)
def test_wrong_input_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        network(PLAIN)(*arguments)


def test_wrong_number_of_genes_is_refused():
    with pytest.raises(ValueError, match="n_genes=60"):
        Sct(PLAIN, 60)


def test_spatial_network_wants_coordinates(tokens):
    with pytest.raises(ValueError, match="coordinates"):
        Sct(replace(PLAIN, use_spatial_information=True), N_GENES)(tokens)


@torch.no_grad()
def test_centred_tokens_tell_differences_only(tokens):
    made = network(CENTERED)
    before = made(tokens, outputs={"logits"})["logits"]
    weight = made.token_embedding.weight
    weight[: made.config.num_bins] += 1  # the same for every level: no difference between them
    weight[made.config.num_bins :] += 1  # hidden
    torch.testing.assert_close(made(tokens, outputs={"logits"})["logits"], before, atol=1e-3, rtol=1e-3)
    weight[2] += 1
    assert (made(tokens, outputs={"logits"})["logits"] - before).abs().max() > 1e-2
