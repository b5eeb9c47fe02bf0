"""The released network without gradients: the numbers of `layers.py`, two to three times faster on a processor.

A bag is a table ``(batch, length, channels)``; channels-last convolutions read it without a copy. Each block of the
encoder and the decoder walks over it in groups of cells that are small enough to stay in the processor's cache from the
norm to the activation. `benchmarks/speed.py` measures what this is worth. GPUs run `layers.py` under autocast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.model.convolution import as_image, as_table, conv_gelu, faster_kernels, gelu, wide_conv_gelu

if TYPE_CHECKING:
    from scanpy_sct.model.layers import DownBlock, GeneNorm, NormConv, UpBlock

GENE_NORM_EPS = 1e-5
CACHE_BYTES = 4 << 20
"""Size of the largest table of a group of cells; several of them fit into a last-level cache."""
STEM_POSITIONS = 16_384
"""Positions of the stem in one look-up."""


def is_used(x: Tensor) -> bool:
    """Return whether a module that got ``x`` is to be computed by the functions of this file."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


@contextmanager
def precision_of(weight: Tensor) -> Iterator[torch.dtype]:
    """Give the type to compute in: that of autocast, else that of the weights.

    Autocast itself is off where this file is used: each function casts its weights, and what has to stay in float32
    (statistics, angles, the last layer) would be cast too.
    """
    device = weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False) if is_used(weight) else nullcontext():
        yield dtype


