"""Building blocks of the networks.

Convolutional blocks take and return ``(batch, channels, 1, length)`` in channels-last memory, where convolutions are
fastest on processors and GPUs; ``length`` is the number of cells times the sequence positions of a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.model import convolution, inference

GENE_NORM_EPS = 1e-5
EXACT_NORM_POSITIONS = 512
ROTARY_BASE = 10000.0


def gelu(x: Tensor) -> Tensor:
    """Apply GELU in its tanh form, as the released network does."""
    return F.gelu(x, approximate="tanh")


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to ``x`` (batch, length, channels), without gradients in the type of ``x``."""
    if not inference.is_used(x):
        return module(x)
    return convolution.linear(x, module.weight.to(x.dtype), None if module.bias is None else module.bias.to(x.dtype))


def linear_gelu(module: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer and GELU to ``x`` (tokens, channels)."""
    if not inference.is_used(x):
        return gelu(module(x))
    return convolution.conv_gelu(x[None], module.weight.to(x.dtype)[..., None, None], module.bias.to(x.dtype))[0]


def random_weights(*shape: int, std: float) -> nn.Parameter:
    """Return weights from a normal distribution of mean 0; without values on the device "meta" (see make_network)."""
    weights = torch.empty(shape)
    return nn.Parameter(weights if weights.is_meta else weights.normal_().mul_(std))


class GeneNorm(nn.Module):
    """Layer normalisation over the positions of one cell, separately for every cell and channel."""

    def __init__(self, n_positions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_positions))
        self.bias = nn.Parameter(torch.zeros(n_positions))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (batch, channels, 1, cells * positions)."""
        batch, channels, _, length = x.shape
        n_positions = len(self.weight)
        cells = x.permute(0, 2, 3, 1).reshape(-1, n_positions, channels)
        if n_positions <= EXACT_NORM_POSITIONS:
            # The variance of few numbers is sensitive to rounding errors.
            variance, mean = torch.var_mean(cells.float(), dim=1, correction=0, keepdim=True)
            normed = ((cells - mean) * (variance + GENE_NORM_EPS).rsqrt()).to(x.dtype)
        else:
            # One group per channel: statistics over positions, in float32 for any type of x.
            normed = F.group_norm(cells.transpose(1, 2).unsqueeze(2), num_groups=channels, eps=GENE_NORM_EPS)
            normed = normed.squeeze(2).transpose(1, 2)
        normed = normed * self.weight.to(x.dtype)[:, None] + self.bias.to(x.dtype)[:, None]
        return normed.reshape(batch, 1, length, channels).permute(0, 3, 1, 2)


class NormConv(nn.Module):
    """Gene norm, convolution (odd kernel, length kept), GELU."""

    def __init__(self, n_positions: int, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.norm = GeneNorm(n_positions)
        self.conv = nn.Conv2d(n_in, n_out, (1, kernel), padding=(0, kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, 1, length) -> (batch, n_out, 1, length)."""
        return gelu(self.conv(self.norm(x)))


class NormUpConv(nn.Module):
    """Gene norm, transposed convolution that doubles the length, GELU."""

    def __init__(self, n_positions: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm = GeneNorm(n_positions)
        self.conv = nn.ConvTranspose2d(n_in, n_out, (1, 5), stride=(1, 2), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, 1, length) -> (batch, n_out, 1, 2 * length)."""
        # The reference pads 3 positions on the left and 2 on the right; torch pads evenly and gives one too many.
        return gelu(self.conv(self.norm(x))[..., :-1])


class DownBlock(nn.Module):
    """One block of the encoder: two convolutions, then pooling that halves the length."""

    def __init__(self, n_positions: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = NormConv(n_positions, n_in, n_out, kernel=5)
        self.pointwise = NormConv(n_positions, n_out, n_out, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in, 1, length) -> (batch, n_out, 1, length / 2)."""
        if inference.is_used(x):
            return inference.down(self, x)
        x = self.conv(x)
        x = x + self.pointwise(x)
        return F.avg_pool2d(x, (1, 2))


class UpBlock(nn.Module):
    """One block of the decoder: upsampling that doubles the length, then the skip connection."""

    def __init__(self, n_positions: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = NormUpConv(n_positions, n_in, n_out)
        self.pointwise = NormConv(2 * n_positions, n_out, n_out, kernel=1)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(batch, n_in, 1, length) -> (batch, n_out, 1, 2 * length)."""
        if inference.is_used(x):
            return inference.up(self, x, skip)
        x = self.conv(x)
        x = x + self.pointwise(x)
        return x if skip is None else x + skip


def rotary_angles(n_positions: int, key_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the rotary angles, each (n_positions, key_size / 2).

    Always in float32: at position 3,899 a bfloat16 angle is wrong by several radians.
    """
    frequencies = ROTARY_BASE ** (-torch.arange(0, key_size, 2, device=device, dtype=torch.float32) / key_size)
    angles = torch.arange(n_positions, device=device, dtype=torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x`` (..., positions, key_size); component j is paired with component j + key_size / 2."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention, with rotary positions unless ``rotary`` is off."""

    def __init__(self, dim: int, heads: int, key_size: int, *, rotary: bool = True) -> None:
        super().__init__()
        self.heads, self.key_size, self.rotary = heads, key_size, rotary
        self.query = nn.Linear(dim, heads * key_size)
        self.key = nn.Linear(dim, heads * key_size)
        self.value = nn.Linear(dim, heads * key_size)
        self.output = nn.Linear(heads * key_size, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.key_size)).transpose(1, 2)  # (batch, heads, positions, key_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, dim) -> the same shape."""
        query, key, value = (self._split(linear(each, x)) for each in (self.query, self.key, self.value))
        if self.rotary:
            cos, sin = rotary_angles(x.shape[1], self.key_size, x.device)
            query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        attended = F.scaled_dot_product_attention(query, key, value)
        return linear(self.output, attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm attention and gated (SwiGLU) feed-forward layer."""

    def __init__(
        self, dim: int, heads: int, key_size: int, ffn_dim: int, eps: float = 1e-5, *, rotary: bool = True
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.attention = Attention(dim, heads, key_size, rotary=rotary)
        self.mlp_norm = nn.LayerNorm(dim, eps=eps)
        self.mlp_in = nn.Linear(dim, 2 * ffn_dim, bias=False)
        self.mlp_out = nn.Linear(ffn_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, dim) -> the same shape."""
        # Norms in float32 for any type of x.
        x = x + self.attention(self.attention_norm(x.float()).to(x.dtype))
        gate, value = linear(self.mlp_in, self.mlp_norm(x.float()).to(x.dtype)).chunk(2, dim=-1)
        return x + linear(self.mlp_out, F.silu(gate) * value)


class SpatialEncoding(nn.Module):
    """Sinusoidal encoding of the coordinates of each cell."""

    def __init__(self, dim: int, num_scales: int, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.num_scales, self.sigma_min, self.sigma_max = num_scales, sigma_min, sigma_max
        self.linear = nn.Linear(2 * num_scales, dim)

    def forward(self, coordinates: Tensor) -> Tensor:
        """(batch, cells, 2 or more) -> (batch, cells, dim); the wavelengths are in the unit of the coordinates."""
        scales = torch.linspace(self.sigma_min, self.sigma_max, self.num_scales, device=coordinates.device)
        # The exponent is the scale, not its index, as in the released network.
        wavelengths = self.sigma_min * (self.sigma_max / self.sigma_min) ** (scales / (self.num_scales - 1))
        x = coordinates[..., 0:1].float() / wavelengths
        y = coordinates[..., 1:2].float() / wavelengths
        return self.linear(torch.stack([x.cos(), y.sin()], dim=-1).flatten(-2))
