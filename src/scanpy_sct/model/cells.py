"""Parts of the compact network: cell embedding, attention among cells, gene decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scanpy_sct.model.layers import SpatialEncoding, TransformerBlock, gelu, random_weights
from scanpy_sct.model.profile import Profile, detection_probability

HEADS = 4


@dataclass(frozen=True)
class GeneMoments:
    """Moments of the value of a detected gene, over the cells from which the profile is estimated."""

    sums: Tensor
    """(2, batch, genes): sums of the value and of its square."""
    mean: Tensor
    """(batch, genes)."""
    spread: Tensor
    """(batch, genes): mean square of the difference to the value of a gene that is not detected."""


class CellEmbedder(nn.Module):
    """Cell embedding: deviations of all visible genes from the profile, times gene factors."""

    def __init__(self, n_bins: int, n_genes: int, dim: int) -> None:
        super().__init__()
        self.bin_values = nn.Parameter(torch.linspace(0, 2, n_bins, device="cpu") ** 0.5)  # few, see make_network
        self.gene_factors = random_weights(n_genes, dim, std=dim**-0.5)

    def forward(self, profile: Profile, moments: GeneMoments | None = None) -> Tensor:
        """Return the embedding of the profile's cells, (batch, cells, dim).

        ``moments`` are :meth:`moments` of the profile, if they are known: they are the same for all cells of a bag.
        """
        tokens, zero = profile.tokens, self.bin_values[0]
        moments = self.moments(profile) if moments is None else moments
        # All visible genes as if they were not detected, then the few that are.
        detection = detection_probability(profile.log_zero) * tokens.is_visible
        deviation = detection * (zero - moments.mean)[:, None]
        variance = detection @ moments.spread[..., None] - deviation.square().sum(-1, keepdim=True)
        own, change = self._detected(profile, moments.sums)
        variance = variance.flatten().index_add(0, tokens.cell, change).view_as(variance)
        # The copy that a gradient needs is large.
        put = torch.Tensor.index_copy if torch.is_grad_enabled() else torch.Tensor.index_copy_
        deviation = put(deviation.view(-1), 0, tokens.detected, own).view_as(deviation)
        return deviation @ self.gene_factors / (variance.clamp_min(0) + 1).sqrt()

    def moments(self, profile: Profile) -> GeneMoments:
        """Return the moments of the value of each gene where it is detected."""
        zero, values = self.bin_values[0], self.bin_values[1:]
        sums = torch.stack([values @ profile.bins, values.square() @ profile.bins])
        mean, square = sums / profile.totals
        return GeneMoments(sums, mean, square - zero * (2 * mean - zero))

    def _detected(self, profile: Profile, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deviation of each detected gene, and its change of the variance of the cell.

        Its own bin is subtracted from the counts if it is counted.
        """
        tokens, zero = profile.tokens, self.bin_values[0]
        value = self.bin_values[tokens.bin]
        detection = detection_probability(profile.log_zero.flatten().index_select(0, tokens.detected))
        counted = profile.in_background.flatten().index_select(0, tokens.cell)
        sums = sums.flatten(1).index_select(1, tokens.gene)
        totals = profile.totals.flatten().index_select(0, tokens.gene)

        def moments(mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
            offset = detection * (zero - mean)
            return offset, detection * (square - zero * (2 * mean - zero)) - offset.square()

        _, before = moments(*sums / totals)
        left_out = sums - counted * torch.stack([value, value.square()])
        offset, after = moments(*left_out / (totals - counted))
        return value - zero + offset, after - before


class CellTransformer(nn.Module):
    """Attention among the cells of a bag, from their embeddings, depths and optionally coordinates."""

    def __init__(self, dim: int, n_layers: int, spatial_encoding: SpatialEncoding | None) -> None:
        super().__init__()
        self.input = nn.Linear(2 * dim + 1, 2 * dim)
        self.layers = nn.ModuleList(
            TransformerBlock(2 * dim, heads=HEADS, key_size=dim // 2, ffn_dim=4 * dim, rotary=False)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(2 * dim)
        self.spatial_encoding = spatial_encoding

    def forward(self, cells: Tensor, depth: Tensor, coordinates: Tensor | None) -> Tensor:
        """(batch, cells, dim) -> (batch, cells, 2 * dim)."""
        centred = cells - cells.mean(1, keepdim=True)
        x = gelu(self.input(torch.cat([cells, centred, depth[..., None]], dim=-1)))
        if self.spatial_encoding is not None:
            x = x + self.spatial_encoding(coordinates)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class GeneDecoder(nn.Module):
    """Scores of all genes from cell vectors, which are added to the logits of the profile.

    Bin b > 0 of n gets the score ``detection + (b - n / 2) / n * amount``, linear in b; bin 0 gets none. Both terms are
    products of a vector of the cell and the factors of the gene; the amount also has a shift per cell.
    """

    def __init__(self, n_bins: int, n_genes: int, dim: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.detection = nn.Linear(2 * dim, dim)
        self.amount = nn.Linear(2 * dim, dim)
        self.amount_shift = nn.Linear(2 * dim, 1)
        self.gene_factors = random_weights(n_genes, dim, std=0.02)

    def forward(self, cells: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Return the score of bin 1 and the increase per further bin, both (batch, cells, genes) times ``weight``."""
        n = self.n_bins
        detection, amount, shift = self.detection(cells), self.amount(cells), self.amount_shift(cells)
        at_first = (1 - n / 2) / n
        # Both in one product, which is faster than two.
        vectors = torch.stack([weight * (detection + at_first * amount), weight / n * amount])
        shifts = torch.stack([weight * at_first * shift, weight / n * shift])
        first, step = (vectors @ self.gene_factors.T).add_(shifts)
        return first, step
