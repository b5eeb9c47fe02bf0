"""Convolutions with GELU of tables ``(batch, length, channels)``, in the form that is fastest on a processor."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

GELU_SCALE, GELU_CUBE = 1.5957691216057308, 0.07135481627260025
"""GELU's tanh form is ``x * sigmoid(GELU_SCALE * x + GELU_CUBE * x ** 3)``."""
PIECE, MIN_PIECE = 312, 16
"""A linear layer is computed in pieces of a divisor of `PIECE` tokens."""
WIDE = 320
"""Channels from which on :func:`wide_conv_gelu` saves time."""


def as_image(x: Tensor) -> Tensor:
    """(batch, length, channels) -> (batch, channels, 1, length), without a copy."""
    return x.transpose(1, 2).unsqueeze(2)


def as_table(x: Tensor) -> Tensor:
    """(batch, channels, 1, length) -> (batch, length, channels), without a copy where channels come last in memory."""
    return x.squeeze(2).transpose(1, 2)


def gelu(x: Tensor) -> Tensor:
    """Apply GELU in its tanh form; the result may be in the memory of ``x``."""
    # The same function by the sigmoid, which takes half the time of the tanh.
    wide = x.float()
    gate = wide.square().mul_(GELU_CUBE).add_(GELU_SCALE).mul_(wide).sigmoid_()
    return torch.mul(wide, gate, out=x) if x.dtype == torch.float32 else gate.mul_(wide).to(x.dtype)


def conv_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(batch, length, n_in) -> (batch, length - kernel + 1, n_out): convolution without padding, then GELU."""
    if has_fused_gelu(x.dtype):
        return _fused(x, weight, bias)
    return gelu(_conv(x, weight, bias))


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return as_table(F.conv2d(as_image(x), weight, bias))


def _fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    one, none = (1, 1), (0, 0)
    convolve = torch.ops.mkldnn._convolution_pointwise
    return as_table(convolve(as_image(x), weight, bias, none, one, one, 1, "gelu", [], "tanh"))


@cache
def has_fused_gelu(dtype: torch.dtype) -> bool:
    """Return whether this torch has a convolution that applies GELU to its sums, and whether it is exact.

    It saves writing and reading each result once more, but is private to torch. So it is tried once on small numbers:
    if it fails or its results differ, the public operations are used.
    """
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in ((1, 50, 32), (64, 32, 1, 3)))
    bias = torch.randn(64, generator=generator).to(dtype)
    try:
        found = _fused(x, weight, bias).float()
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = gelu(_conv(x.float(), weight.float(), bias.float()))
    tolerance = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=tolerance, atol=tolerance)


def faster_kernels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the three kernels of :func:`wide_conv_gelu` for a kernel of five, or None where it saves no time.

    In bfloat16 it would lose digits, since it subtracts rounded sums.
    """
    if weight.dtype != torch.float32 or weight.shape[1] < WIDE or weight.shape[3] != 5:
        return None
    even, odd = weight[..., 0::2], weight[..., 1::2]
    kernels = even, odd, even + F.pad(odd, (1, 0))
    return tuple(kernel.contiguous(memory_format=torch.channels_last) for kernel in kernels)


def wide_conv_gelu(x: Tensor, kernels: tuple[Tensor, Tensor, Tensor], bias: Tensor) -> Tensor:
    """Compute :func:`conv_gelu` for a kernel of five and an even length with four fifths of the multiplications.

    With even and odd taps E, O of the kernel, O' for O one tap later, and even and odd positions e, o of ``x``, the
    even and odd results are ``E e + O o`` and ``E o + O' e``. The latter is ``(E + O') (e + o) - E e - O' o``, so that
    three convolutions of half the length, with 3, 2 and 3 taps, replace one with 5 taps.
    """
    even, odd, both = kernels
    first, second = x.unflatten(1, (-1, 2)).unbind(2)
    of_even = _conv(first.contiguous(), even, bias)
    of_odd = _conv(second.contiguous(), odd, None)
    of_both = _conv(first + second, both, 2 * bias)
    result = x.new_empty(len(x), of_even.shape[1], 2, len(bias))
    torch.add(of_even, of_odd[:, :-1], out=result[:, :, 0])
    torch.sub(of_both.sub_(of_even), of_odd[:, 1:], out=result[:, :, 1])
    return gelu(result.flatten(1, 2))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(batch, length, n_in) -> (batch, length, n_out).

    As a convolution of short pieces, which takes a tenth less time than a matrix product.
    """
    piece = math.gcd(x.shape[1], PIECE)
    if piece < MIN_PIECE:
        return F.linear(x, weight, bias)
    pieces = x.reshape(-1, piece, x.shape[2])
    return _conv(pieces, weight[..., None, None], bias).reshape(*x.shape[:2], -1)
