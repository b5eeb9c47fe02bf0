"""What the cells of a bag that resemble a cell show of a hidden gene.

The cell embedding has few dimensions, and the vectors of genes that were rare in training, or in other tissues only,
say little. Cells that are alike tell of any gene: how often it is expressed in them, beside how often it should be.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanpy_sct.model.profile import Profile

SHARPNESS = (4.0, 12.0)
"""Lowest and highest factor on the similarity of cells that heads start from: some look far, some near."""


class Neighbors(nn.Module):
    """Attention over the other cells of a bag, whose values are what these cells show of every gene.

    A head attends by the cosine between cell embeddings, less the mean of the bag, with a weight for each dimension:
    a similarity that also holds for cells unlike those of the training data. If it spreads its attention over n cells
    (n is one over the sum of squared weights), it sees a gene expressed in O of them, where E were expected by their
    profile; U and F are the same for the cells without expression. Its evidence is the log ratio of odds
    ``log((O + a) / (E + a)) - log((U + a) / (F + a))``, where a, learnt for each gene, is how many cells it takes to
    believe in a difference. How far expressed levels lie above the expected ones, over their variance, is evidence for
    higher levels. Hidden and unmeasured values count nowhere, and no cell attends to itself. A spatial module learns
    how much more to attend to near cells than to far ones.
    """

    def __init__(self, dim: int, n_genes: int, heads: int, *, spatial: bool = False) -> None:
        super().__init__()
        self.dimension_weight = nn.Parameter(torch.ones(heads, dim))
        self.log_sharpness = nn.Parameter(torch.linspace(*map(math.log, SHARPNESS), heads))
        self.log_shape = nn.Parameter(torch.zeros(n_genes))
        self.log_level_shape = nn.Parameter(torch.zeros(()))
        self.detection = nn.Parameter(torch.full((heads,), 1 / heads))
        self.level = nn.Parameter(torch.full((heads,), 1 / heads))
        self.decay = nn.Parameter(torch.zeros(heads)) if spatial else None

    def attention(self, cells: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Return the weights of the others, (batch, heads, cells, cells), from the embeddings (batch, cells, dim).

        With ``coordinates`` (batch, cells, 2), scores fall with the distance, by ``decay`` a unit.
        """
        n_cells, heads = cells.shape[1], len(self.detection)
        if n_cells == 1:
            return cells.new_zeros(len(cells), heads, 1, 1)
        centred = cells - cells.mean(1, keepdim=True)
        directions = F.normalize(centred[:, None] * self.dimension_weight[:, None], dim=-1)
        scores = directions @ directions.transpose(-1, -2) * self.log_sharpness.exp()[:, None, None]
        if self.decay is not None:
            scores = scores - self.decay[:, None, None] * torch.cdist(coordinates, coordinates)[:, None]
        itself = torch.eye(n_cells, dtype=torch.bool, device=cells.device)
        return scores.masked_fill(itself, -torch.inf).softmax(-1)

    def forward(
        self,
        cells: Tensor,
        tokens: Tensor,
        profile: Profile,
        steps: Tensor,
        places: Tensor | None = None,
        coordinates: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Evidence for expression, and for higher levels of it.

        Parameters
        ----------
        cells
            (batch, cells, dim), embedding of each cell.
        tokens
            (batch, cells, genes).
        profile
            What is expected of every cell.
        steps
            (levels,) what the levels are worth, 0 for no expression.
        places
            Places of the flattened (batch, cells, genes); all by default.
        coordinates
            (batch, cells, 2), where the module is spatial.

        Returns
        -------
        Two tensors (places,), or (batch, cells, genes) where all are asked for.
        """
        sums = self._sums(self.attention(cells, coordinates), tokens, profile, steps, places)
        expressed, expected, visible, residual, variance = sums
        shape = self.log_shape.exp()
        shape = shape.expand(tokens.shape).flatten() if places is None else shape[places % tokens.shape[-1]]
        # Rounding must not make a number of cells negative.
        unexpressed, unexpected = ((visible - values).clamp_min(0) for values in (expressed, expected))
        evidence = torch.log((expressed + shape) / (expected + shape))
        evidence = evidence - torch.log((unexpressed + shape) / (unexpected + shape))
        # A tilt of the expected levels by exp(t * level) moves their mean by t times their variance.
        prior_variance = self.log_level_shape.exp() * steps.square().mean()
        level = residual / (variance.clamp_min(0) + prior_variance)
        found = self.detection @ evidence, self.level @ level
        return found if places is not None else tuple(values.view(tokens.shape) for values in found)

    def _sums(
        self, weights: Tensor, tokens: Tensor, profile: Profile, steps: Tensor, places: Tensor | None
    ) -> list[Tensor]:
        """Weighted sums over cells, each (heads, places).

        How many express the gene, are expected to, and show it at all; and of those that express it, how far their
        level lies above the expected one, and the variance that was expected of it.
        """
        n_levels = len(steps)
        visible = tokens < n_levels
        expressed = visible & (tokens > 0)
        own_step = steps[tokens.clamp_max(n_levels - 1).long()]
        mean, square = profile.expected_level(steps), profile.expected_level(steps.square())
        shown = [
            expressed.float(),
            profile.log_expressed.exp() * visible,
            visible.float(),
            (own_step - mean) * expressed,
            (square - mean.square()) * expressed,
        ]
        # Attention spread over n cells counts like n cells.
        weights = weights / weights.square().sum(-1, keepdim=True).clamp_min(1e-12)
        sums = [(weights @ values[:, None]).transpose(0, 1).flatten(1) for values in shown]
        return sums if places is None else [values[:, places] for values in sums]
