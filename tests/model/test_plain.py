"""The plain implementation of the benchmarks equals the reference, and the package's network equals it anywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from scanpy_sct.checkpoints import read_released
from scanpy_sct.model import Bags, ReleasedConfig, ReleasedNetwork, convolution, inference

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("plain", ROOT / "benchmarks" / "plain.py")
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

TOLERANCE = 3e-4  # as in tests/checkpoints/test_released.py
SMALL = {"num_downsamples": 2, "token_embed_dim": 32, "embed_dim": 64, "ffn_embed_dim": 32, "num_layers": 1}
SMALL |= {"attention_heads": 2, "key_size": 8}


@pytest.mark.parametrize("case", ["a_basic", "b_spatial", "c_noskip_head2", "d_mid8", "e_longseq", "f_spatial_scales"])
@torch.no_grad()
def test_plain_outputs_are_those_of_the_reference(case, request):
    folder = ROOT / "tests" / "data" / "golden" / case
    if not folder.is_dir():
        folder = request.getfixturevalue("reference_dir") / "golden" / case
    network = read_released(folder).network
    expected = dict(np.load(folder / "golden.npz"))
    tokens = torch.from_numpy(expected["tokens"]).unflatten(1, (-1, network.n_genes))
    coordinates = torch.from_numpy(expected["coordinates"]) if "coordinates" in expected else None
    found = plain.outputs(network.config, network.state_dict(), tokens, coordinates)
    found["logits"] = found["logits"].unflatten(0, (len(tokens), -1))
    compared = set(found) & set(expected)
    assert {"conv_out", "transformer_out", "deconv_out", "logits", "residual_0"} <= compared
    for name in compared:
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=0, atol=TOLERANCE, err_msg=name)


def random_network(n_genes: int, **options) -> ReleasedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ReleasedNetwork(ReleasedConfig(**(SMALL | options)), n_genes).eval()
        for parameter in network.parameters():  # no parameter may be zero or one, which would mask mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def random_bags(network: ReleasedNetwork, n_bags: int, n_cells: int) -> Bags:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 7, (n_bags, n_cells, network.n_genes), generator=generator)
    return Bags(tokens, 20 * torch.rand(n_bags, n_cells, 2, generator=generator))


def logits_of(network: ReleasedNetwork, bags: Bags, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return network.bin_logits(bags, torch.arange(bags.tokens.numel()))


def plain_logits_of(network: ReleasedNetwork, bags: Bags) -> torch.Tensor:
    with torch.inference_mode():
        found = plain.outputs(network.config, network.state_dict(), bags.tokens, bags.coordinates)["logits"]
    return found[:, : network.config.n_bins]


# 12 genes: three positions in the bottleneck, fewer than the halo of a convolution has in one cell.
@pytest.mark.parametrize(
    ("n_genes", "n_bags", "n_cells"), [(12, 1, 1), (12, 2, 5), (4, 1, 3), (100, 1, 7), (256, 2, 4)]
)
@pytest.mark.parametrize("cache_bytes", [0, 30_000, 1 << 30], ids=["cell by cell", "few cells", "all at once"])
@pytest.mark.parametrize("operations", ["fused", "public", "fewer multiplications"])
def test_the_network_equals_the_plain_one(n_genes, n_bags, n_cells, cache_bytes, operations, monkeypatch):
    if operations == "public":
        monkeypatch.setattr(convolution, "has_fused_gelu", lambda dtype: False)
    if operations == "fewer multiplications":  # as in released sizes, whose channels are more
        monkeypatch.setattr(convolution, "WIDE", 1)
    monkeypatch.setattr(inference, "CACHE_BYTES", cache_bytes)
    monkeypatch.setattr(inference, "STEM_POSITIONS", 50)
    network = random_network(n_genes)
    bags = random_bags(network, n_bags, n_cells)
    torch.testing.assert_close(logits_of(network, bags), plain_logits_of(network, bags), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "options", [{"use_spatial_information": True}, {"use_skip_connection": False}, {"num_hidden_layers_head": 0}]
)
def test_options_of_the_network_equal_the_plain_one(options):
    network = random_network(64, **options)
    bags = random_bags(network, 2, 3)
    torch.testing.assert_close(logits_of(network, bags), plain_logits_of(network, bags), atol=TOLERANCE, rtol=0)


def test_with_and_without_gradients_are_equal():
    network = random_network(64)
    bags = random_bags(network, 2, 3)
    of_training = network.bin_logits(bags, torch.arange(bags.tokens.numel()))
    assert of_training.requires_grad
    torch.testing.assert_close(of_training.detach(), logits_of(network, bags), atol=TOLERANCE, rtol=0)
    with torch.no_grad():
        vectors = network.cell_embedding(bags)
    torch.testing.assert_close(network.cell_embedding(bags).detach(), vectors, atol=TOLERANCE, rtol=0)


def test_training_in_mixed_precision_is_close():
    network = random_network(64)
    bags = random_bags(network, 1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network.bin_logits(bags, torch.arange(bags.tokens.numel()))
        logits.square().mean().backward()
    assert all(torch.isfinite(each.grad).all() for each in network.parameters())
    expected = logits_of(network, bags)
    assert (logits - expected).abs().mean() < 0.03 * expected.std()


@pytest.mark.parametrize("fused", [True, False])
def test_bfloat16_agrees_with_float32(fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(convolution, "has_fused_gelu", lambda dtype: False)
    network = random_network(256, num_downsamples=4, embed_dim=256)
    bags = random_bags(network, 1, 5)
    exact, rough = plain_logits_of(network, bags), logits_of(network, bags, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert (exact.argmax(1) == rough.argmax(1)).float().mean() > 0.97
    bins = torch.arange(exact.shape[1], dtype=torch.float32)
    assert ((exact.softmax(1) - rough.softmax(1)) @ bins).abs().mean() < 0.01
    assert not torch.equal(exact, rough)


def test_weights_that_change_are_used_at_once():
    network = random_network(64)
    bags = random_bags(network, 1, 2)
    before = {dtype: logits_of(network, bags, dtype) for dtype in (torch.float32, torch.bfloat16)}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    for dtype, old in before.items():
        assert (logits_of(network, bags, dtype) - old).abs().max() > 0.01
    torch.testing.assert_close(logits_of(network, bags), plain_logits_of(network, bags), atol=TOLERANCE, rtol=0)


def test_fewer_multiplications_give_the_same_at_released_width():
    generator = torch.Generator().manual_seed(0)
    x, bias = torch.randn(2, 44, 928, generator=generator), torch.randn(1024, generator=generator)
    weight = torch.randn(1024, 928, 1, 5, generator=generator) / (5 * 928) ** 0.5
    kernels = convolution.faster_kernels(weight)
    assert kernels is not None
    with torch.inference_mode():
        found, expected = convolution.wide_conv_gelu(x, kernels, bias), convolution.conv_gelu(x, weight, bias)
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=0)
    assert convolution.faster_kernels(weight.bfloat16()) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_that_of_torch(dtype):
    x = torch.linspace(-30, 30, 10_001).to(dtype)
    expected = torch.nn.functional.gelu(x.float(), approximate="tanh")
    with torch.inference_mode():
        found = convolution.gelu(x.clone())
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=1e-6, rtol=1e-6 if dtype == torch.float32 else 2**-8)


@pytest.mark.parametrize("broken", ["missing", "wrong"])
def test_a_fused_operation_that_is_missing_or_wrong_is_not_used(broken, monkeypatch):
    def fused(x, weight, bias):
        if broken == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")
        return 1.001 * torch.nn.functional.gelu(
            convolution.as_table(torch.nn.functional.conv2d(convolution.as_image(x), weight, bias)), approximate="tanh"
        )

    monkeypatch.setattr(convolution, "_fused", fused)
    convolution.has_fused_gelu.cache_clear()
    try:
        assert not convolution.has_fused_gelu(torch.float32)
        network = random_network(64)
        bags = random_bags(network, 1, 3)
        torch.testing.assert_close(logits_of(network, bags), plain_logits_of(network, bags), atol=TOLERANCE, rtol=0)
    finally:
        convolution.has_fused_gelu.cache_clear()
