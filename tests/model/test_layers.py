from __future__ import annotations

import numpy as np
import pytest
import torch

from scanpy_sct.model.layers import Attention, GeneNorm, NormUpConv, rotary_angles, rotate


@pytest.mark.parametrize("n_positions", [4, 1024])
@torch.no_grad()
def test_gene_norm_equals_layer_norm_of_each_cell_and_channel(n_positions):
    torch.manual_seed(0)
    norm = GeneNorm(n_positions)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = 3 + torch.randn(2, 5, 1, 3 * n_positions)
    by_cell = x.reshape(2, 5, 3, n_positions)
    expected = torch.nn.functional.layer_norm(by_cell, (n_positions,), norm.weight, norm.bias, 1e-5)
    torch.testing.assert_close(norm(x).reshape(by_cell.shape), expected, atol=5e-5, rtol=1e-4)


@torch.no_grad()
def test_upward_convolution_by_its_formula():
    """As in the reference: out[2m] = b + W1 x[m-1] + W3 x[m]; out[2m+1] = b + W0 x[m-1] + W2 x[m] + W4 x[m+1]."""
    torch.manual_seed(0)
    conv = NormUpConv(6, 3, 4).conv
    x = torch.randn(1, 3, 1, 6)
    stored = conv.weight.flip(-1)  # (in, out, 1, k)
    padded = torch.nn.functional.pad(x[0, :, 0], (1, 1))
    w = [stored[:, :, 0, t].T for t in range(5)]
    before, here, after = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    even = conv.bias[:, None] + w[1] @ before + w[3] @ here
    odd = conv.bias[:, None] + w[0] @ before + w[2] @ here + w[4] @ after
    expected = torch.stack([even, odd], -1).flatten(1)
    torch.testing.assert_close(conv(x)[0, :, 0, :-1], expected, atol=1e-5, rtol=1e-5)


def test_rotary_rotates_pairs_half_a_head_apart():
    cos, sin = rotary_angles(3900, 4, torch.device("cpu"))
    x = torch.zeros(3900, 4)
    x[:, 1] = 1
    rotated = rotate(x, cos, sin)
    angle = 3899 * 10000 ** (-2 / 4)
    np.testing.assert_allclose(rotated[3899], [0, np.cos(angle), 0, np.sin(angle)], atol=1e-4)


def test_attention_without_positions_ignores_the_order():
    torch.manual_seed(0)
    attention = Attention(8, 2, 4, rotary=False)
    x = torch.randn(1, 5, 8)
    order = torch.tensor([3, 1, 0, 4, 2])
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