def stem(conv: nn.Conv2d, embedding: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute embedding, first convolution and GELU: (batch, cells, genes) -> (batch, channels, 1, cells * genes).

    There are so few different tokens that the contribution of any three in a row can be looked up. A position is then
    a sum of five rows of a table, instead of fifteen products with a matrix.
    """
    lowest, highest = map(int, tokens.aminmax())
    if lowest < 0 or highest >= len(embedding):  # would read a wrong row
        msg = f"tokens has values from {lowest} to {highest}, expected 0 to {len(embedding) - 1}."
        raise ValueError(msg)
    table, rows_of_a_place = _table_of_triplets(conv, embedding)
    outside, margin = len(embedding), conv.padding[1]
    padded = F.pad(tokens.flatten(1).int(), (margin, margin), value=outside)
    base = outside + 1
    triplets = (padded[:, :-2] * base + padded[:, 1:-1]) * base + padded[:, 2:]
    n_places = len(table) // rows_of_a_place
    first_row = rows_of_a_place * torch.arange(n_places, dtype=torch.int32, device=tokens.device)
    batch, length = len(tokens), tokens[0].numel()
    result = table.new_empty(batch, length, table.shape[1], dtype=dtype)
    for start in range(0, length, STEM_POSITIONS):
        part = result[:, start : start + STEM_POSITIONS]
        read = triplets[:, start : start + part.shape[1] + 3 * (n_places - 1)]
        rows = read.unfold(1, 3 * n_places - 2, 1)[..., ::3] + first_row
        part.copy_(gelu(F.embedding_bag(rows.flatten(0, 1), table, mode="sum")).view_as(part))
    return as_image(result)


def _table_of_triplets(conv: nn.Conv2d, embedding: Tensor) -> tuple[Tensor, int]:
    """Return the contributions (places * rows, channels) of three tokens at each place under the kernel, and rows."""
    taps = embedding.float() @ conv.weight.float().squeeze(2).permute(2, 1, 0)  # (kernel, tokens, out)
    taps = F.pad(taps, (0, 0, 0, 1))  # one more token, which adds nothing: beyond the ends of the bag
    first, second, third = taps[0::3], taps[1::3], taps[2::3]
    table = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]
    table[0] += conv.bias
    return table.flatten(0, 3), table[0, ..., 0].numel()


def down(block: DownBlock, x: Tensor) -> Tensor:
    """Compute a block of the encoder: (batch, n_in, 1, length) -> (batch, n_out, 1, length / 2)."""
    x = as_table(x)
    weight, bias = _cast(block.conv.conv, x.dtype)
    kernels = faster_kernels(weight)
    batch, length, n_in = x.shape
    n_out = len(bias)
    result = x.new_empty(batch, length // 2, n_out)
    step = _group_length(block, x, max(n_in, n_out))
    normed = (gene_norm(block.conv.norm, group) for group in x.split(step, dim=1))
    targets = result.split(step // 2, dim=1)
    for group, target in zip(_with_halo(normed, weight.shape[-1] // 2), targets, strict=True):
        y = conv_gelu(group, weight, bias) if kernels is None else wide_conv_gelu(group, kernels, bias)
        y += _pointwise(block.pointwise, y)
        pairs = y.view(batch, -1, 2, n_out)
        torch.add(pairs[:, :, 0], pairs[:, :, 1], out=target).mul_(0.5)
    return as_image(result)


def up(block: UpBlock, x: Tensor, skip: Tensor | None) -> Tensor:
    """Compute a block of the decoder: (batch, n_in, 1, length) -> (batch, n_out, 1, 2 * length).

    The transposed convolution is two ordinary ones, for the even and the odd positions of the result: with a bias,
    torch computes transposed ones several times slower in bfloat16.
    """
    x = as_table(x)
    weight, bias = _cast(block.conv.conv, x.dtype)
    weight = weight.transpose(0, 1).flip(-1)  # (out, in, 1, 5)
    even, odd = (weight[..., taps].contiguous(memory_format=torch.channels_last) for taps in ([1, 3], [0, 2, 4]))
    batch, length, n_in = x.shape
    n_out = len(bias)
    result = x.new_empty(batch, 2 * length, n_out)
    step = _group_length(block, x, max(n_in, 2 * n_out))
    normed = (gene_norm(block.conv.norm, group) for group in x.split(step, dim=1))
    targets = result.split(2 * step, dim=1)
    skips = [None] * len(targets) if skip is None else as_table(skip).split(2 * step, dim=1)
    for group, target, skip_group in zip(_with_halo(normed, 1), targets, skips, strict=True):
        halves = conv_gelu(group[:, :-1], even, bias), conv_gelu(group, odd, bias)
        y = torch.stack(halves, dim=2).flatten(1, 2)
        torch.add(y, _pointwise(block.pointwise, y), out=target)
        if skip_group is not None:
            target += skip_group
    return as_image(result)


def gene_norm(norm: GeneNorm, x: Tensor) -> Tensor:
    """Normalise ``x`` (batch, cells * positions, channels) over the positions of each cell; statistics in float32.

    Batch norm of images is the fastest operation of torch that reads such a table row by row: with the channels of a
    cell as channels it gives the statistics, with *positions* as channels scale and offset in one pass.
    """
    weight, bias = norm.weight, norm.bias
    cells = as_image(x.reshape(-1, len(weight), x.shape[2])).split(1)
    # Not `F.batch_norm`, which refuses a single position.
    normed = [torch.batch_norm(cell, None, None, None, None, True, 0.0, GENE_NORM_EPS, False) for cell in cells]
    normed = as_table(normed[0] if len(normed) == 1 else torch.cat(normed))
    if x.dtype == torch.float32:  # in place, which saves the system the work of giving and taking memory
        return normed.mul_(weight[:, None]).add_(bias[:, None]).reshape(x.shape)
    # In other types two operations would round twice.
    zero, one = torch.zeros_like(weight), torch.ones_like(weight)
    return F.batch_norm(normed, zero, one, weight, bias, eps=0.0).reshape(x.shape)


def _pointwise(block: NormConv, x: Tensor) -> Tensor:
    return conv_gelu(gene_norm(block.norm, x), *_cast(block.conv, x.dtype))


def _cast(conv: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # Casting all weights takes a few thousandths of the time of a bag, so that no copy has to be kept up to date.
    return conv.weight.to(dtype), conv.bias.to(dtype)


def _group_length(block: DownBlock | UpBlock, x: Tensor, widest: int) -> int:
    """Return how many positions of ``x`` (batch, cells * positions, channels) are a group: those of whole cells.

    ``widest`` is the largest number of channels that a position of the group will have.
    """
    n_positions = len(block.conv.norm.weight)
    bytes_per_cell = len(x) * n_positions * widest * x.element_size()
    return n_positions * max(1, CACHE_BYTES // bytes_per_cell)


def _with_halo(groups: Iterable[Tensor], width: int) -> Iterator[Tensor]:
    """Add to each group the last positions of the group before and the first of the group after, zeros at the ends.

    A convolution of each extended group without padding is a convolution of the whole.
    """
    groups = iter(groups)
    here = next(groups)
    before = outside = torch.zeros_like(here[:, :width])
    for after in chain(groups, [outside]):
        yield torch.cat([before, here, after[:, :width]], dim=1)
        before, here = here[:, -width:], after
