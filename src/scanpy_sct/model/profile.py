"""The bag profile: the frequency of each bin of each gene in the other cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Background:
    """Counts over some cells, from which the profile is estimated; the counts of disjoint cells can be added.

    All tensors have a batch dimension, of size 1 if the cells are those of a sample instead of a bag.
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

    def to(self, device: str | torch.device) -> Background:
        """Return the counts on a device."""
        tensors = (each.to(device) for each in (self.visible, self.zero, self.bins, self.depth))
        return Background(*tensors, self.n_cells)

    def __add__(self, other: Background) -> Background:
        return Background(
            self.visible + other.visible,
            self.zero + other.zero,
            self.bins + other.bins,
            self.depth + other.depth,
            self.n_cells + other.n_cells,
        )


@dataclass(frozen=True)
class VisibleTokens:
    """The visible tokens of each cell, in the forms that the network needs."""

    is_visible: Tensor
    """(batch, cells, genes) float32: 1 where the gene is visible, else 0."""
    detected: Tensor
    """Token index of the detected genes, 1-d."""
    cell: Tensor
    """Their cells, numbered across the batch."""
    gene: Tensor
    """Their genes, numbered across the batch: ``bag * n_genes + gene``."""
    bin: Tensor
    """Their bins."""

    @classmethod
    def of(cls, tokens: Tensor, n_bins: int) -> VisibleTokens:
        """Extract the visible tokens from ``tokens`` (batch, cells, genes)."""
        # Arithmetic on floats, since comparisons of small integers are slow: bins are below the mask and pad tokens.
        number = tokens.to(torch.float32).contiguous()
        is_visible = (n_bins - number).clamp_(0, 1)
        detected = (is_visible * number).bool().flatten().nonzero().squeeze(1)
        cell, gene = split_index(detected, tokens.shape)
        bins = number.flatten().index_select(0, detected).long()
        return cls(is_visible, detected, cell, gene, bins)


