"""The blocks of the released network without gradients: the same numbers, several times faster on a processor.

A bag is a table of ``(batch, length, channels)``, which is what channels-last convolutions read without a copy. Each
block of the network walks over it in groups of cells that are small enough to stay in the processor's cache from the
norm to the activation; on a GPU all cells are one group. `benchmarks/speed.py` measures what is described here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GENE_NORM_EPS = 1e-5
CACHE_BYTES = 4 << 20
"""Size of the largest table of a group of cells: a few of them fit into the last cache of a core."""
STEM_POSITIONS = 16_384
GELU_SCALE, GELU_CUBE = 1.5957691216057308, 0.07135481627260025
"""GELU's tanh form is ``x * sigmoid(GELU_SCALE * x + GELU_CUBE * x ** 3)``."""


def gelu(x: Tensor) -> Tensor:
    """Apply GELU in its tanh form; the result may be in the memory of ``x``."""
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    # The same function by the sigmoid, which takes half the time of the tanh on a processor.
    wide = x.float()
    gate = wide.square().mul_(GELU_CUBE).add_(GELU_SCALE).mul_(wide).sigmoid_()
    return torch.mul(wide, gate, out=x) if x.dtype == torch.float32 else gate.mul_(wide).to(x.dtype)


@contextmanager
def precision_of(weight: Tensor) -> Iterator[torch.dtype]:
    """Give the type to compute in; without gradients, autocast is replaced by casting each weight where it is used."""
    device = weight.device.type
    mixed = torch.is_autocast_enabled(device)
    if torch.is_grad_enabled():
        yield weight.dtype if not mixed else torch.get_autocast_dtype(device)
        return
    with torch.autocast(device, enabled=False):
        yield torch.get_autocast_dtype(device) if mixed else weight.dtype


@cache
def has_fused_gelu(dtype: torch.dtype) -> bool:
    """Return whether this torch has a convolution that applies GELU to its sums, and whether it is exact.

    The operation is private to torch, so it is tried once on small numbers, and any difference means that the public
    operations are used instead.
    """
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in ((1, 50, 32), (64, 32, 1, 3)))
    bias = torch.randn(64, generator=generator).to(dtype)
    try:
        found = _fused(x, weight, bias)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    expected = F.gelu(F.conv2d(_as_image(x).float(), weight.float(), bias.float()), approximate="tanh")
    tolerance = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    return torch.allclose(found.float(), _as_table(expected), rtol=tolerance, atol=tolerance)


def _fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    one, none = (1, 1), (0, 0)
    convolve = torch.ops.mkldnn._convolution_pointwise
    return _as_table(convolve(_as_image(x), weight, bias, none, one, one, 1, "gelu", [], "tanh"))


def _as_image(x: Tensor) -> Tensor:
    """(batch, length, channels) -> (batch, channels, 1, length), without a copy."""
    return x.transpose(1, 2).unsqueeze(2)


def _as_table(x: Tensor) -> Tensor:
    """(batch, channels, 1, length) -> (batch, length, channels), without a copy if channels come last in memory."""
    return x.squeeze(2).transpose(1, 2)


def conv_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(batch, length, n_in) -> (batch, length - kernel + 1, n_out): convolution without padding, then GELU."""
    if x.device.type == "cpu" and has_fused_gelu(x.dtype):
        return _fused(x, weight, bias)
    return gelu(_as_table(F.conv2d(_as_image(x), weight, bias)))


def gene_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise ``x`` (batch, cells * positions, channels) over the positions of each cell."""
    n_positions = len(weight)
    cells = x.reshape(-1, n_positions, x.shape[2])
    # Batch norm of one cell whose channels are those of an image: statistics over positions, in float32.
    normed = [
        _as_table(F.batch_norm(_as_image(cell[None]), None, None, training=True, eps=GENE_NORM_EPS)) for cell in cells
    ]
    normed = normed[0] if len(normed) == 1 else torch.cat(normed)
    # Batch norm with *positions* as channels scales and shifts them in one pass.
    zero, one = torch.zeros_like(weight), torch.ones_like(weight)
    return F.batch_norm(normed, zero, one, weight, bias, eps=0.0).view(x.shape)


