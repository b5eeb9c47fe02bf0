"""What the other cells of a bag, and the cell as a whole, say about a hidden gene.

A small sCT trained plainly hardly uses its bag: skip connections carry each gene past the transformer. Two direct
paths, off for the released weights, give a hidden gene what a statistician would look at first:

* the *profile* of the gene: how often it shows each expression level in the bag's other cells, shrunk towards its
  frequencies in the training data and corrected for how deeply each cell was sequenced (a Poisson argument);
* the *cell embedding*: all visible genes of a cell, as deviations from their profile, projected on a few dimensions.

:mod:`scanpy_sct.model.correction` corrects what both say by what the bag shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Profile:
    """Expected frequencies of the levels of each gene in each cell, in parts.

    How the expressed levels share their frequency depends on a cell only through its own level, which is left out of
    the count: one small table for each gene holds all of it, and most work is done on (cells, genes) only.
    """

    log_zero: Tensor
    """(batch, cells, genes): log frequency of no expression."""
    log_expressed: Tensor
    """(batch, cells, genes): log frequency of any expression."""
    log_among: Tensor
    """(batch, genes, levels, levels - 1): log frequencies of the expressed levels among them, by the own level."""
    own: Tensor
    """(batch, cells, genes) integers: the cell's own level, 0 where it is hidden."""
    visible: Tensor
    """(batch, cells, genes) bool."""

    def log_frequencies(self) -> Tensor:
        """Return the log frequencies of all levels, (batch, cells, genes, levels)."""
        batch, n_genes, n_levels, _ = self.log_among.shape
        first = n_levels * torch.arange(batch * n_genes, device=self.own.device).view(batch, 1, n_genes)
        log_among = self.log_among.flatten(0, 2)[self.own + first]
        return torch.cat([self.log_zero[..., None], log_among + self.log_expressed[..., None]], dim=-1)

    def log_frequencies_at(self, places: Tensor) -> Tensor:
        """Return those at ``places`` of the flattened (batch, cells, genes), (levels, places)."""
        _, n_cells, n_genes = self.own.shape
        n_levels = self.log_among.shape[2]
        gene = places // (n_cells * n_genes) * n_genes + places % n_genes
        # Levels come first: to pick short rows is slow.
        by_level = self.log_among.flatten(0, 2).T.contiguous()
        log_among = by_level[:, gene * n_levels + self.own.flatten()[places]]
        log_levels = log_among + self.log_expressed.flatten()[places]
        return torch.cat([self.log_zero.flatten()[places][None], log_levels])

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance, each (batch, cells, genes), of what the levels are worth, ``values`` (levels,)."""
        zero, expressed = self.log_zero.exp(), self.log_expressed.exp()
        means = [zero * power[0] + expressed * self.expected_level(power) for power in (values, values.square())]
        return means[0], means[1] - means[0].square()

    def expected_level(self, values: Tensor) -> Tensor:
        """Return the mean (batch, cells, genes) of ``values`` (levels,) over the levels of expression."""
        by_own = self.log_among.exp() @ values[1:]
        bag, cell, gene = self.own.nonzero(as_tuple=True)
        own = self.own[bag, cell, gene]
        # All cells alike, and then what is different for the few that have a level to leave out.
        difference = by_own[bag, gene, own] - by_own[bag, gene, 0]
        alike = by_own[:, None, :, 0].expand_as(self.log_zero)
        return alike.index_put((bag, cell, gene), difference, accumulate=True)


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

    def forward(self, tokens: Tensor) -> tuple[Profile, Tensor]:
        """Return the profile and the depths (batch, cells) for ``tokens`` (batch, cells, genes).

        A cell's own token never enters its own profile.
        """
        visible = tokens < self.num_bins
        own = (tokens * visible).long()
        expressed = own > 0
        depth = self.depth(visible, expressed)
        n_cells = tokens.shape[1]
        bag_depth = (depth.sum(1, keepdim=True) - depth) / max(n_cells - 1, 1) if n_cells > 1 else depth
        power, weight = self.log_depth_power.exp(), self.log_prior_weight.exp()

        prior_zero = (self.log_prior[:, 0] * (power * bag_depth).exp()[..., None]).exp()
        is_zero, is_visible = (visible & ~expressed).float(), visible.float()
        others_zero = is_zero.sum(1, keepdim=True) - is_zero
        n_visible = is_visible.sum(1, keepdim=True) - is_visible
        zero = (others_zero + weight * prior_zero) / (n_visible + weight)
        zero = zero.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        log_zero = zero.log() * (power * (depth - bag_depth)).exp()[..., None]
        log_expressed = torch.log((-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY))
        return Profile(log_zero, log_expressed, self._log_among(own), own, visible), depth

    def _log_among(self, own: Tensor) -> Tensor:
        """Divide expression among its levels, for every own level that is left out of the count; see `Profile`."""
        batch, _, n_genes = own.shape
        bag, cell, gene = own.nonzero(as_tuple=True)
        counted = (bag * n_genes + gene) * self.num_bins + own[bag, cell, gene]
        counts = torch.bincount(counted, minlength=batch * n_genes * self.num_bins).float()
        counts = counts.view(batch, n_genes, 1, self.num_bins)[..., 1:]
        others = counts - torch.eye(self.num_bins, device=own.device)[:, 1:]
        prior = self.log_prior[:, 1:].exp() / (1 - self.log_prior[:, :1].exp()).clamp_min(MIN_PROBABILITY)
        # Rows of levels that no cell has are never looked up; the lower bounds keep them finite.
        among = (others + prior[:, None]) / (others.sum(-1, keepdim=True) + 1).clamp_min(1)
        return among.clamp_min(MIN_PROBABILITY).log()
