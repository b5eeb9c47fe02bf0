"""What a cell as a whole says about a hidden gene; see :mod:`scanpy_sct.model.profile`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.config import SctConfig
from scanpy_sct.model.layers import SpatialEncoding, TransformerBlock, gelu


class CellPath(nn.Module):
    """The direct cell embedding, attention among the cells of the bag, and a factorised prediction for all genes."""

    def __init__(self, config: SctConfig, n_genes: int) -> None:
        super().__init__()
        dim = config.cell_dim
        self.level_values = nn.Parameter(torch.linspace(0, 2, config.num_bins) ** 0.5)
        self.gene_table = nn.Parameter(torch.randn(n_genes, dim) / dim**0.5)
        self.input = nn.Linear(2 * dim + 1, dim * 2)
        self.layers = nn.ModuleList(
            TransformerBlock(2 * dim, heads=4, key_size=dim // 2, ffn_dim=4 * dim, rotary=False)
            for _ in range(config.cell_layers)
        )
        self.norm = nn.LayerNorm(2 * dim)
        self.detection = nn.Linear(2 * dim, dim)
        self.level = nn.Linear(2 * dim, dim)
        self.gene_output = nn.Parameter(torch.randn(n_genes, dim) * 0.02)
        if config.convolutions:
            self.to_trunk = nn.Linear(2 * dim, config.embed_dim)
            nn.init.zeros_(self.to_trunk.weight)
        self.level_shift = nn.Linear(2 * dim, 1) if config.level_shift else None
        self.spatial_encoding = None
        if config.use_spatial_information:
            self.spatial_encoding = SpatialEncoding(2 * dim, config.num_scales, config.sigma_min, config.sigma_max)

    def embed(self, tokens: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
        """Return the cell embedding (batch, cells, dim): visible genes as deviations from the profile.

        ``expected`` and ``variance`` are the moments of the profile for `level_values`, each (batch, cells, genes).
        """
        n_bins = len(self.level_values)
        visible = (tokens < n_bins).float()
        observed = self.level_values[tokens.clamp_max(n_bins - 1).long()]
        deviation = (observed - expected) * visible
        scale = (variance.clamp_min(0) * visible).sum(-1, keepdim=True) + 1
        return deviation @ self.gene_table / scale.sqrt()

    def forward(self, cells: Tensor, depth: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Let the cells (batch, cells, dim) of a bag see one another; returns (batch, cells, 2 * dim)."""
        centred = cells - cells.mean(1, keepdim=True)
        x = gelu(self.input(torch.cat([cells, centred, depth[..., None]], dim=-1)))
        if self.spatial_encoding is not None:
            x = x + self.spatial_encoding(coordinates)
        for layer in self.layers:
            x, _ = layer(x)
        return self.norm(x)

    def logits(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Factorised logits (batch, cells, genes, levels) from the output of :meth:`forward`.

        With ``places`` of the flattened (batch, cells, genes), only those there: (levels, places).
        """
        detection = self.detection(x) @ self.gene_output.T
        level = self.level(x) @ self.gene_output.T
        if self.level_shift is not None:
            level = level + self.level_shift(x)
        if places is not None:
            detection, level = detection.flatten()[places], level.flatten()[places]
        levels = torch.arange(len(self.level_values), device=x.device).float()
        expressed = (levels > 0).float()
        steps = (levels - len(levels) / 2) * expressed / len(levels)
        if places is not None:
            return expressed[:, None] * detection + steps[:, None] * level
        return detection[..., None] * expressed + level[..., None] * steps
