"""The parts of the compact network that work on whole cells: embedding, attention among cells, and back to genes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.layers import SpatialEncoding, TransformerBlock, gelu
from scanpy_sct.model.profile import Visible

HEADS = 4


class CellEmbedder(nn.Module):
    """The cell embedding: all visible genes of a cell, as deviations from their profile, times gene factors."""

    def __init__(self, n_bins: int, n_genes: int, dim: int) -> None:
        super().__init__()
        self.bin_values = nn.Parameter(torch.linspace(0, 2, n_bins) ** 0.5)
        self.gene_factors = nn.Parameter(torch.randn(n_genes, dim) / dim**0.5)

    def forward(
        self, seen: Visible, detection: Tensor, bins: tuple[Tensor, Tensor], in_background: Tensor | None
    ) -> Tensor:
        """Return the embedding, (batch, cells, dim).

        Parameters
        ----------
        seen
            What is visible in the cells.
        detection
            (batch, cells, genes): detection probability by the profile.
        bins
            How the background divides among the bins but zero, from :meth:`BagProfile.bin_counts`.
        in_background
            (batch, cells, 1): see :meth:`scanpy_sct.model.profile.BagProfile.forward`.
        """
        batch, n_cells, n_genes = detection.shape
        zero, values = self.bin_values[0], self.bin_values[1:]
        # Sums over the bins of what they are worth; a cell's own bin is taken out of them where it has one.
        bin_counts, totals = bins
        sums = torch.stack([values @ bin_counts, values.square() @ bin_counts])
        gene = seen.gene()
        own_totals, own_sums = totals.flatten()[gene], sums.flatten(1)[:, gene]
        own_value = self.bin_values[seen.bins]
        counted = 1.0 if in_background is None else in_background.flatten()[seen.detected // n_genes]
        own_sums = own_sums - counted * torch.stack([own_value, own_value.square()])
        mean, square = sums / totals
        own_mean, own_square = own_sums / (own_totals - counted)
        # Every visible gene as if it were not detected, then the few that are.
        visible = detection * seen.visible
        deviation = visible * (zero - mean)[:, None]
        spread = square - zero * (2 * mean - zero)
        variance = (visible @ spread[..., None] - visible.square() @ (mean - zero).square()[..., None]).flatten()
        own_detection = detection.flatten()[seen.detected]
        offset = own_detection * (zero - own_mean)
        deviation.view(-1)[seen.detected] = own_value - zero + offset
        own_spread = own_square - zero * (2 * own_mean - zero)
        before = own_detection * spread.flatten()[gene] - (own_detection * (mean - zero).flatten()[gene]).square()
        change = own_detection * own_spread - offset.square() - before
        variance = variance.index_add(0, seen.detected // n_genes, change).view(batch, n_cells, 1)
        return deviation @ self.gene_factors / (variance.clamp_min(0) + 1).sqrt()


class CellTransformer(nn.Module):
    """Attention among the cells of a bag, from their embeddings, depths and perhaps coordinates."""

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
    """From whole cells back to all genes: scores that change the bins' logits of the profile.

    Bin b > 0 of n gets the score ``detection + (b - n / 2) / n * amount``, which is linear in b; zero gets none. Both
    terms are products of a vector of the cell and the factors of the gene, and the amount has a shift of the cell.
    """

    def __init__(self, n_bins: int, n_genes: int, dim: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.detection = nn.Linear(2 * dim, dim)
        self.amount = nn.Linear(2 * dim, dim)
        self.amount_shift = nn.Linear(2 * dim, 1)
        self.gene_factors = nn.Parameter(torch.randn(n_genes, dim) * 0.02)

    def forward(self, cells: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Return the score of bin 1, and what each further bin adds to it, both (batch, cells, genes).

        ``weight`` multiplies both.
        """
        n = self.n_bins
        detection, amount, shift = self.detection(cells), self.amount(cells), self.amount_shift(cells)
        at_first = (1 - n / 2) / n
        first = weight * (detection + at_first * amount) @ self.gene_factors.T
        step = weight / n * amount @ self.gene_factors.T
        return first.add_(weight * at_first * shift), step.add_(weight / n * shift)
