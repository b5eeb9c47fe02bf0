"""Masked pretraining from files to a checkpoint folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scanpy_sct.checkpoints.checkpoint import Checkpoint, TokenSettings
from scanpy_sct.checkpoints.folder import check_replaceable, save_checkpoint
from scanpy_sct.model import CompactNetwork
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.train.census import CensusCells
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset
from scanpy_sct.train.loop import Pretraining
from scanpy_sct.train.sources import Source, open_sources
from scanpy_sct.train.state import check_same_run
from scanpy_sct.train.stream import sample_blocks
from scanpy_sct.train.vocabulary import (
    coexpression_order,
    coexpression_vectors,
    level_frequencies,
    mean_expression,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.npz"
PRECISIONS = ("32-true", "bf16-mixed")
MAY_CHANGE = {"name", "steps", "learning_rate", "warmup_steps", "gradient_clip", "report_every", "checkpoint_minutes"}
"""Settings with which a run may be continued that differ from those of its start."""
MAX_SAMPLED_CELLS = 30_000
"""Cells on which the order of the genes and their frequencies rest."""


def pretrain(
    data: Sequence[str | PathLike[str] | CensusCells],
    config: PretrainConfig | None = None,
    output: str | PathLike[str] = "sct-checkpoint",
    *,
    vocabulary: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "32-true",
    devices: int | str = 1,
    strategy: str = "auto",
    num_nodes: int = 1,
    license: str = "unknown",
) -> Path:
    """Train a network by predicting hidden entries of single cells and sections.

    Files are read block by block, in an order that follows from the seed: memory does not grow with them. Every few
    minutes the state is written to the folder `<output>.training`; the same call continues from there, and comes to the
    same weights as a run that was never stopped. Beside it stands the log (`log.csv`, and for TensorBoard where that is
    installed), with held-out cells judged beside simple baselines.

    Parameters
    ----------
    data
        h5ad or zarr files of counts, Ensembl ids or symbols, stored by cells. Bags stay within `obs["sample"]` where a
        file has it, and gather neighbours on the tissue where a file has `obsm["spatial"]`, else cells of similar
        expression. Genes that a file lacks are unmeasured in it. Parts of CELLxGENE Census, as
        :class:`scanpy_sct.train.CensusCells`, may stand among them.
    config
        Network and recipe.
    output
        Folder of the checkpoint.
    vocabulary
        Ensembl ids of the genes the network shall know, which are put in the order that `config.gene_order` names. By
        default the 19,937 protein-coding genes of the released network.
    device, precision, devices, strategy, num_nodes
        As Lightning Fabric's `accelerator`, `precision` ("32-true" or "bf16-mixed"), `devices`, `strategy` and
        `num_nodes`. Several processes share
        the bags of each step: the result is that of one process, but for rounding. Under `torchrun` or SLURM leave
        `devices` at what each node has.
    license
        Licence of the weights, for the checkpoint.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError
        If `data` is empty or cannot be read, `config.bags_per_step` cannot be divided among the processes, or the
        folder of the state holds a run with other data or settings.
    FloatingPointError
        If the loss or a gradient becomes NaN or infinite, or the loss on held-out cells doubles; the state of the last
        good report is what the same call then continues from.
    """
    config, folder = config or PretrainConfig(), Path(output)
    if not data:
        msg = "data is empty; give at least one h5ad or zarr file."
        raise ValueError(msg)
    check_replaceable(folder)
    _check_possible(config, precision)
    fabric = _launched(device, precision, devices, strategy, num_nodes, config)
    training = folder.with_name(folder.name + ".training")
    training.mkdir(parents=True, exist_ok=True)
    _check_run(training, data, config, vocabulary, fabric)

    genes, vectors = _order_genes(data, config, training, vocabulary, fabric)
    sources = open_sources(data, genes)
    held_out = hold_out(sources, config)
    rules = token_rules(genes, config)
    network = _new_network(config, sample_cells(sources, held_out, config), rules, vectors)
    Pretraining(fabric, network, sources, held_out, rules, config, training).fit()
    if fabric.is_global_zero:
        _save(folder, config, genes, rules, network, license)
    fabric.barrier()
    return folder


def _save(
    folder: Path, config: PretrainConfig, genes: np.ndarray, rules: TokenRules, network: CompactNetwork, license: str
) -> None:
    checkpoint = Checkpoint(
        name=config.name,
        config=config.network,
        tokens=TokenSettings(n_bins=rules.n_bins, binning=rules.binning),
        mask_fraction=config.mask_fraction,
        genes=genes,
        network=network.cpu().eval(),
        embedding="cell" if config.network.cell_dim else "transformer",
        path="full" if config.network.convolutions else "direct",
        license=license,
    )
    save_checkpoint(folder, checkpoint, dtype="float16")


def _check_possible(config: PretrainConfig, precision: str) -> None:
    if precision not in PRECISIONS:
        msg = f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}."
        raise ValueError(msg)
    if config.network.use_spatial_information:
        msg = (
            "config.network.use_spatial_information=True needs coordinates of every cell, which files of single cells "
            "lack; pretrain without it."
        )
        raise ValueError(msg)


def _check_run(
    training: Path,
    data: Sequence[str | PathLike[str] | CensusCells],
    config: PretrainConfig,
    vocabulary: Sequence[str] | None,
    fabric: Fabric,
) -> None:
    """Refuse to continue a run with other data or settings; those that steer the way of a run may change."""
    if fabric.is_global_zero:
        facts = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
        facts["data"] = [str(item) if isinstance(item, CensusCells) else Path(item).name for item in data]
        if vocabulary is not None:
            genes = vocabulary if config.gene_order == "given" else sorted(vocabulary)
            vocabulary = sha256("\n".join(genes).encode()).hexdigest()
        facts["vocabulary"] = vocabulary
        check_same_run(training, facts)
    fabric.barrier()


def _launched(
    device: str, precision: str, devices: int | str, strategy: str, num_nodes: int, config: PretrainConfig
) -> Fabric:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        msg = 'Training needs lightning-fabric: pip install "scanpy_sct[train]"'
        raise ImportError(msg) from error
    several = devices not in (1, "1") or num_nodes > 1
    # Steps without the convolutional path leave its weights without gradients.
    ours = DDPStrategy(find_unused_parameters=True)
    chosen = ours if strategy == "ddp" or (strategy == "auto" and several) else strategy
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=num_nodes, strategy=chosen, precision=precision)
    fabric.launch()
    check_shareable(config.bags_per_step, fabric.world_size)
    return fabric


def check_shareable(bags_per_step: int, n_processes: int) -> None:
    """Refuse a number of bags that processes cannot share evenly."""
    if bags_per_step % n_processes:
        msg = (
            f"bags_per_step={bags_per_step} cannot be divided among {n_processes} processes; "
            f"take a multiple of {n_processes}."
        )
        raise ValueError(msg)


def hold_out(sources: Sequence[Source], config: PretrainConfig) -> list[np.ndarray]:
    """Draw the cells of each source that are never trained on, (n_cells,) bool; at least one in all."""
    drawn = [
        np.random.default_rng([config.seed, 8, number]).random(len(source.samples)) < config.validation_share
        for number, source in enumerate(sources)
    ]
    if not any(mask.any() for mask in drawn):
        next((mask for mask in drawn if len(mask)), np.zeros(1))[0] = True
    if all(mask.all() for mask in drawn):
        msg = "data has no cell to train on beside those held out; give more cells, or a smaller validation_share."
        raise ValueError(msg)
    return drawn


def token_rules(genes: np.ndarray, config: PretrainConfig) -> TokenRules:
    """Token rules of a network trained here: unmeasured genes are masked."""
    network = config.network
    return TokenRules(
        genes, mask=network.mask_token_id, pad=network.pad_token_id, n_bins=network.num_bins - 1, binning=config.binning
    )


def sample_cells(sources: Sequence[Source], held_out: Sequence[np.ndarray], config: PretrainConfig) -> list[Dataset]:
    """Read some blocks, all of them where the data are small."""
    return sample_blocks(sources, held_out, config.block_size, MAX_SAMPLED_CELLS, config.seed)


def _order_genes(
    data: Sequence[str | PathLike[str] | CensusCells],
    config: PretrainConfig,
    folder: Path,
    vocabulary: Sequence[str] | None,
    fabric: Fabric,
) -> tuple[np.ndarray, np.ndarray]:
    """Genes in their order, padded, and the vectors of their co-expression; kept for the next start."""
    file = folder / VOCABULARY_FILE
    if fabric.is_global_zero and not file.exists():
        unordered = pd.unique(pd.Series(released_vocabulary() if vocabulary is None else vocabulary, dtype=str))
        unordered = np.asarray(unordered[unordered != ""], dtype=str)
        if config.gene_order != "given":
            unordered = np.sort(unordered)
        padding = -len(unordered) % 2**config.network.num_downsamples
        unordered = np.concatenate([unordered, np.full(padding, "", dtype=unordered.dtype)])
        sources = open_sources(data, unordered)
        cells = sample_cells(sources, hold_out(sources, config), config)
        vectors = coexpression_vectors(cells, max(config.network.cell_dim, 32), config.seed)
        n_genes = len(unordered) - padding
        order = np.arange(len(unordered))
        if config.gene_order == "coexpression":
            order[:n_genes] = coexpression_order(vectors[:n_genes])
        elif config.gene_order == "mean":
            order[:n_genes] = np.argsort(-mean_expression(cells)[:n_genes], kind="stable")
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, genes=unordered[order], vectors=vectors[order])
        partial.replace(file)
    fabric.barrier()
    stored = np.load(file)
    return stored["genes"], stored["vectors"]


def _new_network(
    config: PretrainConfig, cells: Sequence[Dataset], rules: TokenRules, vectors: np.ndarray
) -> CompactNetwork:
    """Make a network that starts from what is known without training: gene frequencies, and co-expression."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = CompactNetwork(config.network, len(rules.vocabulary))
    if not config.network.context:
        return network
    with torch.no_grad():
        network.profile.log_prior.copy_(torch.from_numpy(np.log(level_frequencies(cells, rules))))
        if network.config.cell_dim:
            directions = vectors[:, : network.config.cell_dim]
            scale = np.sqrt((directions**2).mean(0, keepdims=True)) + 1e-12
            network.cell_path.gene_table.copy_(torch.from_numpy(directions / scale))
    return network
