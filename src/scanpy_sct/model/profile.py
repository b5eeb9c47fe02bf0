"""The profile: in what fraction of the other cells a gene is detected, and at which level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Background:
    """Counts over some cells, from which the profile of each gene is estimated. Counts of disjoint cells add up.

    All tensors have a batch dimension, which is 1 where the cells are those of a sample and not of a bag.
    """

    visible: Tensor
    """(batch, genes): cells in which the gene is visible."""
    zero: Tensor
    """(batch, genes): cells in which it is visible and not detected."""
    bins: Tensor
    """(batch, n_bins - 1, genes): cells in which it is visible and in each of the other bins."""
    depth: Tensor
    """(batch,): sum of the depths of the cells."""
    n_cells: int

    def __add__(self, other: Background) -> Background:
        return Background(
            self.visible + other.visible,
            self.zero + other.zero,
            self.bins + other.bins,
            self.depth + other.depth,
            self.n_cells + other.n_cells,
        )


@dataclass(frozen=True)
class Visible:
    """What is visible in each cell, in the forms that the network needs."""

    visible: Tensor
    """(batch, cells, genes) float32: 1 where the gene is visible, else 0."""
    zero: Tensor
    """(batch, cells, genes) float32: 1 where it is visible and not detected, else 0."""
    detected: Tensor
    """Index of the detected tokens in the flattened tokens, 1-d."""
    bins: Tensor
    """Their bins."""

    @classmethod
    def of(cls, tokens: Tensor, n_bins: int) -> Visible:
        """Take the parts from ``tokens`` (batch, cells, genes)."""
        tokens = tokens.contiguous()
        detected = ((tokens > 0) & (tokens < n_bins)).flatten().nonzero().squeeze(1)
        visible, zero = (tokens < n_bins).float(), (tokens == 0).float()
        return cls(visible, zero, detected, tokens.flatten()[detected].long())

    def gene(self) -> Tensor:
        """Return the gene of each detected token, counted through the bags of the batch."""
        _, n_cells, n_genes = self.visible.shape
        return self.detected // (n_cells * n_genes) * n_genes + self.detected % n_genes


class BagProfile(nn.Module):
    """Expected frequency of every bin of each gene in each cell, from the other cells of its bag or sample.

    With n other cells in which the gene is visible, a fraction f0 of them without detection, and frequency p0 of no
    detection in the training data:

    * p0 is carried to the mean depth d of the cells: ``p0 ** exp(a d)`` (a Poisson zero probability at another depth);
    * ``(n f0 + k p0) / (n + k)`` shrinks the observed fraction towards it, k being learnt;
    * the power ``exp(a (depth - d))`` carries the result to the cell's own depth, a being learnt.

    The depth of a cell is the log ratio of the number of genes detected in it to that expected from training.
    """

    def __init__(self, n_genes: int, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        # Frequencies of the bins of every gene in the training data; set once by training, never learnt.
        self.register_buffer("log_prior", torch.full((n_genes, n_bins), 1 / n_bins).log())
        self.log_prior_weight = nn.Parameter(torch.tensor(2.0))
        self.log_depth_power = nn.Parameter(torch.tensor(0.0))

    def depth(self, seen: Visible) -> Tensor:
        """Return the depth of each cell, (batch, cells)."""
        batch, n_cells, n_genes = seen.visible.shape
        expected = seen.visible @ (1 - self.log_prior[:, 0].exp())
        n_detected = torch.bincount(seen.detected // n_genes, minlength=batch * n_cells).view(batch, n_cells)
        return torch.log((n_detected + 1) / (expected + 1))

    @torch.no_grad()
    def count(self, seen: Visible, depth: Tensor) -> Background:
        """Count what the cells of each bag show."""
        batch, n_cells, n_genes = seen.visible.shape
        bag = seen.detected // (n_cells * n_genes)
        place = (bag * self.n_bins + seen.bins) * n_genes + seen.detected % n_genes
        bins = torch.bincount(place, minlength=batch * self.n_bins * n_genes).float()
        bins = bins.view(batch, self.n_bins, n_genes)[:, 1:]
        return Background(seen.visible.sum(1), seen.zero.sum(1), bins, depth.sum(1), n_cells)

    def forward(self, seen: Visible, depth: Tensor, background: Background, in_background: Tensor | None) -> Tensor:
        """Return the log probability of no detection, (batch, cells, genes).

        Parameters
        ----------
        seen, depth
            The cells and their depths.
        background
            What is counted over the cells of the bag, or of its sample.
        in_background
            (batch, cells, 1) float32: 1 for a cell that is counted in the background, and left out of its own
            profile. None: all are.
        """
        is_zero, is_visible, own = seen.zero, seen.visible, 1.0
        if in_background is not None:
            is_zero, is_visible, own = is_zero * in_background, is_visible * in_background, in_background[..., 0]
        n_others = background.n_cells - own + torch.zeros_like(depth)
        mean_depth = (background.depth[:, None] - own * depth) / n_others.clamp_min(1)
        mean_depth = torch.where(n_others > 0, mean_depth, depth)
        power, weight = self.log_depth_power.exp(), self.log_prior_weight.exp()
        prior_zero = torch.exp(self.log_prior[:, 0] * (power * mean_depth).exp()[..., None])
        zero = (torch.addcmul(background.zero[:, None] - is_zero, weight, prior_zero)) / (
            (background.visible[:, None] + weight) - is_visible
        )
        ratio = (power * (depth - mean_depth)).exp()[..., None]
        return zero.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY).log() * ratio

    def bin_counts(self, background: Background) -> tuple[Tensor, Tensor]:
        """Return counts of the bins but zero (batch, n_bins - 1, genes), a prior of one cell added, and their totals.

        The totals are (batch, genes).
        """
        prior = self.log_prior[:, 1:].exp() / (1 - self.log_prior[:, :1].exp()).clamp_min(MIN_PROBABILITY)
        return background.bins + prior.T, background.bins.sum(1) + 1
