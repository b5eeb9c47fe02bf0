"""Masked pretraining from files to a checkpoint folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from scanpy_sct.checkpoints.checkpoint import Checkpoint, TokenSettings
from scanpy_sct.checkpoints.folder import check_replaceable, save_checkpoint
from scanpy_sct.model import Sct
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.data import Dataset, read_datasets
from scanpy_sct.train.loop import train
from scanpy_sct.train.vocabulary import coexpression_order, coexpression_vectors, level_frequencies

logger = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.npz"
MIN_GENE_SCALE = 0.2


def pretrain(
    data: Sequence[str | PathLike[str]],
    config: PretrainConfig | None = None,
    output: str | PathLike[str] = "sct-checkpoint",
    *,
    vocabulary: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "32-true",
    license: str = "unknown",
) -> Path:
    """Train a network by predicting hidden entries of single cells and sections.

    Parameters
    ----------
    data
        h5ad files of counts, Ensembl ids or symbols. Bags stay within `obs["sample"]` where a file has it, and gather
        neighbours on the tissue where a file has `obsm["spatial"]`, else cells of similar expression.
    config
        Network and recipe.
    output
        Folder of the checkpoint. The folder `<output>.training` beside it keeps log and state: the same call continues
        a run that was stopped.
    vocabulary
        Ensembl ids of the genes the network shall know, in any order: they are put in the order of their co-expression
        in `data`. By default the 19,937 protein-coding genes of the released network.
    device, precision
        As Lightning Fabric's `accelerator` and `precision`.
    license
        Licence of the weights, for the checkpoint.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError
        If `data` is empty.
    FloatingPointError
        If the loss becomes NaN or infinite; the last good state is kept.
    """
    from lightning_fabric import Fabric

    config = config or PretrainConfig()
    if not data:
        msg = "data is empty; give at least one h5ad file."
        raise ValueError(msg)
    folder = Path(output)
    check_replaceable(folder)
    training = folder.with_name(folder.name + ".training")
    training.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    fabric.seed_everything(config.seed, verbose=False)

    files = [Path(file) for file in data]
    genes, vectors = _order_genes(files, config, training, vocabulary)
    datasets = read_datasets(files, genes, validation_share=config.validation_share, seed=config.seed)
    rules = token_rules(genes, config)
    network = Sct(config.network, len(genes))
    if config.network.context:
        _initialise(network, datasets, rules, vectors)
    train(fabric, network, datasets, rules, config, training)
    checkpoint = Checkpoint(
        name=config.name,
        config=config.network,
        tokens=TokenSettings(n_bins=rules.n_bins),
        mask_fraction=config.mask_fraction,
        genes=genes,
        network=network.cpu().eval(),
        embedding="cell" if config.network.cell_dim else "transformer",
        license=license,
    )
    return save_checkpoint(folder, checkpoint, dtype="float16")


def token_rules(genes: np.ndarray, config: PretrainConfig) -> TokenRules:
    """Token rules of a network trained here: bins of equal width, unmeasured genes masked."""
    network = config.network
    return TokenRules(genes, mask=network.mask_token_id, pad=network.pad_token_id, n_bins=network.num_bins - 1)


def _order_genes(
    files: Sequence[Path], config: PretrainConfig, folder: Path, vocabulary: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Genes in their order of co-expression, padded, and the vectors behind that order; kept for the next start."""
    file = folder / VOCABULARY_FILE
    if file.exists():
        stored = np.load(file)
        return stored["genes"], stored["vectors"]
    unordered = np.unique(released_vocabulary() if vocabulary is None else np.asarray(vocabulary, dtype=str))
    unordered = unordered[unordered != ""]
    padding = -len(unordered) % 2**config.network.num_downsamples
    unordered = np.concatenate([unordered, np.full(padding, "", dtype=unordered.dtype)])
    datasets = read_datasets(files, unordered, validation_share=config.validation_share, seed=config.seed)
    vectors = coexpression_vectors(datasets, max(config.network.cell_dim, 32), config.seed)
    n_genes = len(unordered) - padding
    order = np.concatenate([coexpression_order(vectors[:n_genes]), np.arange(n_genes, len(unordered))])
    genes, vectors = unordered[order], vectors[order]
    np.savez(file, genes=genes, vectors=vectors)
    return genes, vectors


def _initialise(network: Sct, datasets: Sequence[Dataset], rules: TokenRules, vectors: np.ndarray) -> None:
    """Start from what is known without training: gene frequencies, and directions of co-expression."""
    with torch.no_grad():
        network.profile.log_prior.copy_(torch.from_numpy(np.log(level_frequencies(datasets, rules))))
        if network.config.cell_dim:
            directions = vectors[:, : network.config.cell_dim]
            scale = np.sqrt((directions**2).mean(0, keepdims=True)) + 1e-12
            network.cell_path.gene_table.copy_(torch.from_numpy(directions / scale))
