"""The compact network: bag profile, cell embedding with attention among the cells of a bag, bag correction.

* The *bag profile*: how often the gene is in each bin in the other cells of the bag, shrunk towards its frequencies in
  the training data and corrected for the depth of each cell.
* The *cell embedding*: the deviations of all visible genes of a cell from the profile, in a few dimensions. Attention
  combines the embeddings of a bag, and gene factors convert the result to scores added to the logits of the profile.
* The *bag correction*: the log odds of each gene are corrected by observed against expected detection in the bag.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scanpy_sct.model.cells import HEADS, CellEmbedder, CellTransformer, GeneDecoder
from scanpy_sct.model.correction import BagCorrection
from scanpy_sct.model.layers import SpatialEncoding
from scanpy_sct.model.network import Bags, check_bags
from scanpy_sct.model.profile import (
    MIN_PROBABILITY,
    Background,
    BagProfile,
    Profile,
    detection_probability,
    split_index,
)

SCALES = (10, 1.0, 10.0)
"""Number, smallest and largest of the scales on which coordinates are encoded."""
MAX_BINS = 254
"""A token is one byte, and two of its values are mask and pad."""
TOKENS_AT_ONCE = 2**18
"""Tokens that are computed at a time on a processor."""
BY_GENE = ("profile.log_prior", "embedder.gene_factors", "decoder.gene_factors")
"""Tensors of the network that have a row for each gene."""


@dataclass(frozen=True)
class CompactConfig:
    """Configuration of :class:`CompactNetwork`."""

    n_bins: int = 8
    """Bins of expression, zero included; the next two tokens are mask and pad."""
    bag_size: int = 50
    """Cells of a bag at prediction; the weights can be used with any number."""
    cell_dim: int = 64
    """Width of the cell embedding, a multiple of 2."""
    cell_layers: int = 2
    """Transformer layers in which the cells of a bag attend to one another."""
    bag_correction: bool = True
    """Correct each gene by observed against expected detection in the bag."""
    reads_coordinates: bool = False
    """Add an encoding of the coordinates of each cell before attention."""

    def __post_init__(self) -> None:
        least = {"n_bins": 2, "bag_size": 1, "cell_dim": 2, "cell_layers": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                msg = f"{name}={value!r} must be an integer of at least {smallest}."
                raise ValueError(msg)
        if self.n_bins > MAX_BINS:
            msg = f"n_bins={self.n_bins} must be at most {MAX_BINS}: a token is one byte."
            raise ValueError(msg)
        if self.cell_dim % 2:
            msg = (
                f"cell_dim={self.cell_dim} must be a multiple of 2, since {HEADS} attention heads divide 2 * cell_dim."
            )
            raise ValueError(msg)

    @property
    def mask_token(self) -> int:
        """Token of a masked gene."""
        return self.n_bins

    @property
    def pad_token(self) -> int:
        """Token after the last gene."""
        return self.n_bins + 1


class CompactNetwork(nn.Module):
    """Network of bag profile, cell embedding and bag correction.

    It always computes in float32, also under autocast, since counts and logarithms of frequencies need it.

    Parameters
    ----------
    config
        Configuration of the network.
    n_genes
        Number of genes, padding included.
    """

    has_cell_embedding = True

    def __init__(self, config: CompactConfig, n_genes: int) -> None:
        super().__init__()
        if n_genes < 1:
            msg = f"n_genes={n_genes} must be at least 1."
            raise ValueError(msg)
        self.config, self.n_genes = config, n_genes
        encoding = SpatialEncoding(2 * config.cell_dim, *SCALES) if config.reads_coordinates else None
        self.profile = BagProfile(n_genes, config.n_bins)
        self.embedder = CellEmbedder(config.n_bins, n_genes, config.cell_dim)
        self.cell_transformer = CellTransformer(config.cell_dim, config.cell_layers, encoding)
        self.decoder = GeneDecoder(config.n_bins, n_genes, config.cell_dim)
        self.correction = BagCorrection() if config.bag_correction else None

    def bin_logits(self, bags: Bags, token_index: Tensor, *, cell_weight: float = 1.0) -> Tensor:
        """Return the logit of every bin at some tokens; see :meth:`scanpy_sct.model.Network.bin_logits`."""
        check_bags(self, bags)
        with torch.autocast(bags.tokens.device.type, enabled=False):
            profile = self.profile(bags.tokens)
            cells = self.cell_transformer(self.embedder(profile), profile.depth, bags.coordinates)
            return self._logits_at(token_index, profile, *self.decoder(cells, cell_weight))

    @torch.no_grad()
    def expectations(
        self, bags: Bags, token_index: Tensor, bin_values: Tensor, *, cell_weight: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return log-odds of detection and conditional mean at masked tokens, (tokens,) float32 each.

        The same as from :meth:`bin_logits`, without the logit of every bin: the odds of a gene in a cell are a
        polynomial of the exponential of its score, and so is the conditional mean.

        Parameters
        ----------
        bags, token_index, cell_weight
            As for :meth:`bin_logits`; all tokens are masked.
        bin_values
            (batch, cells, n_bins - 1) float32: value of each bin but zero in each cell.
        """
        check_bags(self, bags)
        with torch.autocast(bags.tokens.device.type, enabled=False):
            n_cells = _cells_at_once(bags.tokens)
            parts = self.profile.in_parts(bags.tokens, n_cells)
            moments = self.embedder.moments(parts[0])
            embedded = torch.cat([self.embedder(part, moments) for part in parts], dim=1)
            depth = torch.cat([part.depth for part in parts], dim=1)
            cells = self.cell_transformer(embedded, depth, bags.coordinates).split(n_cells, dim=1)
            counts, frequency = parts[0].background, _frequency(parts[0].bins, parts[0].totals[:, None])
            log_odds, means = torch.empty((2, *bags.tokens.shape), device=token_index.device)
            expected = torch.zeros_like(counts.zero)
            for number, (vectors, values) in enumerate(zip(cells, bin_values.split(n_cells, dim=1), strict=True)):
                part, parts[number] = parts[number], None  # to free its memory
                found, mean = _expected_values(part, *self.decoder(vectors, cell_weight), frequency, values)
                expected += (found.sigmoid() * part.tokens.is_visible).sum(1)
                rows = slice(number * n_cells, (number + 1) * n_cells)
                log_odds[:, rows], means[:, rows] = found, mean
            if self.correction is not None:
                log_odds += self.correction(counts.visible, counts.visible - counts.zero, expected)[:, None]
            return tuple(table.flatten().index_select(0, token_index) for table in (log_odds, means))

    def cell_embedding(self, bags: Bags, background: Background | None = None) -> Tensor:
        """Return the cell embedding, (batch, cells, cell_dim).

        Parameters
        ----------
        bags
            The bags; the cells of ``in_background`` are left out of their own profile.
        background
            From :meth:`background`: cells are centred on its profile, so that their embedding does not depend on the
            bag. By default on the profile of the other cells of the bag.
        """
        check_bags(self, bags)
        with torch.autocast(bags.tokens.device.type, enabled=False):
            return self.embedder(self.profile(bags.tokens, background, bags.in_background))

    @torch.no_grad()
    def background(self, tokens: Tensor) -> Background:
        """Count the bins over cells of a sample, from ``tokens`` (cells, genes)."""
        return self.profile.count(tokens[None])

    def at_genes(self, gene_index: Tensor) -> CompactNetwork:
        """Return a copy of the network for some genes only.

        Genes that are masked or padding in every cell can be left out without changing the predictions of the others.
        """
        part = copy.deepcopy(self)
        part.n_genes = len(gene_index)
        for name in BY_GENE:
            module, _, last = name.rpartition(".")
            values = getattr(part.get_submodule(module), last)
            rows = values.detach()[gene_index]
            if isinstance(values, nn.Parameter):
                rows = nn.Parameter(rows, requires_grad=values.requires_grad)
            setattr(part.get_submodule(module), last, rows)
        return part

    def _logits_at(self, token_index: Tensor, profile: Profile, first: Tensor, step: Tensor) -> Tensor:
        """Return the logits (tokens, n_bins) from the profile and the scores of the decoder."""
        _, gene = split_index(token_index, first.shape)
        expected = None if self.correction is None else _expected_detection(profile, first, step)
        # The logits of a masked token depend on the gene only; a visible token is left out of all counts.
        by_gene = self._gene_logits(profile, expected).index_select(1, gene)
        visible = profile.tokens.is_visible.flatten().index_select(0, token_index).nonzero().squeeze(1)
        if len(visible):
            left_out = self._left_out_logits(profile, expected, token_index[visible], gene[visible])
            by_gene = by_gene.index_copy(1, visible, left_out)
        each = (profile.log_zero, first, step)
        log_zero, first, step = (values.flatten().index_select(0, token_index) for values in each)
        number = torch.arange(self.config.n_bins - 1, device=step.device)
        logits = torch.addcmul(by_gene + (detection_probability(log_zero).log() + first), number[:, None], step)
        return torch.cat([log_zero[None], logits]).T

    def _gene_logits(self, profile: Profile, expected: Tensor | None) -> Tensor:
        """Return the log frequency of each bin given detection, plus the correction: (n_bins - 1, batch * genes)."""
        logits = _log_frequency(profile.bins, profile.totals[:, None])
        if self.correction is not None:
            counts = profile.background
            correction = self.correction(counts.visible, counts.visible - counts.zero, expected.sum(1))
            logits = logits + correction[:, None]
        return logits.transpose(0, 1).flatten(1)

    def _left_out_logits(self, profile: Profile, expected: Tensor | None, token_index: Tensor, gene: Tensor) -> Tensor:
        """Return the same for visible tokens from the counts of all other cells, (n_bins - 1, tokens)."""
        counts = profile.background
        is_zero = torch.ones(profile.log_zero.numel(), device=gene.device)
        is_zero = is_zero.index_fill_(0, profile.tokens.detected, 0).index_select(0, token_index)
        bins = profile.bins.transpose(0, 1).flatten(1).index_select(1, gene)
        own = torch.searchsorted(profile.tokens.detected, token_index[is_zero == 0])
        bins[profile.tokens.bin[own] - 1, (is_zero == 0).nonzero().squeeze(1)] -= 1
        logits = _log_frequency(bins, profile.totals.flatten()[gene] - (1 - is_zero))
        if self.correction is not None:
            n_visible, n_zero = counts.visible.flatten()[gene] - 1, counts.zero.flatten()[gene] - is_zero
            others = expected.sum(1).flatten()[gene] - expected.flatten()[token_index]
            logits = logits + self.correction(n_visible, n_visible - n_zero, others)
        return logits


