"""Run a network over bags, batch by batch; results are copied from the device after each batch."""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.model.compact import CompactNetwork
from scanpy_sct.model.network import Bags
from scanpy_sct.model.profile import Background
from scanpy_sct.run.device import choose_device, choose_precision, mention_model
from scanpy_sct.run.inputs import BagInput, BagInputs
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.threads import in_threads

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
        network = checkpoint.network
        is_compact = isinstance(network, CompactNetwork)  # always computes in float32
        precision = "float32" if is_compact and options.precision == "auto" else options.precision
        self.dtype = choose_precision(precision, self.device)
        mention_model(checkpoint.name, checkpoint.license, self.device, self.dtype)
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
        self, bags: Sequence[BagInput] | BagInputs, *, cell_weight: float = 1.0, keep_bins: bool = False
    ) -> Iterator[tuple[BagInput, TokenPrediction]]:
        """Yield each bag with the predictions at its requested tokens, which are masked.

        Parameters
        ----------
        bags
            The bags; those of a :class:`~scanpy_sct.run.inputs.BagInputs` are made as they are needed.
        cell_weight
            Weight of the cell embedding in the logits, for networks that have one.
        keep_bins
            Also compute the most probable bin.
        """
        yield from self._run(bags, lambda batch: self._predict(batch, cell_weight, keep_bins))

    def cell_vectors(
        self, bags: Sequence[BagInput] | BagInputs, background: Background | None = None
    ) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with one vector per cell, (cells, dimensions) float32.

        ``background`` is what cells are centred on, from :meth:`background` or :meth:`no_background`; None: their bag.
        """
        background = None if background is None else background.to(self.device)
        yield from self._run(bags, lambda batch: self._vectors(batch, background))

    def background(self, bags: Sequence[BagInput] | BagInputs) -> Background:
        """Count the visible bins of all bags, for networks that centre cells on a profile; on the CPU."""
        return reduce(operator.add, (count for _, count in self._run(bags, self._counts))).to("cpu")

    def no_background(self) -> Background:
        """Return the counts of no cell, by which cells are centred on the frequencies of the training data."""
        none = torch.empty((0, self.network.n_genes), dtype=torch.uint8, device=self.device)
        return self.network.background(none).to("cpu")

    def _run(
        self, bags: Sequence[BagInput] | BagInputs, compute: Callable[[_Batch], list[T]]
    ) -> Iterator[tuple[BagInput, T]]:
        """Yield each bag with its result."""

        def made(numbers: range) -> list[BagInput]:
            return [bags[number] for number in numbers]

        def computed(some: list[BagInput]) -> list[tuple[BagInput, T]]:
            return list(zip(some, self._in_batches(some, compute), strict=True))

        parts = [
            range(start, min(start + self.batch_size, len(bags))) for start in range(0, len(bags), self.batch_size)
        ]
        if self.device.type == "cpu" and isinstance(self.network, CompactNetwork):
            # Its operations are too small to be divided among threads.
            found = in_threads(lambda numbers: computed(made(numbers)), parts)
        elif self.device.type == "cpu":
            found = (computed(made(numbers)) for numbers in parts)
        else:
            # Tokens are made while the device computes.
            found = map(computed, in_threads(made, parts, n_threads=max(2, torch.get_num_threads())))
        for some in found:
            yield from some

    def _in_batches(self, bags: list[BagInput], compute: Callable[[_Batch], list[T]]) -> list[T]:
        """Compute bags in batches of the same number of cells, smaller ones if the device runs out of memory."""
        size = next((n for n, bag in enumerate(bags) if bag.tokens.shape != bags[0].tokens.shape), len(bags))
        size = min(size, self.batch_size)
        try:
            found = compute(_Batch.of(bags[:size], self.device))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            found = None
        if found is None:
            # Outside of the exception, which holds what was computed and with it memory.
            torch.cuda.empty_cache()
            self.batch_size = size // 2
            logger.warning(
                "Out of memory on %s: retrying with batch_size=%d, which gives the same results.",
                self.device,
                self.batch_size,
            )
            return self._in_batches(bags, compute)
        return found + self._in_batches(bags[size:], compute) if size < len(bags) else found

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def _predict(self, batch: _Batch, cell_weight: float, keep_bins: bool) -> list[TokenPrediction]:
        index = batch.token_index()
        with self._autocast():
            if isinstance(self.network, CompactNetwork) and not keep_bins:
                found = list(self.network.expectations(batch.bags, index, batch.bin_values, cell_weight=cell_weight))
            else:
                logits = self.network.bin_logits(batch.bags, index, cell_weight=cell_weight)
                # Bins are the first axis, since reductions over short rows are slow.
                logits = logits.float().T.contiguous()
                cell = index // batch.bags.tokens.shape[2]
                found = _expected(logits, batch.bin_values.flatten(0, 1).T.contiguous(), cell)
        if keep_bins:
            confidence, top_bin = logits.softmax(0).max(0)
            found += [top_bin.to(torch.uint8), confidence]
        else:
            found += [torch.zeros(0, dtype=torch.uint8), torch.zeros(0)]
        ends = np.cumsum([len(bag.token_index) for bag in batch.inputs])[:-1]
        return [
            TokenPrediction(*parts)
            for parts in zip(*(np.split(each.cpu().numpy(), ends) for each in found), strict=True)
        ]

    @torch.inference_mode()
    def _counts(self, batch: _Batch) -> list[Background]:
        return [self.network.background(tokens) for tokens in batch.bags.tokens]

    @torch.inference_mode()
    def _vectors(self, batch: _Batch, background: Background | None) -> list[np.ndarray]:
        with self._autocast():
            vectors = self.network.cell_embedding(batch.bags, background)
        return list(vectors.float().cpu().numpy())


@dataclass(frozen=True)
class _Batch:
    """Bags with the same number of cells, on the device."""

    inputs: Sequence[BagInput]
    bags: Bags
    bin_values: Tensor
    """(bags, cells, n_bins - 1) float32."""

    @classmethod
    def of(cls, inputs: Sequence[BagInput], device: torch.device) -> _Batch:
        def stacked(arrays: list[np.ndarray | None], dtype: type) -> Tensor | None:
            if arrays[0] is None:
                return None
            tensor = torch.from_numpy(np.stack(arrays).astype(dtype, copy=False))
            # Copies from pinned memory do not wait for what the device is computing.
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

        bags = Bags(
            stacked([bag.tokens for bag in inputs], np.uint8),
            stacked([bag.coordinates for bag in inputs], np.float32),
            stacked([bag.in_background for bag in inputs], bool),
        )
        return cls(inputs, bags, stacked([bag.bin_values for bag in inputs], np.float32))

    def __len__(self) -> int:
        return len(self.inputs)

    def token_index(self) -> Tensor:
        """Return the indices of the requested tokens of all bags, on the device."""
        size = self.inputs[0].tokens.size
        index = [number * size + bag.token_index for number, bag in enumerate(self.inputs)]
        return torch.from_numpy(np.concatenate(index)).to(self.bags.tokens.device)


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
