"""What the other cells of a bag, and the cell as a whole, say about a hidden gene.

A small sCT trained plainly hardly uses its bag: skip connections carry each gene past the transformer. Two direct
paths, off for the released weights, give a hidden gene what a statistician would look at first:

* the *profile* of the gene: how often it shows each expression level in the bag's other cells, shrunk towards its
  frequencies in the training data and corrected for how deeply each cell was sequenced (a Poisson argument);
* the *cell embedding*: all visible genes of a cell, as deviations from their profile, projected on a few dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.config import SctConfig
from scanpy_sct.model.layers import TransformerBlock, gelu

MIN_PROBABILITY = 1e-6


class BagProfile(nn.Module):
    """Expected frequencies of each gene's levels in each cell, from the other cells of its bag.

    With n other cells in which the gene is visible, a share f0 of them without expression, and training frequency p0:

    * p0 is carried to the bag's mean depth d: ``p0 ** exp(d)`` (a Poisson zero probability at another depth);
    * ``(n f0 + k p0) / (n + k)`` shrinks the bag's share towards it, k being learnt;
    * the power ``exp(a (depth - d))`` carries the result to the cell's own depth, a being learnt.

    The depth of a cell is the log ratio of the genes seen expressed in it to the number expected from training.
    """

    def __init__(self, n_genes: int, num_bins: int) -> None:
        super().__init__()
        self.num_bins = num_bins
        # Frequencies of the levels of every gene in the training data; set once by training, never learnt.
        self.register_buffer("log_prior", torch.full((n_genes, num_bins), 1 / num_bins).log())
        self.log_prior_weight = nn.Parameter(torch.tensor(2.0))
        self.log_depth_power = nn.Parameter(torch.tensor(0.0))

    def depth(self, visible: Tensor, expressed: Tensor) -> Tensor:
        """Depth of each cell (batch, cells) from boolean ``visible`` and ``expressed`` (batch, cells, genes)."""
        expected = visible.float() @ (1 - self.log_prior[:, 0].exp())
        return torch.log((expressed.sum(-1) + 1) / (expected + 1))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return log frequencies (batch, cells, genes, levels) and depths (batch, cells) for ``tokens``.

        ``tokens`` is (batch, cells, genes). A cell's own token never enters its own profile.
        """
        levels = torch.arange(self.num_bins, device=tokens.device)
        one_hot = (tokens[..., None] == levels).float()
        visible = tokens < self.num_bins
        depth = self.depth(visible, visible & (tokens > 0))
        others = one_hot.sum(1, keepdim=True) - one_hot
        n_cells = tokens.shape[1]
        bag_depth = (depth.sum(1, keepdim=True) - depth) / max(n_cells - 1, 1) if n_cells > 1 else depth
        power = self.log_depth_power.exp()

        prior_zero = (self.log_prior[:, 0] * (power * bag_depth).exp()[..., None]).exp()
        prior_levels = self.log_prior[:, 1:].exp() / (1 - self.log_prior[:, :1].exp()).clamp_min(MIN_PROBABILITY)
        weight = self.log_prior_weight.exp()
        n_visible = others.sum(-1)
        zero = (others[..., 0] + weight * prior_zero) / (n_visible + weight)
        zero = zero.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        log_zero = zero.log() * (power * (depth - bag_depth)).exp()[..., None]
        log_expressed = torch.log((-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY))
        among = (others[..., 1:] + prior_levels) / (others[..., 1:].sum(-1, keepdim=True) + 1)
        log_levels = among.clamp_min(MIN_PROBABILITY).log() + log_expressed[..., None]
        return torch.cat([log_zero[..., None], log_levels], dim=-1), depth


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
        self.to_trunk = nn.Linear(2 * dim, config.embed_dim)
        nn.init.zeros_(self.to_trunk.weight)

    def embed(self, tokens: Tensor, log_profile: Tensor) -> Tensor:
        """Return the cell embedding (batch, cells, dim): visible genes as deviations from ``log_profile``."""
        n_bins = len(self.level_values)
        visible = (tokens < n_bins).float()
        observed = self.level_values[tokens.clamp_max(n_bins - 1)]
        frequencies = log_profile.exp()
        expected = frequencies @ self.level_values
        variance = frequencies @ self.level_values.square() - expected.square()
        deviation = (observed - expected) * visible
        scale = (variance.clamp_min(0) * visible).sum(-1, keepdim=True) + 1
        return deviation @ self.gene_table / scale.sqrt()

    def forward(self, cells: Tensor, depth: Tensor) -> Tensor:
        """Let the cells (batch, cells, dim) of a bag see one another; returns (batch, cells, 2 * dim)."""
        centred = cells - cells.mean(1, keepdim=True)
        x = gelu(self.input(torch.cat([cells, centred, depth[..., None]], dim=-1)))
        for layer in self.layers:
            x, _ = layer(x)
        return self.norm(x)

    def logits(self, x: Tensor) -> Tensor:
        """Factorised logits (batch, cells, genes, levels) from the output of :meth:`forward`."""
        detection = self.detection(x) @ self.gene_output.T
        level = self.level(x) @ self.gene_output.T
        n_bins = len(self.level_values)
        expressed = (torch.arange(n_bins, device=x.device) > 0).float()
        steps = (torch.arange(n_bins, device=x.device).float() - (n_bins / 2)) * expressed / n_bins
        return detection[..., None] * expressed + level[..., None] * steps