@torch.no_grad()
def _expected_detection(profile: Profile, first: Tensor, step: Tensor) -> Tensor:
    """Return the detection probability by profile and scores where a gene is visible, else 0.

    It has no gradient, so that the rest of the network learns to predict without the correction.
    """
    # Frequencies over all cells of the bag: leaving out the cell's own bin would change them little.
    frequency = _frequency(profile.bins, profile.totals[:, None]).unsqueeze(2)
    # The sum over the bins of frequency * exp(first + number * step) is a polynomial of exp(step).
    ratio = step.exp()
    odds = frequency[:, -1].expand_as(ratio)
    for number in range(frequency.shape[1] - 2, -1, -1):
        odds = torch.addcmul(frequency[:, number], odds, ratio)
    odds = odds * first.exp() * detection_probability(profile.log_zero)
    return profile.tokens.is_visible / (1 + profile.log_zero.exp() / odds)


def _expected_values(
    profile: Profile, first: Tensor, step: Tensor, frequency: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log-odds of detection, without correction, and conditional mean of all tokens, (batch, cells, genes).

    ``frequency`` (batch, bins, genes) is that of each bin given detection, ``values`` (batch, cells, bins) its value.
    """
    ratio = step.exp_()
    of_bin = frequency.unsqueeze(2).unbind(1)
    value_of = values.unsqueeze(-1).unbind(2)
    # Both sums over the bins of frequency * exp(number * step), with and without the value, by Horner's rule.
    odds = torch.empty_like(ratio).copy_(of_bin[-1])  # a table of its own, also for a single cell
    weighted = of_bin[-1] * value_of[-1]
    for in_bin, value in zip(of_bin[-2::-1], value_of[-2::-1], strict=True):
        torch.addcmul(in_bin, odds, ratio, out=odds)
        weighted.mul_(ratio).addcmul_(in_bin, value)
    weighted /= odds
    return odds.mul_(detection_probability(profile.log_zero)).log_().add_(first).sub_(profile.log_zero), weighted


def _cells_at_once(tokens: Tensor) -> int:
    """Return the number of cells of a bag whose numbers fit into the cache of a processor; all on a GPU."""
    batch, n_cells, n_genes = tokens.shape
    if tokens.device.type != "cpu":
        return n_cells
    return max(1, TOKENS_AT_ONCE // (batch * n_genes))


def _frequency(counts: Tensor, totals: Tensor) -> Tensor:
    return (counts / totals).clamp_min(MIN_PROBABILITY)


def _log_frequency(counts: Tensor, totals: Tensor) -> Tensor:
    return _frequency(counts, totals).log()
