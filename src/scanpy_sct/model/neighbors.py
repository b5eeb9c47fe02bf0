"""What the cells of a bag that resemble a cell show of a hidden gene.

The cell embedding has few dimensions, and the vectors of genes that were rare in training, or in other tissues only,
say little. Cells that are alike tell of any gene: how often it is expressed in them, beside how often it should be.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scanpy_sct.model.profile import Profile

KEY_SIZE = 16


class Neighbors(nn.Module):
    """Attention over the other cells of a bag, whose values are what these cells show of every gene.

    A head that spreads its attention over n cells (n is one over the sum of squared weights) sees a gene expressed in
    O of them, where E were expected by their profile; U and F are the same for the cells without expression. Its
    evidence is the log ratio of odds ``log((O + a) / (E + a)) - log((U + a) / (F + a))``, where a, learnt for each
    gene, is how many cells it takes to believe in a difference. Hidden and unmeasured values count nowhere, and no
    cell attends to itself: what it shows of a gene has no part in its own evidence.
    """

    def __init__(self, dim: int, n_genes: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, heads * KEY_SIZE)
        self.key = nn.Linear(dim, heads * KEY_SIZE)
        self.log_shape = nn.Parameter(torch.full((n_genes,), math.log(2.0)))
        self.detection = nn.Parameter(torch.full((heads,), 1 / heads))
        self.level = nn.Parameter(torch.full((heads,), 1 / heads))

    def attention(self, cells: Tensor) -> Tensor:
        """Return the weights of the others (batch, heads, cells, cells) for ``cells`` (batch, cells, dim)."""
        n_cells = cells.shape[1]
        if n_cells == 1:
            return cells.new_zeros(len(cells), self.heads, 1, 1)
        query, key = (
            layer(cells).unflatten(-1, (self.heads, KEY_SIZE)).transpose(1, 2) for layer in (self.query, self.key)
        )
        scores = query @ key.transpose(-1, -2) / KEY_SIZE**0.5
        itself = torch.eye(n_cells, dtype=torch.bool, device=cells.device)
        return scores.masked_fill(itself, -torch.inf).softmax(-1)

    def forward(
        self, cells: Tensor, tokens: Tensor, profile: Profile, steps: Tensor, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Evidence for expression, and for higher levels of it.

        Parameters
        ----------
        cells
            (batch, cells, dim).
        tokens
            (batch, cells, genes).
        profile
            What is expected of every cell.
        steps
            (levels,) what the levels are worth, 0 for no expression.
        places
            Places of the flattened (batch, cells, genes); all by default.

        Returns
        -------
        Two tensors (places,), or (batch, cells, genes) where all are asked for.
        """
        expressed, expected, visible, residual = self._sums(self.attention(cells), tokens, profile, steps, places)
        shape = self.log_shape.exp()
        shape = shape.expand(tokens.shape).flatten() if places is None else shape[places % tokens.shape[-1]]
        # Rounding must not make a number of cells negative.
        unexpressed, unexpected = ((visible - values).clamp_min(0) for values in (expressed, expected))
        evidence = torch.log((expressed + shape) / (expected + shape))
        evidence = evidence - torch.log((unexpressed + shape) / (unexpected + shape))
        level = residual / (expressed + 1)
        found = self.detection @ evidence, self.level @ level
        return found if places is not None else tuple(values.view(tokens.shape) for values in found)

    def _sums(
        self, weights: Tensor, tokens: Tensor, profile: Profile, steps: Tensor, places: Tensor | None
    ) -> list[Tensor]:
        """Weighted numbers of cells, each (heads, places): expressed, expected so, visible; and level above expected."""
        n_levels = len(steps)
        visible = tokens < n_levels
        expressed = visible & (tokens > 0)
        own_step = steps[tokens.clamp_max(n_levels - 1).long()]
        shown = [
            expressed.float(),
            profile.log_expressed.exp() * visible,
            visible.float(),
            (own_step - profile.expected_level(steps)) * expressed,
        ]
        # Attention spread over n cells counts like n cells.
        weights = weights / weights.square().sum(-1, keepdim=True).clamp_min(1e-12)
        sums = [(weights @ values[:, None]).transpose(0, 1).flatten(1) for values in shown]
        return sums if places is None else [values[:, places] for values in sums]
