"""The profile: in what fraction of the other cells a gene is detected, and at which level."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Index of the visible and detected tokens in the flattened tokens, 1-d."""
    cell: Tensor
    """Their cells, counted through the bags of the batch."""
    gene: Tensor
    """Their genes, counted through the bags of the batch: ``bag * n_genes + gene``."""
    bin: Tensor
    """Their bins."""

    @classmethod
    def of(cls, tokens: Tensor, n_bins: int) -> Visible:
        """Take the parts from ``tokens`` (batch, cells, genes)."""
        tokens = tokens.to(torch.uint8).contiguous()
        # Unsigned: 0 - 1 is 255.
        detected = ((tokens - 1) < n_bins - 1).flatten().nonzero().squeeze(1)
        cell, gene = split_index(detected, tokens.shape)
        bins = tokens.flatten().index_select(0, detected).long()
        return cls((tokens < n_bins).float(), (tokens == 0).float(), detected, cell, gene, bins)


def split_index(token_index: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the cell and the gene of each token, both counted through the bags of the batch.

    ``shape`` is (batch, cells, genes).
    """
    batch, n_cells, n_genes = shape
    cell = token_index // n_genes
    gene = token_index - cell * n_genes
    return cell, gene if batch == 1 else gene + cell // n_cells * n_genes


@dataclass(frozen=True)
class Profile:
    """The profile of each gene in each cell, and what it was estimated from."""

    seen: Visible
    depth: Tensor
    """(batch, cells): log ratio of the number of genes detected in the cell to that expected from training."""
    background: Background
    in_background: Tensor
    """(batch, cells) float32: 1 for a cell that is counted in the background, and left out of its own profile."""
    log_zero: Tensor
    """(batch, cells, genes): log probability of no detection."""
    detection: Tensor
    """(batch, cells, genes): detection probability."""
    bins: Tensor
    """(batch, n_bins - 1, genes): number of cells in each bin but zero, with a prior of one cell added."""
    totals: Tensor
    """(batch, genes): sum of ``bins``. Divided by it, they are the frequencies of the bins given detection; from both,
    a cell's own bin is still to be taken."""


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

    def forward(
        self, tokens: Tensor, background: Background | None = None, in_background: Tensor | None = None
    ) -> Profile:
        """Return the profile for ``tokens`` (batch, cells, genes).

        Parameters
        ----------
        tokens
            The cells.
        background
            Counts over a sample; by default over the cells of each bag.
        in_background
            (batch, cells) bool, beside a ``background``: the cells that it counts. By default it counts none.
        """
        seen = Visible.of(tokens, self.n_bins)
        depth = self._depth(seen)
        if background is None:
            background, counted = self._count(seen, depth), torch.ones_like(depth)
        else:
            counted = torch.zeros_like(depth) if in_background is None else in_background.float()
        log_zero = self._log_zero(seen, depth, background, counted)
        detection = (-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY)
        prior = self.log_prior[:, 1:].exp() / (1 - self.log_prior[:, :1].exp()).clamp_min(MIN_PROBABILITY)
        bins = (background.bins + prior.T).expand(len(tokens), -1, -1)
        totals = (background.bins.sum(1) + 1).expand(len(tokens), -1)
        return Profile(seen, depth, background, counted, log_zero, detection, bins, totals)

    def count(self, tokens: Tensor) -> Background:
        """Count what the cells show, ``tokens`` (batch, cells, genes)."""
        seen = Visible.of(tokens, self.n_bins)
        return self._count(seen, self._depth(seen))

    def _depth(self, seen: Visible) -> Tensor:
        expected = seen.visible @ (1 - self.log_prior[:, 0].exp())
        n_detected = torch.bincount(seen.cell, minlength=expected.numel()).view(expected.shape)
        return torch.log((n_detected + 1) / (expected + 1))

    def _count(self, seen: Visible, depth: Tensor) -> Background:
        batch, n_cells, n_genes = seen.visible.shape
        counts = torch.bincount(seen.bin * (batch * n_genes) + seen.gene, minlength=self.n_bins * batch * n_genes)
        bins = counts.float().view(self.n_bins, batch, n_genes)[1:].transpose(0, 1)
        return Background(seen.visible.sum(1), seen.zero.sum(1), bins, depth.sum(1), n_cells)

    def _log_zero(self, seen: Visible, depth: Tensor, background: Background, counted: Tensor) -> Tensor:
        n_others = background.n_cells - counted
        mean_depth = (background.depth[:, None] - counted * depth) / n_others.clamp_min(1)
        mean_depth = torch.where(n_others > 0, mean_depth, depth)
        power, weight = self.log_depth_power.exp(), self.log_prior_weight.exp()
        prior_zero = torch.exp(self.log_prior[:, 0] * (power * mean_depth).exp()[..., None])
        own = -counted[..., None]
        zero = torch.addcmul(background.zero[:, None], own, seen.zero)
        n_visible = torch.addcmul((background.visible + weight)[:, None], own, seen.visible)
        zero = torch.addcmul(zero, weight, prior_zero) / n_visible
        ratio = (power * (depth - mean_depth)).exp()[..., None]
        return zero.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY).log() * ratio
