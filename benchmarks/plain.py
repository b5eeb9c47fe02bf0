"""The released network as its description reads: float32, textbook layouts, nothing done for speed.

`speed.py` compares with it, and `tests/model/test_plain.py` checks it against the outputs of the reference. It reads
the weights of a :class:`~scanpy_sct.model.ReleasedNetwork` by their names and shares no code with it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scanpy_sct.model import ReleasedConfig

HEAD_TOKENS = 65_536
"""Tokens of the head at once, since its hidden layer for a whole bag takes 4 GB."""


def outputs(
    config: ReleasedConfig,
    weights: dict[str, Tensor],
    tokens: Tensor,
    coordinates: Tensor | None = None,
    token_index: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the outputs of the network, named as in the reference.

    Parameters
    ----------
    config, weights
        Of a `ReleasedNetwork`: its `config` and `state_dict()`.
    tokens
        (batch, cells, genes).
    coordinates
        (batch, cells, 2), for networks that read them.
    token_index
        Tokens for which logits are computed, into the flattened tokens; None: all.
    """
    n_cells = tokens.shape[1]
    x = weights["token_embedding.weight"][tokens.long()]  # (batch, cells, genes, channels)
    if config.use_spatial_information:
        x = x + spatial_encoding(config, weights, coordinates)[:, :, None]
    x = x.flatten(1, 2).transpose(1, 2)  # (batch, channels, length)
    x = gelu(F.conv1d(x, weights["stem.weight"][:, :, 0], weights["stem.bias"], padding=7))
    residuals = []
    for i in range(config.num_downsamples):
        residuals.append(x)
        x = down_block(weights, f"down.{i}", x, n_cells)
    found = {f"residual_{i}": residual for i, residual in enumerate(residuals)}
    x = x.transpose(1, 2)  # (batch, positions, channels)
    found["conv_out"] = x
    for i in range(config.num_layers):
        x = transformer_block(config, weights, f"layers.{i}", x)
    found["transformer_out"] = x
    x = x.transpose(1, 2)
    for i in range(config.num_downsamples):
        x = up_block(weights, f"up.{i}", x, n_cells)
        residual = residuals.pop()
        x = x + residual if config.use_skip_connection else x
    found["deconv_out"] = x
    x = x.transpose(1, 2).flatten(0, 1)
    x = x if token_index is None else x[token_index]
    found["logits"] = torch.cat([head(config, weights, part) for part in x.split(HEAD_TOKENS)])
    return found


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def spatial_encoding(config: ReleasedConfig, weights: dict[str, Tensor], coordinates: Tensor) -> Tensor:
    scales = torch.linspace(config.sigma_min, config.sigma_max, config.num_scales)
    wavelengths = config.sigma_min * (config.sigma_max / config.sigma_min) ** (scales / (config.num_scales - 1))
    features = []
    for wavelength in wavelengths:
        features += [(coordinates[..., 0] / wavelength).cos(), (coordinates[..., 1] / wavelength).sin()]
    return linear(weights, "spatial_encoding.linear", torch.stack(features, dim=-1))


def gene_norm(weights: dict[str, Tensor], name: str, x: Tensor, n_cells: int) -> Tensor:
    """Normalise over the positions of each cell, separately for each channel."""
    scale, offset = weights[f"{name}.weight"], weights[f"{name}.bias"]
    by_cell = x.unflatten(2, (n_cells, -1))
    return F.layer_norm(by_cell, scale.shape, scale, offset, eps=1e-5).flatten(2)


def convolution(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = weights[f"{name}.weight"][:, :, 0]
    return F.conv1d(x, weight, weights[f"{name}.bias"], padding=weight.shape[2] // 2)


def down_block(weights: dict[str, Tensor], name: str, x: Tensor, n_cells: int) -> Tensor:
    y = gelu(convolution(weights, f"{name}.conv.conv", gene_norm(weights, f"{name}.conv.norm", x, n_cells)))
    normed = gene_norm(weights, f"{name}.pointwise.norm", y, n_cells)
    return F.avg_pool1d(y + gelu(convolution(weights, f"{name}.pointwise.conv", normed)), 2)


def up_block(weights: dict[str, Tensor], name: str, x: Tensor, n_cells: int) -> Tensor:
    x = gene_norm(weights, f"{name}.conv.norm", x, n_cells)
    weight, bias = weights[f"{name}.conv.conv.weight"][:, :, 0], weights[f"{name}.conv.conv.bias"]
    y = gelu(F.conv_transpose1d(x, weight, bias, stride=2, padding=1)[..., :-1])
    normed = gene_norm(weights, f"{name}.pointwise.norm", y, n_cells)
    return y + gelu(convolution(weights, f"{name}.pointwise.conv", normed))


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def transformer_block(config: ReleasedConfig, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    def norm(which: str, x: Tensor) -> Tensor:
        scale, offset = weights[f"{name}.{which}.weight"], weights[f"{name}.{which}.bias"]
        return F.layer_norm(x, scale.shape, scale, offset, eps=config.layer_norm_eps)

    x = x + attention(config, weights, f"{name}.attention", norm("attention_norm", x))
    gate, value = linear(weights, f"{name}.mlp_in", norm("mlp_norm", x)).chunk(2, dim=-1)
    return x + linear(weights, f"{name}.mlp_out", F.silu(gate) * value)


def attention(config: ReleasedConfig, weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    parts = [linear(weights, f"{name}.{part}", x).split(config.key_size, -1) for part in ("query", "key", "value")]
    heads = []
    for query, key, value in zip(*parts, strict=True):  # one head at a time, since the scores of all take 1 GB
        scores = rotary(query) @ rotary(key).transpose(1, 2) / config.key_size**0.5
        heads.append(scores.softmax(-1) @ value)
    return linear(weights, f"{name}.output", torch.cat(heads, dim=-1))


def rotary(x: Tensor) -> Tensor:
    """Rotate component j and component j + half, by an angle that grows with the position in the bag."""
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * frequencies
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
    )


def head(config: ReleasedConfig, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    x = gelu(x)
    for i in range(config.num_hidden_layers_head):
        x = gelu(linear(weights, f"head.{i}", x))
    return linear(weights, f"head.{config.num_hidden_layers_head}", x)
