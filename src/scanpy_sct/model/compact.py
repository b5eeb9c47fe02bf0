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
from scanpy_sct.model.profile import MIN_PROBABILITY, Background, BagProfile, Visible

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
            seen = Visible.of(bags.tokens, self.config.n_bins)
            depth = self.profile.depth(seen)
            counts = self.profile.count(seen, depth)
            log_zero = self.profile(seen, depth, counts, None)
            detection = (-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY)
            bins = self.profile.bin_counts(counts)
            cells = self.embedder(seen, detection, bins, None)
            cells = self.cell_transformer(cells, depth, bags.coordinates)
            first, step = self.decoder(cells, cell_weight)
            at = [each.flatten().index_select(0, token_index) for each in (log_zero, detection, first, step)]
            log_zero_at, detection_at, first_at, step_at = at
            score = detection_at.log() + first_at
            if self.correction is not None:
                expected = self._detection(seen, log_zero, detection, bins, first, step)
                score = score + self.correction(seen, counts, expected, token_index)
            log_bins = self._log_bins(bins, token_index, bags.tokens)
            number = torch.arange(self.config.n_bins - 1, device=score.device)
            logits = torch.addcmul(log_bins + score, number[:, None], step_at)
            return torch.cat([log_zero_at[None], logits]).T

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
            seen = Visible.of(bags.tokens, self.config.n_bins)
            depth = self.profile.depth(seen)
            in_background = None
            if background is None:
                background = self.profile.count(seen, depth)
            else:
                given = bags.in_background
                in_background = torch.zeros_like(depth) if given is None else given.float()
                in_background = in_background[..., None]
            log_zero = self.profile(seen, depth, background, in_background)
            detection = (-torch.expm1(log_zero)).clamp_min(MIN_PROBABILITY)
            return self.embedder(seen, detection, self.profile.bin_counts(background), in_background)

    @torch.no_grad()
    def background(self, tokens: Tensor) -> Background:
        """Count what some cells of a sample show, ``tokens`` (cells, genes); counts of disjoint cells add up."""
        seen = Visible.of(tokens[None], self.config.n_bins)
        return self.profile.count(seen, self.profile.depth(seen))

    def at_genes(self, gene_index: Tensor) -> CompactNetwork:
        """Return the same network over some genes only, with weights of its own.

        A gene that is masked, or padding, in every cell adds nothing to depth, profile and cell embedding: where all
        others are kept, predictions at the kept genes stay the same.
        """
        part = copy.deepcopy(self)
        part.n_genes = len(gene_index)
        for name in BY_GENE:
            module, _, last = name.rpartition(".")
            values = part.get_submodule(module)._parameters if last != "log_prior" else None
            rows = getattr(part.get_submodule(module), last).detach()[gene_index].clone()
            setattr(part.get_submodule(module), last, rows if values is None else nn.Parameter(rows))
        return part

    @torch.no_grad()
    def _detection(
        self,
        seen: Visible,
        log_zero: Tensor,
        detection: Tensor,
        bins: tuple[Tensor, Tensor],
        first: Tensor,
        step: Tensor,
    ) -> Tensor:
        """Return the detection probability by profile and scores where a gene is visible, and 0 elsewhere."""
        # How the whole bag divides among the bins: to leave out the cell's own bin changes this little.
        counts, totals = bins
        among = (counts / totals[:, None]).clamp_min(MIN_PROBABILITY)
        ratio = step.exp()
        factor = among[:, -1][:, None].expand_as(ratio)
        for number in range(among.shape[1] - 2, -1, -1):
            factor = torch.addcmul(among[:, number][:, None], factor, ratio)
        odds = factor * first.exp() * detection
        return seen.visible / (1 + log_zero.exp() / odds)

    @torch.no_grad()
    def _log_bins(self, bins: tuple[Tensor, Tensor], token_index: Tensor, tokens: Tensor) -> Tensor:
        """Return the log frequency of each bin but zero among them, (n_bins - 1, tokens)."""
        _, n_cells, n_genes = tokens.shape
        gene = token_index // (n_cells * n_genes) * n_genes + token_index % n_genes
        flat, totals = bins[0].transpose(0, 1).flatten(1), bins[1].flatten()
        result = (flat / totals).clamp_min(MIN_PROBABILITY).log()[:, gene]
        own = tokens.flatten()[token_index]
        # A visible token is left out of its own profile.
        place = ((own > 0) & (own < self.config.n_bins)).nonzero().squeeze(1)
        if len(place):
            gene, own = gene[place], own[place].long()
            counts = flat[:, gene]
            counts[own - 1, torch.arange(len(place), device=own.device)] -= 1
            result[:, place] = (counts / (totals[gene] - 1)).clamp_min(MIN_PROBABILITY).log()
        return result
