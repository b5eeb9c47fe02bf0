"""Bags through the network, a batch at a time; results leave the device at every step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.run.device import choose_device, choose_precision

logger = logging.getLogger(__name__)

GPU_BYTES_PER_TOKEN = 6_000
"""Device memory to reckon with for each token of a bag in the released network, bfloat16."""
MAX_AUTO_BATCH = 16


@dataclass(frozen=True)
class BagInput:
    """One bag, ready for the network."""

    rows: np.ndarray
    """Rows of its targets in the data."""
    tokens: np.ndarray
    """(cells, positions) uint8; the targets come first."""
    values: np.ndarray
    """(cells, n_bins): what each bin is worth in each cell."""
    wanted: np.ndarray
    """Places of the flattened tokens at which a prediction is wanted."""
    coordinates: np.ndarray | None = None


class Runner:
    """A network on a device.

    Parameters
    ----------
    checkpoint
        The network, which is moved to the device.
    device, precision, batch_size
        As the public verbs take them.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto", batch_size: int | str = "auto"
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.checkpoint = checkpoint
        self.network = checkpoint.network.to(self.device).eval()
        if batch_size != "auto" and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
            msg = f"batch_size={batch_size!r} must be a positive whole number or 'auto'."
            raise ValueError(msg)
        self.batch_size = self._auto_batch_size() if batch_size == "auto" else batch_size
        self.cell_weight = 1.0

    def _auto_batch_size(self) -> int:
        # On a processor a single bag fills the machine; more at once would only take memory.
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        tokens = self.checkpoint.config.num_cells * self.network.n_genes
        return int(np.clip(free // (tokens * GPU_BYTES_PER_TOKEN), 1, MAX_AUTO_BATCH))

    def probabilities(self, bags: Iterable[BagInput], path: str) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with the probabilities of the levels at its wanted places, (places, levels) float32."""
        for batch in self._batches(bags):
            yield from zip(batch, self._halving(lambda part: self._probabilities(part, path), batch), strict=True)

    def cell_vectors(self, bags: Iterable[BagInput], source: str) -> Iterator[tuple[BagInput, np.ndarray]]:
        """Yield each bag with one vector per cell, (cells, dimensions) float32."""
        for batch in self._batches(bags):
            yield from zip(batch, self._halving(lambda part: self._vectors(part, source), batch), strict=True)

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

    def _halving(self, compute, batch: Sequence[BagInput]) -> list[np.ndarray]:
        try:
            return compute(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        logger.warning("Out of memory on %s: going on with %d bags at once.", self.device, self.batch_size)
        return self._halving(compute, batch[:half]) + self._halving(compute, batch[half:])

    @torch.inference_mode()
    def _run(self, batch: Sequence[BagInput], **options: object) -> dict:
        tokens = torch.from_numpy(np.stack([bag.tokens.ravel() for bag in batch])).to(self.device)
        coordinates = None
        if self.checkpoint.config.use_spatial_information:
            stacked = np.stack([bag.coordinates for bag in batch]).astype(np.float32)
            coordinates = torch.from_numpy(stacked).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(tokens, coordinates, cell_weight=self.cell_weight, **options)

    def _probabilities(self, batch: Sequence[BagInput], path: str) -> list[np.ndarray]:
        size = batch[0].tokens.size
        places = np.concatenate([number * size + bag.wanted for number, bag in enumerate(batch)])
        positions = torch.from_numpy(places).to(self.device)
        name = "logits" if path == "full" else "direct_logits"
        logits = self._run(batch, outputs={name}, positions=positions)[name]
        levels = logits[:, : self.checkpoint.config.num_bins].float() / self.checkpoint.temperature
        result = levels.softmax(-1).cpu().numpy()
        return np.split(result, np.cumsum([len(bag.wanted) for bag in batch])[:-1])

    def _vectors(self, batch: Sequence[BagInput], source: str) -> list[np.ndarray]:
        n_cells = len(batch[0].tokens)
        if source == "cell":
            vectors = self._run(batch, outputs={"cell_embedding"})["cell_embedding"]
        else:
            output = self._run(batch, outputs={"transformer_out"})["transformer_out"]
            vectors = output.float().unflatten(1, (n_cells, -1)).mean(2)
        return list(vectors.float().cpu().numpy())
