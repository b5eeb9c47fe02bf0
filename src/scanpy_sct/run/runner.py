"""Bags through the network, a batch at a time; results leave the device at every step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.model import Background, Bags
from scanpy_sct.run.device import choose_device, choose_precision
from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

GPU_BYTES_PER_TOKEN = 6_000
"""Device memory for each token of a bag in the released network, bfloat16."""
MAX_AUTO_BATCH = 16


@dataclass(frozen=True)
class BagInput:
    """One bag, ready for the network."""

    rows: np.ndarray
    """Rows of its target cells in the data."""
    tokens: np.ndarray
    """(cells, genes) uint8; the target cells come first."""
    values: np.ndarray
    """(cells, n_bins - 1): what each bin but zero is worth in each cell."""
    token_index: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Index into the flattened tokens at which predictions are requested."""
    coordinates: np.ndarray | None = None
    in_background: np.ndarray | None = None
    """(cells,) bool: which of the cells were counted in the background, where there is one."""


class Runner:
    """A network on a device. The network of the checkpoint stays where it is.

    Parameters
    ----------
    checkpoint
        The network and what belongs to it.
    options
        Device, precision and batch size.
    gene_index
        Genes that are visible in a cell or requested; all others must be masked, or padding, in every cell. A compact
        network leaves these out, which changes its predictions by rounding only. Input and token index stay as they
        are. By default all genes are read.

    Raises
    ------
    ValueError
        If device, precision or batch size cannot be used.
    """

    def __init__(
        self, checkpoint: Checkpoint, options: ComputeOptions | None = None, *, gene_index: np.ndarray | None = None
    ) -> None:
        options = options or ComputeOptions()
        size = options.batch_size
        if size != "auto" and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
            msg = f"batch_size={size!r} must be an integer of at least 1, or 'auto'."
            raise ValueError(msg)
        self.checkpoint = checkpoint
        self.device = choose_device(options.device)
        self.dtype = choose_precision(options.precision, self.device)
        self.gene_index = gene_index if checkpoint.network.has_cell_embedding else None
        self.network = self._network()
        self.batch_size = self._auto_batch_size() if size == "auto" else int(size)

    def _network(self) -> torch.nn.Module:
        network = self.checkpoint.network
        if self.gene_index is not None:
            network = network.at_genes(torch.from_numpy(self.gene_index))
        elsewhere = next(network.parameters()).device != torch.empty(0, device=self.device).device
        if self.gene_index is None and (elsewhere or network.training):
            network = copy.deepcopy(network)
        return network.to(self.device).eval()

    def _auto_batch_size(self) -> int:
        # On a processor a single bag fills the machine; more at once would only take memory.
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        tokens = self.checkpoint.config.bag_size * self.network.n_genes
        return int(np.clip(free // (tokens * GPU_BYTES_PER_TOKEN), 1, MAX_AUTO_BATCH))

    def bin_probabilities(
        self, bags: Iterable[BagInput], *, cell_weight: float = 1.0
    ) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with the probability of every bin at its token index, (tokens, n_bins) float32.

        ``cell_weight`` is the weight of the cell embedding in the logits of a compact network.
        """

        def compute(batch: Sequence[BagInput]) -> list[np.ndarray]:
            return self._probabilities(batch, cell_weight)

        for batch in self._batches(bags):
            yield from zip(batch, self._halving(compute, batch), strict=True)

    def cell_vectors(
        self, bags: Iterable[BagInput], background: Background | None = None
    ) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with one vector per cell, (cells, dimensions) float32.

        A compact network centres the cells on the profile of ``background``, which a released one ignores; see
        :meth:`scanpy_sct.model.CompactNetwork.cell_embedding`.
        """

        def compute(batch: Sequence[BagInput]) -> list[np.ndarray]:
            return self._vectors(batch, background)

        for batch in self._batches(bags):
            yield from zip(batch, self._halving(compute, batch), strict=True)

    @torch.inference_mode()
    def background(self, tokens: np.ndarray) -> Background:
        """Count what some cells show, ``tokens`` (cells, genes); only for a compact network."""
        return self.network.background(self._on_device(tokens))

    def _batches(self, bags: Iterable[BagInput]) -> Iterator[list[BagInput]]:
        batch: list[BagInput] = []
        for bag in bags:
            # Only bags of the same number of cells fit into one tensor.
            if batch and (len(batch) == self.batch_size or batch[0].tokens.shape != bag.tokens.shape):
                yield batch
                batch = []
            batch.append(bag)
        if batch:
            yield batch

    def _halving(
        self, compute: Callable[[Sequence[BagInput]], list[np.ndarray]], batch: Sequence[BagInput]
    ) -> list[np.ndarray]:
        """Compute a batch, or its halves where the memory of the device does not hold it."""
        try:
            return compute(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        logger.warning("Out of memory on %s: retrying with batch_size=%d.", self.device, self.batch_size)
        return self._halving(compute, batch[:half]) + self._halving(compute, batch[half:])

    @torch.inference_mode()
    def _probabilities(self, batch: Sequence[BagInput], cell_weight: float) -> list[np.ndarray]:
        indices = self._token_indices(batch)
        token_index = torch.from_numpy(np.concatenate(indices)).to(self.device)
        with self._autocast():
            logits = self.network.bin_logits(self._bags(batch), token_index, cell_weight=cell_weight)
        # Bins first: to normalise many short rows is slow.
        result = logits.T.contiguous().softmax(0).cpu().numpy().T
        return np.split(result, np.cumsum([len(index) for index in indices])[:-1])

    @torch.inference_mode()
    def _vectors(self, batch: Sequence[BagInput], background: Background | None) -> list[np.ndarray]:
        with self._autocast():
            return list(self.network.cell_embedding(self._bags(batch), background).float().cpu().numpy())

    def _token_indices(self, batch: Sequence[BagInput]) -> list[np.ndarray]:
        """Return the token index of each bag, counted through the batch and the genes that the network reads."""
        n_all, n_genes = batch[0].tokens.shape[1], self.network.n_genes
        column = np.arange(n_all)
        if self.gene_index is not None:
            column = np.full(n_all, -1)
            column[self.gene_index] = np.arange(n_genes)
        first, result = 0, []
        for bag in batch:
            cell, gene = np.divmod(bag.token_index, n_all)
            if (column[gene] < 0).any():
                msg = "token_index names genes that are not in gene_index; add them to gene_index."
                raise ValueError(msg)
            result.append(first + cell * n_genes + column[gene])
            first += len(bag.tokens) * n_genes
        return result

    def _bags(self, batch: Sequence[BagInput]) -> Bags:
        coordinates = in_background = None
        if self.checkpoint.config.reads_coordinates:
            stacked = np.stack([bag.coordinates for bag in batch]).astype(np.float32)
            coordinates = torch.from_numpy(stacked).to(self.device)
        if batch[0].in_background is not None:
            in_background = torch.from_numpy(np.stack([bag.in_background for bag in batch])).to(self.device)
        return Bags(self._on_device(np.stack([bag.tokens for bag in batch])), coordinates, in_background)

    def _on_device(self, tokens: np.ndarray) -> Tensor:
        if self.gene_index is not None:
            tokens = np.take(tokens, self.gene_index, axis=-1)
        return torch.from_numpy(tokens).to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
