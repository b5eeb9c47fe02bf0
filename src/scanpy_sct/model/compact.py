"""The compact network: a cell embedding, attention among the cells of a bag, the bag profile, a correction by the bag.

No convolutions: what predicts a masked gene is what a statistician would look at first.

* The *profile*: how often the gene is in each bin in the bag's other cells, shrunk towards its frequencies in the
  training data and corrected for how deeply each cell was sequenced.
* The *cell embedding*: all visible genes of a cell, as deviations from their profile, in a few dimensions. The cells
  of a bag exchange them by attention, and gene factors turn the result into scores that change the profile's logits.
* The *bag correction*: each gene is raised or lowered by what the bag shows beyond what both have expected.
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
from scanpy_sct.model.profile import MIN_PROBABILITY, Background, BagProfile, Profile, split_index

SCALES = (10, 1.0, 10.0)
"""Number, smallest and largest of the scales on which coordinates are encoded."""
BY_GENE = ("profile.log_prior", "embedder.gene_factors", "decoder.gene_factors")
"""Tensors of the network that have a row for each gene."""


@dataclass(frozen=True)
class CompactConfig:
    """Configuration of :class:`CompactNetwork`."""

    n_bins: int = 8
    """Bins of expression, zero included. The mask token and the pad token come behind them."""
    bag_size: int = 50
    """Cells of a bag at prediction; the weights work with any number."""
    cell_dim: int = 64
    """Width of the cell embedding, a multiple of 2."""
    cell_layers: int = 2
    """Transformer layers in which the cells of a bag attend to one another."""
    bag_correction: bool = True
    """Correct each gene by how often the bag shows it against how often the rest of the network expects it."""
    reads_coordinates: bool = False
    """Add an encoding of each cell's coordinates before cells attend to one another."""

    def __post_init__(self) -> None:
        least = {"n_bins": 2, "bag_size": 1, "cell_dim": 2, "cell_layers": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                msg = f"{name}={value!r} must be an integer of at least {smallest}."
                raise ValueError(msg)
        if self.cell_dim % 2:
            msg = f"cell_dim={self.cell_dim} must be a multiple of 2, since {HEADS} attention heads share 2 * cell_dim."
            raise ValueError(msg)

    @property
    def mask_token(self) -> int:
        """Token of a masked gene."""
        return self.n_bins

    @property
    def pad_token(self) -> int:
        """Token behind the last gene."""
        return self.n_bins + 1


class CompactNetwork(nn.Module):
    """Profile, cell embedding and bag correction as one network.

    Counting and logarithms of frequencies need float32: the network computes in it also under autocast.

    Parameters
    ----------
    config
        Shape of the network.
    n_genes
        Genes of one cell, padding included.
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
        """Return the logit of every bin at some tokens; see :meth:`scanpy_sct.model.Network.bin_logits`.

        The bag correction is that of the logits so weighted.
        """
        check_bags(self, bags)
        with torch.autocast(bags.tokens.device.type, enabled=False):
            profile = self.profile(bags.tokens)
            cells = self.cell_transformer(self.embedder(profile), profile.depth, bags.coordinates)
            return self._logits_at(token_index, profile, *self.decoder(cells, cell_weight))

    def forward(
        self, tokens: Tensor, token_index: Tensor, coordinates: Tensor | None = None, cell_weight: float = 1.0
    ) -> Tensor:
        """Do as :meth:`bin_logits`, with plain tensors, as wrappers such as DistributedDataParallel expect."""
        return self.bin_logits(Bags(tokens, coordinates), token_index, cell_weight=cell_weight)

    def cell_embedding(self, bags: Bags, background: Background | None = None) -> Tensor:
        """Return the cell embedding, (batch, cells, cell_dim).

        Parameters
        ----------
        bags
            The bags. ``in_background`` names the cells that are counted in ``background``; each of them is left out of
            its own profile.
        background
            From :meth:`background`: cells are centred on its profile, which makes their embedding independent of the
            other cells of the bag. By default the profile is that of the bag's other cells.
        """
        check_bags(self, bags)
        with torch.autocast(bags.tokens.device.type, enabled=False):
            return self.embedder(self.profile(bags.tokens, background, bags.in_background))

    @torch.no_grad()
    def background(self, tokens: Tensor) -> Background:
        """Count what some cells of a sample show, ``tokens`` (cells, genes); counts of disjoint cells add up."""
        return self.profile.count(tokens[None])

    def at_genes(self, gene_index: Tensor) -> CompactNetwork:
        """Return the same network over some genes only, with weights of its own.

        A gene that is masked, or padding, in every cell adds nothing to depth, profile and cell embedding: where all
        others are kept, predictions at the kept genes stay the same.
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
        # What depends on the gene only, for a masked token; a visible one is left out of all counts.
        by_gene = self._gene_logits(profile, expected).index_select(1, gene)
        visible = profile.seen.visible.flatten().index_select(0, token_index).nonzero().squeeze(1)
        if len(visible):
            left_out = self._left_out_logits(profile, expected, token_index[visible], gene[visible])
            by_gene = by_gene.index_copy(1, visible, left_out)
        each = (profile.log_zero, profile.detection, first, step)
        log_zero, detection, first, step = (values.flatten().index_select(0, token_index) for values in each)
        number = torch.arange(self.config.n_bins - 1, device=step.device)
        logits = torch.addcmul(by_gene + (detection.log() + first), number[:, None], step)
        return torch.cat([log_zero[None], logits]).T

    def _gene_logits(self, profile: Profile, expected: Tensor | None) -> Tensor:
        """Log frequency of each bin but zero given detection, plus the correction: (n_bins - 1, batch * genes)."""
        logits = _log_frequency(profile.bins, profile.totals[:, None])
        if self.correction is not None:
            counts = profile.background
            correction = self.correction(counts.visible, counts.visible - counts.zero, expected.sum(1))
            logits = logits + correction[:, None]
        return logits.transpose(0, 1).flatten(1)

    def _left_out_logits(self, profile: Profile, expected: Tensor | None, token_index: Tensor, gene: Tensor) -> Tensor:
        """Do as :meth:`_gene_logits` for visible tokens, from the counts of all other cells, (n_bins - 1, tokens)."""
        counts = profile.background
        is_zero = profile.seen.zero.flatten().index_select(0, token_index)
        bins = profile.bins.transpose(0, 1).flatten(1).index_select(1, gene)
        own = torch.searchsorted(profile.seen.detected, token_index[is_zero == 0])
        bins[profile.seen.bin[own] - 1, (is_zero == 0).nonzero().squeeze(1)] -= 1
        logits = _log_frequency(bins, profile.totals.flatten()[gene] - (1 - is_zero))
        if self.correction is not None:
            n_visible, n_zero = counts.visible.flatten()[gene] - 1, counts.zero.flatten()[gene] - is_zero
            others = expected.sum(1).flatten()[gene] - expected.flatten()[token_index]
            logits = logits + self.correction(n_visible, n_visible - n_zero, others)
        return logits


@torch.no_grad()
def _expected_detection(profile: Profile, first: Tensor, step: Tensor) -> Tensor:
    """Return the detection probability by profile and scores where a gene is visible, else 0.

    Nothing is learnt through it: the rest of the network is to be right without the correction.
    """
    # How all cells of the bag divide among the bins: to leave out the cell's own bin changes this little.
    frequency = (profile.bins / profile.totals[:, None]).clamp_min(MIN_PROBABILITY).unsqueeze(2)
    # The sum over the bins of frequency * exp(first + number * step) is a polynomial of exp(step).
    ratio = step.exp()
    odds = frequency[:, -1].expand_as(ratio)
    for number in range(frequency.shape[1] - 2, -1, -1):
        odds = torch.addcmul(frequency[:, number], odds, ratio)
    odds = odds * first.exp() * profile.detection
    return profile.seen.visible / (1 + profile.log_zero.exp() / odds)


def _log_frequency(counts: Tensor, totals: Tensor) -> Tensor:
    return (counts / totals).clamp_min(MIN_PROBABILITY).log()
