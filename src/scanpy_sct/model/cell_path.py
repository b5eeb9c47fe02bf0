"""What a cell as a whole says about a hidden gene; see :mod:`scanpy_sct.model.profile`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.config import SctConfig
from scanpy_sct.model.layers import SpatialEncoding, TransformerBlock, gelu
from scanpy_sct.model.profile import Profile


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

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a gene is expressed in a cell and how strongly, from the output of :meth:`forward`.

        Two scores, each (batch, cells, genes), to be added to the profile's logits by :meth:`level_logits`.
        """
        detection = self.detection(x) @ self.gene_output.T
        level = self.level(x) @ self.gene_output.T
        return detection, level if self.level_shift is None else level + self.level_shift(x)

    def level_logits(self, detection: Tensor, level: Tensor) -> list[Tensor]:
        """Return the logit of each level, shaped as the scores: that of no expression is 0, those of others rise."""
        n_levels = len(self.level_values)
        steps = ((number - n_levels / 2) / n_levels for number in range(1, n_levels))
        return [torch.zeros_like(detection), *(detection + step * level for step in steps)]

    @torch.no_grad()
    def chance_of_expression(self, profile: Profile, detection: Tensor, level: Tensor) -> Tensor:
        """Return the chance of expression (batch, cells, genes) by profile and scores."""
        # How the whole bag divides expression among the levels: to leave out the cell's own level changes this little.
        among = profile.log_among[:, None, :, 0].exp()
        each = self.level_logits(detection, level)[1:]
        factor = sum(among[..., number] * logit.exp() for number, logit in enumerate(each))
        return torch.sigmoid(profile.log_expressed - profile.log_zero + factor.log())
