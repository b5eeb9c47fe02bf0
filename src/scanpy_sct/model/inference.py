"""The released network without gradients: the numbers of `layers.py`, two to three times faster on a processor.

A bag is a table ``(batch, length, channels)``; channels-last convolutions read it without a copy. Each block of the
encoder and the decoder walks over it in groups of cells that are small enough to stay in the processor's cache from the
norm to the activation; on a GPU all cells are one group. `benchmarks/speed.py` measures what this is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.model.convolution import as_image, as_table, conv_gelu, faster_kernels, gelu, wide_conv_gelu

if TYPE_CHECKING:
    from scanpy_sct.model.layers import DownBlock, NormConv, UpBlock

GENE_NORM_EPS = 1e-5
CACHE_BYTES = 4 << 20
"""Size of the largest table of a group of cells; several of them fit into a last-level cache."""
STEM_POSITIONS = 16_384
"""Positions of the stem in one look-up."""


@contextmanager
def precision_of(weight: Tensor) -> Iterator[torch.dtype]:
    """Give the type to compute in: that of autocast, else that of the weights.

    Without gradients autocast itself is off: it would also cast what has to stay in float32, and each block casts its
    weights where it uses them.
    """
    device = weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if torch.is_grad_enabled():
        yield dtype
        return
    with torch.autocast(device, enabled=False):
        yield dtype


def stem(conv: nn.Conv2d, embedding: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute embedding, first convolution and GELU: (batch, cells, genes) -> (batch, channels, 1, cells * genes).

    There are so few different tokens that the contribution of any three in a row can be looked up. A position is then
    a sum of five rows of a table, instead of fifteen products with a matrix.
    """
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
    taps = embedding @ conv.weight.squeeze(2).permute(2, 1, 0)  # (kernel, tokens, out)
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
    place = _places(result)
    for part in _with_halo(_normed_groups(block.conv.norm, x, max(n_in, n_out)), weight.shape[-1] // 2):
        y = conv_gelu(part, weight, bias) if kernels is None else wide_conv_gelu(part, kernels, bias)
        y += _pointwise(block.pointwise, y)
        pairs = y.view(batch, -1, 2, n_out)
        torch.add(pairs[:, :, 0], pairs[:, :, 1], out=place(pairs.shape[1])).mul_(0.5)
    return as_image(result)


def up(block: UpBlock, x: Tensor, skip: Tensor | None) -> Tensor:
    """Compute a block of the decoder: (batch, n_in, 1, length) -> (batch, n_out, 1, 2 * length).

    The transposed convolution is two ordinary ones, for the even and the odd positions of the result. Torch computes it
    several times slower in bfloat16, if it has a bias.
    """
    x = as_table(x)
    weight, bias = _cast(block.conv.conv, x.dtype)
    weight = weight.transpose(0, 1).flip(-1)  # (out, in, 1, 5)
    even, odd = (weight[..., taps].contiguous(memory_format=torch.channels_last) for taps in ([1, 3], [0, 2, 4]))
    batch, length, n_in = x.shape
    n_out = len(bias)
    result = x.new_empty(batch, 2 * length, n_out)
    place, skip_place = _places(result), None if skip is None else _places(as_table(skip))
    for part in _with_halo(_normed_groups(block.conv.norm, x, max(n_in, 2 * n_out)), 1):
        halves = conv_gelu(part[:, :-1], even, bias), conv_gelu(part, odd, bias)
        y = torch.stack(halves, dim=2).flatten(1, 2)
        here = torch.add(y, _pointwise(block.pointwise, y), out=place(y.shape[1]))
        if skip_place is not None:
            here += skip_place(y.shape[1])
    return as_image(result)


def gene_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise ``x`` (batch, cells * positions, channels) over the positions of each cell; statistics in float32.

    Batch norm of images is the fastest operation of torch that reads such a table row by row: first with the channels
    of a cell as channels, for the statistics, then with *positions* as channels, for scale and offset in one pass.
    """
    cells = as_image(x.reshape(-1, len(weight), x.shape[2]))
    normed = [F.batch_norm(cell, None, None, training=True, eps=GENE_NORM_EPS) for cell in cells.split(1)]
    normed = as_table(normed[0] if len(normed) == 1 else torch.cat(normed))
    zero, one = torch.zeros_like(weight), torch.ones_like(weight)
    return F.batch_norm(normed, zero, one, weight, bias, eps=0.0).view(x.shape)


def _pointwise(block: NormConv, x: Tensor) -> Tensor:
    return conv_gelu(gene_norm(x, block.norm.weight, block.norm.bias), *_cast(block.conv, x.dtype))


def _cast(conv: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # Casting all weights takes a few thousandths of the time of a bag, so that no copy has to be kept and kept fresh.
    return conv.weight.to(dtype), conv.bias.to(dtype)


def _normed_groups(norm: nn.Module, x: Tensor, widest: int) -> Iterator[Tensor]:
    """Give the norm of ``x`` (batch, cells * positions, channels) in groups of whole cells.

    ``widest`` is the largest number of channels that the group will have.
    """
    n_positions = len(norm.weight)
    n_cells = x.shape[1] // n_positions
    if x.device.type == "cpu":
        n_cells = max(1, CACHE_BYTES // (len(x) * n_positions * widest * x.element_size()))
    for part in x.split(n_cells * n_positions, dim=1):
        yield gene_norm(part, norm.weight, norm.bias)


def _with_halo(parts: Iterable[Tensor], width: int) -> Iterator[Tensor]:
    """Add to each part the last positions of the part before and the first of the part after, zeros at the ends.

    A convolution of each extended part without padding is a convolution of the whole.
    """
    parts = iter(parts)
    here = next(parts)
    before = outside = torch.zeros_like(here[:, :width])
    for after in chain(parts, [outside]):
        yield torch.cat([before, here, after[:, :width]], dim=1)
        before, here = here[:, -width:], after


class _places:
    """Give consecutive parts of a table (batch, length, channels)."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.end = table, 0

    def __call__(self, length: int) -> Tensor:
        start, self.end = self.end, self.end + length
        return self.table[:, start : self.end]