def split_index(token_index: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the cell and the gene of each token, numbered across the batch of ``shape`` (batch, cells, genes)."""
    batch, n_cells, n_genes = shape
    cell = token_index // n_genes
    gene = token_index - cell * n_genes
    return cell, gene if batch == 1 else gene + cell // n_cells * n_genes


@dataclass(frozen=True)
class Profile:
    """The profile of each gene in each cell, and the counts from which it was estimated."""

    tokens: VisibleTokens
    depth: Tensor
    """(batch, cells): log ratio of the number of genes detected in the cell to that expected from training."""
    background: Background
    in_background: Tensor
    """(batch, cells) float32: 1 for a cell that is counted in the background and left out of its own profile."""
    log_zero: Tensor
    """(batch, cells, genes): log probability of no detection."""
    bins: Tensor
    """(batch, n_bins - 1, genes): cells in each bin but zero, plus a prior of one cell."""
    totals: Tensor
    """(batch, genes): sum of ``bins`` over bins. The cell's own bin is not subtracted from either."""


def detection_probability(log_zero: Tensor) -> Tensor:
    """Return the detection probability from the log probability of no detection."""
    return (-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY)


class BagProfile(nn.Module):
    """Expected frequency of every bin of each gene in each cell, from the other cells of its bag or sample.

    With n other cells in which the gene is visible, a fraction f0 of them without detection, and the frequency p0 of no
    detection in the training data:

    * p0 is converted to the mean depth d of the cells: ``p0 ** exp(a d)`` (a Poisson zero probability);
    * ``(n f0 + k p0) / (n + k)`` shrinks the observed fraction towards it, where k is learnt;
    * the power ``exp(a (depth - d))`` converts the result to the depth of the cell, where a is learnt.

    The depth of a cell is the log ratio of the number of detected genes to that expected from training.
    """

    def __init__(self, n_genes: int, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        # Frequencies of the bins of every gene in the training data; set before training, never learnt.
        self.register_buffer("log_prior", torch.full((n_genes, n_bins), -math.log(n_bins)))
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
            (batch, cells) bool: the cells that are counted in ``background``; by default none.
        """
        visible = VisibleTokens.of(tokens, self.n_bins)
        depth = self._depth(visible)
        if background is None:
            background, counted = self._count([visible], [depth]), torch.ones_like(depth)
        else:
            counted = torch.zeros_like(depth) if in_background is None else in_background.float()
        return self._profile(visible, depth, background, counted, self._bins(background, len(tokens)))

    def in_parts(self, tokens: Tensor, n_cells: int) -> list[Profile]:
        """Return the profile of bags, ``n_cells`` of each at a time, whose numbers stay in a processor's cache."""
        visible = [VisibleTokens.of(part, self.n_bins) for part in tokens.split(n_cells, dim=1)]
        depth = [self._depth(part) for part in visible]
        background = self._count(visible, depth)
        bins = self._bins(background, len(tokens))
        return [
            self._profile(part, of_part, background, torch.ones_like(of_part), bins)
            for part, of_part in zip(visible, depth, strict=True)
        ]

    def count(self, tokens: Tensor) -> Background:
        """Count the bins over cells, from ``tokens`` (batch, cells, genes)."""
        visible = VisibleTokens.of(tokens, self.n_bins)
        return self._count([visible], [self._depth(visible)])

    def _profile(
        self,
        visible: VisibleTokens,
        depth: Tensor,
        background: Background,
        counted: Tensor,
        bins: tuple[Tensor, Tensor],
    ) -> Profile:
        log_zero = self._log_zero(visible, depth, background, counted)
        return Profile(visible, depth, background, counted, log_zero, *bins)

    def _bins(self, background: Background, batch: int) -> tuple[Tensor, Tensor]:
        """Return the cells in each bin but zero, plus the prior, and their sum; as in `Profile`."""
        prior = self.log_prior[:, 1:].exp() / (1 - self.log_prior[:, :1].exp()).clamp_min(MIN_PROBABILITY)
        return (background.bins + prior.T).expand(batch, -1, -1), (background.bins.sum(1) + 1).expand(batch, -1)

    def _depth(self, visible: VisibleTokens) -> Tensor:
        expected = visible.is_visible @ (1 - self.log_prior[:, 0].exp())
        n_detected = torch.bincount(visible.cell, minlength=expected.numel()).view(expected.shape)
        return torch.log((n_detected + 1) / (expected + 1))

    def _count(self, visible: Sequence[VisibleTokens], depth: Sequence[Tensor]) -> Background:
        """Count the bins over all cells of each bag, given in parts."""
        batch, _, n_genes = visible[0].is_visible.shape
        size = batch * n_genes
        groups = torch.cat([part.bin * size + part.gene for part in visible])
        counts = torch.bincount(groups, minlength=self.n_bins * size)
        bins = counts.view(self.n_bins, batch, n_genes)[1:].float().transpose(0, 1)
        is_visible = sum(part.is_visible.sum(1) for part in visible)
        return Background(
            visible=is_visible,
            zero=is_visible - bins.sum(1),
            bins=bins,
            depth=sum(part.sum(1) for part in depth),
            n_cells=sum(part.shape[1] for part in depth),
        )

    def _log_zero(self, visible: VisibleTokens, depth: Tensor, background: Background, counted: Tensor) -> Tensor:
        n_others = background.n_cells - counted
        mean_depth = (background.depth[:, None] - counted * depth) / n_others.clamp_min(1)
        mean_depth = torch.where(n_others > 0, mean_depth, depth)
        power, weight = self.log_depth_power.exp(), self.log_prior_weight.exp()
        # Contiguous, since a column of a table is read slowly.
        log_prior = self.log_prior[:, 0].contiguous()
        prior_zero = torch.exp(log_prior * (power * mean_depth).exp()[..., None])
        own = -counted[..., None]
        # A cell is left out where it has a zero: where the gene is visible, but for those that it detects.
        zero = torch.addcmul(background.zero[:, None], own, visible.is_visible)
        zero.view(-1).index_add_(0, visible.detected, counted.flatten()[visible.cell])
        n_visible = torch.addcmul((background.visible + weight)[:, None], own, visible.is_visible)
        zero = torch.addcmul(zero, weight, prior_zero) / n_visible
        ratio = (power * (depth - mean_depth)).exp()[..., None]
        return zero.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY).log() * ratio
