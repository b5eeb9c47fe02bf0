"""Last steps of a compact checkpoint, without training: bag correction and whitening of the embedding."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.model import CompactConfig
from scanpy_sct.model.network import make_network
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.sources import Source

logger = logging.getLogger(__name__)

CELLS_PER_SOURCE = 400
"""Cells of each source from which the whitening is estimated."""
CELLS_PER_RUN = 20
"""Consecutive cells that are read together for it."""
CELLS_PER_DIMENSION = 2
"""Fewest cells per dimension of the embedding from which the whitening can be estimated."""
SMALLEST_VARIANCE = 1e-6
"""Fraction of the largest variance; smaller variances are rounding errors and are clipped."""


def finish_checkpoint(
    checkpoint: Checkpoint, sources: Sequence[Source], config: PretrainConfig, device: str = "auto"
) -> Checkpoint:
    """Add a bag correction to a pretrained compact network and whiten its embedding; return others unchanged."""
    if not isinstance(checkpoint.config, CompactConfig):
        return checkpoint
    if config.prior_cells is not None and not checkpoint.config.bag_correction:
        checkpoint = with_bag_correction(checkpoint, config.prior_cells)
    if config.whitening:
        checkpoint = with_whitened_embedding(checkpoint, sources, config, device)
    return checkpoint


def check_enough_cells(sources: Sequence[Source], config: PretrainConfig) -> None:
    """Raise a ValueError before training if there are too few cells to whiten the embedding after it."""
    if not isinstance(config.network, CompactConfig) or not config.whitening:
        return
    n_cells = sum(min(len(source.samples), CELLS_PER_SOURCE) for source in sources)
    n_needed = CELLS_PER_DIMENSION * config.network.cell_dim
    if n_cells < n_needed:
        msg = (
            f"data has {n_cells} cells to whiten an embedding of {config.network.cell_dim} dimensions (at most "
            f"{CELLS_PER_SOURCE} per file are used), and {n_needed} are needed; give more cells, or whitening=0."
        )
        raise ValueError(msg)


def with_bag_correction(checkpoint: Checkpoint, prior_cells: float) -> Checkpoint:
    """Add the bag correction, shrunk by ``prior_cells`` expected cells, to a network that was trained without it."""
    config = replace(checkpoint.config, bag_correction=True)
    with torch.random.fork_rng(devices=[]):
        network = make_network(config, checkpoint.network.n_genes)
    weights = network.state_dict() | checkpoint.network.state_dict()
    weights["correction.log_prior_cells"] = torch.tensor(math.log(prior_cells))
    network.load_state_dict(weights)
    return replace(checkpoint, network=network.eval())


def with_whitened_embedding(
    checkpoint: Checkpoint, sources: Sequence[Source], config: PretrainConfig, device: str = "auto"
) -> Checkpoint:
    """Whiten the cell embedding, so that no few directions dominate the distances between cells.

    The directions of largest variance serve the predictions of the network, and need not separate cell types. The
    embedding is multiplied by ``C ** (-whitening / 2)``, where C is its covariance over cells of the sources, which are
    weighted equally (ZCA whitening at 1: Bell and Sejnowski, Vision Research 1997). The same matrix is used for all
    cells, so that embeddings of different objects are comparable; the layer that reads the embedding is multiplied by
    the inverse, so that predictions do not change.
    """
    dim = checkpoint.config.cell_dim
    options = ComputeOptions(bags="random", device=device, seed=config.seed)
    blocks = [_some_cells(source, np.random.default_rng([config.seed, 9, n])) for n, source in enumerate(sources)]
    n_cells = sum(block.n_cells for block in blocks)
    if n_cells < CELLS_PER_DIMENSION * dim:
        logger.warning(
            "The embedding is not whitened: %d cells are too few for %d dimensions; use more cells.", n_cells, dim
        )
        return checkpoint
    vectors = [embed_cells(checkpoint, block, options) for block in blocks if block.n_cells]
    return rescaled(checkpoint, whitening_matrix(vectors, config.whitening))


def whitening_matrix(vectors: Sequence[np.ndarray], power: float) -> np.ndarray:
    """Return the symmetric whitening matrix (dim, dim) of embeddings of several sources, weighted equally."""
    mean = np.mean([each.mean(0, dtype=np.float64) for each in vectors], axis=0)
    moments = np.mean([(each - mean).T @ (each - mean) / len(each) for each in vectors], axis=0)
    variances, directions = np.linalg.eigh(moments)
    variances = variances.clip(SMALLEST_VARIANCE * variances.max())
    return directions * variances ** (-power / 2) @ directions.T


def rescaled(checkpoint: Checkpoint, matrix: np.ndarray) -> Checkpoint:
    """Return a copy whose embedding is multiplied by ``matrix``, and the layer that reads it by the inverse."""
    network = copy.deepcopy(checkpoint.network).cpu()
    forth, back = torch.from_numpy(matrix), torch.from_numpy(np.linalg.inv(matrix))
    with torch.no_grad():
        factors = network.embedder.gene_factors
        factors.copy_(factors.double() @ forth)
        # That layer reads the embedding, its deviation from the mean of the bag, and the depth.
        for first in (0, len(forth)):
            columns = network.cell_transformer.input.weight[:, first : first + len(forth)]
            columns.copy_(columns.double() @ back)
    return replace(checkpoint, network=network)


def _some_cells(source: Source, rng: np.random.Generator) -> CellBlock:
    """Read cells with counts from random short runs of a source, as cells of one sample."""
    n_cells = len(source.samples)
    starts = np.arange(0, n_cells, CELLS_PER_RUN)
    drawn = np.sort(rng.permutation(starts)[: CELLS_PER_SOURCE // CELLS_PER_RUN])
    log_counts = sparse.vstack([source.read(start, min(start + CELLS_PER_RUN, n_cells)) for start in drawn]).tocsr()
    log_counts = log_counts[np.diff(log_counts.indptr) > 0]
    n_kept = log_counts.shape[0]
    return CellBlock(
        rows=np.arange(n_kept),
        log_values=log_counts,
        token_values=log_counts,
        measured=source.measured,
        samples=np.zeros(n_kept, dtype=int),
        coordinates=None,
        name_hashes=np.arange(n_kept, dtype=np.uint64),
    )
