"""Run a network over bags, batch by batch; results are copied from the device after each batch."""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.model.network import Bags
from scanpy_sct.model.profile import Background
from scanpy_sct.run.device import choose_device, choose_precision
from scanpy_sct.run.inputs import BagInput
from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

GPU_BYTES_PER_TOKEN = 6_000
"""Device memory per token in the released network, bfloat16."""
MAX_AUTO_BATCH = 16


@dataclass(frozen=True)
class TokenPrediction:
    """Predictions at the requested tokens of a bag, (tokens,) each."""

    log_odds: np.ndarray
    """float32: log-odds of detection."""
    conditional_mean: np.ndarray
    """float32: expected value given detection."""
    top_bin: np.ndarray
    """uint8: most probable bin."""
    confidence: np.ndarray
    """float32: probability of that bin."""


class Runner:
    """A network on a device.

    Parameters
    ----------
    checkpoint
        The network, which is not changed; it is copied if it has to be moved to another device.
    options
        Device, precision and batch size.
    genes
        Indices of the genes to read, for networks that can read some only; None: all.

    Raises
    ------
    ValueError
        The device or the precision cannot be used.
    """

    def __init__(self, checkpoint: Checkpoint, options: ComputeOptions, genes: np.ndarray | None = None) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(options.device)
        self.dtype = choose_precision(options.precision, self.device)
        network = checkpoint.network
        if genes is not None and len(genes) < network.n_genes:
            network = network.at_genes(torch.from_numpy(genes))
        elif self.device.type != "cpu" or network.training:
            network = copy.deepcopy(network)
        self.network = network.to(self.device).eval()
        self.batch_size = self._auto_batch_size() if options.batch_size == "auto" else options.batch_size

    def _auto_batch_size(self) -> int:
        # On a processor a single bag uses all cores; larger batches only need more memory.
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        tokens = self.checkpoint.config.bag_size * self.network.n_genes
        return int(np.clip(free // (tokens * GPU_BYTES_PER_TOKEN), 1, MAX_AUTO_BATCH))

    def predict(
        self, bags: Iterable[BagInput], *, cell_weight: float = 1.0, keep_bins: bool = False
    ) -> Iterator[tuple[BagInput, TokenPrediction]]:
        """Yield each bag with the predictions at its requested tokens.

        Parameters
        ----------
        bags
            The bags.
        cell_weight
            Weight of the cell embedding in the logits, for networks that have one.
        keep_bins
            Also compute the most probable bin.
        """
        for batch in self._batches(bags):
            found = self._in_parts(lambda part: self._predict(part, cell_weight, keep_bins), batch)
            yield from zip(batch, found, strict=True)

    def cell_vectors(
        self, bags: Iterable[BagInput], background: Background | None = None
    ) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with one vector per cell, (cells, dimensions) float32.

        ``background`` is the profile of a sample on which cells are centred, from :meth:`background`; None: of the bag.
        """
        for batch in self._batches(bags):
            found = self._in_parts(lambda part: self._vectors(part, background), batch)
            yield from zip(batch, found, strict=True)

    @torch.inference_mode()
    def background(self, bags: Iterable[BagInput]) -> Background:
        """Count the visible bins of all bags, for networks that centre cells on a profile."""
        counts = (self.network.background(torch.from_numpy(bag.tokens).to(self.device)) for bag in bags)
        return reduce(operator.add, counts)

    def _batches(self, bags: Iterable[BagInput]) -> Iterator[list[BagInput]]:
        batch: list[BagInput] = []
        for bag in bags:
            # Bags of a tensor have the same number of cells.
            if batch and (len(batch) == self.batch_size or batch[0].tokens.shape != bag.tokens.shape):
                yield batch
                batch = []
            batch.append(bag)
        if batch:
            yield batch

    def _in_parts(self, compute: Callable[[Sequence[BagInput]], list[T]], batch: Sequence[BagInput]) -> list[T]:
        """Compute a batch, or its halves if the device runs out of memory."""
        try:
            return compute(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        logger.warning("Out of memory on %s: retrying with batch_size=%d.", self.device, self.batch_size)
        return self._in_parts(compute, batch[:half]) + self._in_parts(compute, batch[half:])

    def _to_device(self, batch: Sequence[BagInput]) -> Bags:
        tokens = torch.from_numpy(np.stack([bag.tokens for bag in batch])).to(self.device)
        coordinates = None
        if self.checkpoint.config.reads_coordinates:
            stacked = np.stack([bag.coordinates for bag in batch]).astype(np.float32)
            coordinates = torch.from_numpy(stacked).to(self.device)
        in_background = None
        if batch[0].in_background is not None:
            in_background = torch.from_numpy(np.stack([bag.in_background for bag in batch])).to(self.device)
        return Bags(tokens, coordinates, in_background)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def _predict(self, batch: Sequence[BagInput], cell_weight: float, keep_bins: bool) -> list[TokenPrediction]:
        size = batch[0].tokens.size
        index = torch.from_numpy(np.concatenate([number * size + bag.token_index for number, bag in enumerate(batch)]))
        values = torch.from_numpy(np.stack([bag.bin_values for bag in batch])).to(self.device)
        bags, index = self._to_device(batch), index.to(self.device)
        no_bins = torch.zeros(0, dtype=torch.uint8), torch.zeros(0)
        with self._autocast():
            if self.network.has_cell_embedding and not keep_bins:
                found = (*self.network.expectations(bags, index, values, cell_weight=cell_weight), *no_bins)
            else:
                logits = self.network.bin_logits(bags, index, cell_weight=cell_weight)
                # Bins are the first axis, since reductions over short rows are slow.
                logits = logits.float().T.contiguous()
                cell = index // batch[0].tokens.shape[1]
                found = (*_expected(logits, values.flatten(0, 1).T.contiguous(), cell), *no_bins)
                if keep_bins:
                    confidence, top_bin = logits.softmax(0).max(0)
                    found = (*found[:2], top_bin.to(torch.uint8), confidence)
        ends = np.cumsum([len(bag.token_index) for bag in batch])[:-1]
        return [
            TokenPrediction(*parts)
            for parts in zip(*(np.split(each.cpu().numpy(), ends) for each in found), strict=True)
        ]

    @torch.inference_mode()
    def _vectors(self, batch: Sequence[BagInput], background: Background | None) -> list[np.ndarray]:
        with self._autocast():
            vectors = self.network.cell_embedding(self._to_device(batch), background)
        return list(vectors.float().cpu().numpy())


def _expected(logits: Tensor, values: Tensor, cell: Tensor) -> list[Tensor]:
    """Compute log-odds of detection and conditional mean from logits (bins, tokens).

    ``values`` (bins above zero, cells) is the value of each bin in each cell, ``cell`` (tokens,) that of each token.
    """
    detected = logits[1:]
    largest = detected.amax(0)
    weights = (detected - largest).exp_()
    total = weights.sum(0)
    log_odds = total.log() + largest - logits[0]
    conditional_mean = (weights * values.index_select(1, cell)).sum(0) / total
    return [log_odds, conditional_mean]
