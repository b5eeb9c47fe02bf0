"""Single layers against the reference's own (tests/data/golden/primitives.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scanpy_sct.model.layers import (
    NormConv,
    NormUpConv,
    SpatialEncoding,
    TransformerBlock,
    gelu,
    rotary_angles,
    rotate,
)

FILE = Path(__file__).parents[1] / "data" / "golden" / "primitives.npz"
N_CELLS, N_HEADS = 2, 3


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(FILE).items()}


@pytest.fixture
def case(golden):
    """Give the arrays of one case by the last parts of their names."""

    def of(name: str) -> dict[str, Tensor]:
        start = name + "/"
        return {
            "/".join(key.removeprefix(start).split("/")[-2:]): value
            for key, value in golden.items()
            if key.startswith(start)
        }

    return of


def fill(block: NormConv | NormUpConv, arrays: dict[str, Tensor], conv: str, weight: Tensor) -> None:
    block.norm.weight.data = arrays["layer_norm/scale"]
    block.norm.bias.data = arrays["layer_norm/offset"]
    block.conv.weight.data = weight[:, :, None]
    block.conv.bias.data = arrays[f"{conv}/b"][:, 0]


def run(block: torch.nn.Module, x: Tensor) -> Tensor:
    """(batch, channels, cells, positions) -> (batch, channels, length)."""
    return block(x.flatten(2)[:, :, None].contiguous(memory_format=torch.channels_last)).squeeze(2)


@torch.no_grad()
def test_conv_block(case):
    arrays = case("conv_block")
    block = NormConv(8, 3, 6, kernel=5)
    fill(block, arrays, "conv1_d", arrays["conv1_d/w"].permute(2, 1, 0))
    torch.testing.assert_close(run(block, arrays["in0"]), arrays["out0"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_residual_conv_block(case):
    arrays = case("residual_conv_block")
    block = NormConv(8, 3, 3, kernel=1)
    fill(block, arrays, "conv1_d", arrays["conv1_d/w"].permute(2, 1, 0))
    x = arrays["in0"]
    torch.testing.assert_close(x.flatten(2) + run(block, x), arrays["out0"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_deconv_block(case):
    arrays = case("deconv_block")
    block = NormUpConv(4, 3, 6)
    fill(block, arrays, "conv1_d_transpose", arrays["conv1_d_transpose/w"].permute(2, 1, 0).flip(-1))
    torch.testing.assert_close(run(block, arrays["in0"]), arrays["out0"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_residual_deconv_block(case):
    arrays = case("residual_deconv_block")
    block = NormConv(4, 3, 3, kernel=1)
    fill(block, arrays, "conv1_d_transpose", arrays["conv1_d_transpose/w"][0][:, :, None])
    x = arrays["in0"]
    torch.testing.assert_close(x.flatten(2) + run(block, x), arrays["out0"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_transformer_block(case):
    arrays = case("attention_block")
    block = TransformerBlock(16, N_HEADS, 8, 12)
    names = {"attention_norm": "self_attention_layer_norm", "mlp_norm": "final_layer_norm"}
    for ours, theirs in names.items():
        getattr(block, ours).weight.data = arrays[f"{theirs}/scale"]
        getattr(block, ours).bias.data = arrays[f"{theirs}/offset"]
    for ours, theirs in {"query": "query", "key": "key", "value": "value", "output": "mha_output"}.items():
        getattr(block.attention, ours).weight.data = arrays[f"{theirs}/w"].T
        getattr(block.attention, ours).bias.data = arrays[f"{theirs}/b"]
    block.mlp_in.weight.data, block.mlp_out.weight.data = arrays["fc1/w"].T, arrays["fc2/w"].T
    torch.testing.assert_close(block(arrays["in0"]), arrays["out0"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_spatial_encoding(case):
    arrays = case("spatial_default")
    encoding = SpatialEncoding(8, 10, 1.0, 10.0)
    encoding.linear.weight.data = arrays["spatial_fully_connected/w"].T
    encoding.linear.bias.data = arrays["spatial_fully_connected/b"]
    torch.testing.assert_close(encoding(arrays["in0"]), arrays["out0"], atol=3e-5, rtol=0)


def test_rotary(golden):
    positions = golden["rotary64/positions"]
    cos, sin = rotary_angles(int(positions.max()) + 1, 64, torch.device("cpu"))
    for name in ("q", "k"):
        rotated = rotate(golden[f"rotary64/{name}_in"], cos[positions], sin[positions])
        torch.testing.assert_close(rotated, golden[f"rotary64/{name}_out"], atol=5e-4, rtol=0)


def test_gelu(golden):
    torch.testing.assert_close(gelu(golden["gelu_tanh/in0"]), golden["gelu_tanh/out0"], atol=1e-6, rtol=0)