def groups(x: Tensor, n_positions: int, widest: int) -> Iterator[Tensor]:
    """Cut ``x`` (batch, cells * positions, channels) into groups of whole cells that stay in the cache.

    ``widest`` is the largest number of channels that a position will have.
    """
    bytes_per_cell = len(x) * n_positions * widest * x.element_size()
    n_cells = max(1, CACHE_BYTES // bytes_per_cell) if x.device.type == "cpu" else x.shape[1] // n_positions
    return iter(x.split(n_cells * n_positions, dim=1))


def with_halo(parts: Iterable[Tensor], width: int) -> Iterator[Tensor]:
    """Add to each part the last positions of the part before and the first of the part after, zeros at the ends.

    A convolution of each extended part without padding is a convolution of the whole.
    """
    parts = iter(parts)
    here = next(parts)
    outside = torch.zeros_like(here[:, :width])
    before = outside
    for after in chain(parts, [outside]):
        yield torch.cat([before, here, after[:, :width]], dim=1)
        before, here = here[:, -width:], after


def _cast(conv: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # All weights together are cast in a hundredth of the time of a bag, so that no copy has to be kept.
    return conv.weight.to(dtype), conv.bias.to(dtype)


def stem(conv: nn.Module, embedding: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute embedding, first convolution and GELU: (batch, cells, genes) -> (batch, channels, 1, cells * genes).

    There are so few tokens that the contribution of any three neighbouring ones can be looked up: a position is the sum
    of five rows of a table, instead of a convolution with fifteen taps.
    """
    table, n_rows = _table_of_triplets(conv, embedding)
    outside = len(embedding)
    padded = F.pad(tokens.flatten(1).int(), (7, 7), value=outside)
    base = outside + 1
    codes = (padded[:, :-2] * base + padded[:, 1:-1]) * base + padded[:, 2:]
    first_rows = torch.arange(0, 5 * n_rows, n_rows, dtype=torch.int32, device=tokens.device)
    batch, length = len(tokens), tokens[0].numel()
    result = table.new_empty(batch, length, table.shape[1], dtype=dtype)
    for start in range(0, length, STEM_POSITIONS):
        part = result[:, start : start + STEM_POSITIONS]
        rows = codes[:, start : start + part.shape[1] + 12].unfold(1, 13, 1)[..., ::3] + first_rows
        part.copy_(gelu(F.embedding_bag(rows.flatten(0, 1), table, mode="sum")).view_as(part))
    return _as_image(result)


def _table_of_triplets(conv: nn.Module, embedding: Tensor) -> tuple[Tensor, int]:
    """Return the table (5 * rows, channels) of three tokens each at five places under the kernel, and its rows."""
    # One more token, which adds nothing: beyond the ends of the bag.
    taps = conv.weight.squeeze(2).permute(2, 1, 0)  # (kernel, in, out)
    taps = F.pad(embedding @ taps, (0, 0, 0, 1))  # (kernel, tokens, out)
    first, second, third = taps[0::3], taps[1::3], taps[2::3]
    table = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]
    table[0] += conv.bias
    n_rows = table[0, ..., 0].numel()
    return table.flatten(0, 3), n_rows


def down(block: nn.Module, x: Tensor) -> Tensor:
    """Compute a `DownBlock`: (batch, n_in, 1, length) -> (batch, n_out, 1, length / 2)."""
    x = _as_table(x)
    weight, bias = _cast(block.conv.conv, x.dtype)
    weight1, bias1 = _cast(block.pointwise.conv, x.dtype)
    norm, norm1 = block.conv.norm, block.pointwise.norm
    batch, length, n_in = x.shape
    n_out = len(bias)
    result = x.new_empty(batch, length // 2, n_out)
    parts = groups(x, len(norm.weight), max(n_in, n_out))
    start = 0
    for part in with_halo((gene_norm(part, norm.weight, norm.bias) for part in parts), weight.shape[-1] // 2):
        y = conv_gelu(part, weight, bias)
        y += conv_gelu(gene_norm(y, norm1.weight, norm1.bias), weight1, bias1)
        pairs = y.view(batch, -1, 2, n_out)
        end = start + pairs.shape[1]
        torch.add(pairs[:, :, 0], pairs[:, :, 1], out=result[:, start:end]).mul_(0.5)
        start = end
    return _as_image(result)


def up(block: nn.Module, x: Tensor, skip: Tensor | None) -> Tensor:
    """Compute an `UpBlock`: (batch, n_in, 1, length) -> (batch, n_out, 1, 2 * length)."""
    x = _as_table(x)
    skip = None if skip is None else _as_table(skip)
    even, odd, bias = _halves(block.conv.conv, x.dtype)
    weight1, bias1 = _cast(block.pointwise.conv, x.dtype)
    norm, norm1 = block.conv.norm, block.pointwise.norm
    batch, length, n_in = x.shape
    n_out = len(bias)
    result = x.new_empty(batch, 2 * length, n_out)
    parts = groups(x, len(norm.weight), max(n_in, 2 * n_out))
    start = 0
    for part in with_halo((gene_norm(part, norm.weight, norm.bias) for part in parts), 1):
        pair = conv_gelu(part[:, :-1], even, bias), conv_gelu(part, odd, bias)
        y = torch.stack(pair, dim=2).view(batch, -1, n_out)
        z = conv_gelu(gene_norm(y, norm1.weight, norm1.bias), weight1, bias1)
        end = start + y.shape[1]
        here = torch.add(y, z, out=result[:, start:end])
        if skip is not None:
            here += skip[:, start:end]
        start = end
    return _as_image(result)


def _halves(conv: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two kernels whose convolutions give the even and the odd positions of a transposed convolution."""
    weight = conv.weight.to(dtype).transpose(0, 1).flip(-1)  # (out, in, 1, 5)
    even, odd = weight[..., 1:4:2], weight[..., 0:5:2]
    return *(kernel.contiguous(memory_format=torch.channels_last) for kernel in (even, odd)), conv.bias.to(dtype)
