"""Masked pretraining from files to a checkpoint folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from scanpy_sct.checkpoints.checkpoint import Checkpoint, TokenSettings
from scanpy_sct.checkpoints.folder import check_replaceable, save_checkpoint
from scanpy_sct.model import CompactConfig
from scanpy_sct.train.card import model_card
from scanpy_sct.train.census import CensusCells
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.finish import check_enough_cells, finish_checkpoint
from scanpy_sct.train.held_out import HeldOut, held_out_bags
from scanpy_sct.train.loop import Pretraining
from scanpy_sct.train.optimise import make_fabric
from scanpy_sct.train.sources import open_sources
from scanpy_sct.train.start import Start, find_start, hold_out, new_network, token_rules
from scanpy_sct.train.state import check_same_run, last_report

if TYPE_CHECKING:
    from lightning_fabric import Fabric

START_FILE = "start.npz"
PRECISIONS = ("32-true", "bf16-mixed")
MAY_CHANGE = {"name", "steps", "learning_rate", "warmup_steps", "gradient_clip", "report_every", "checkpoint_minutes"}
MAY_CHANGE |= {"prior_cells", "whitening"}
"""Settings that may change when a run is continued."""


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
    """Train a network by predicting masked entries of single cells and sections.

    Files are read block by block, in an order that depends on the seed only: memory does not grow with them. The state
    is saved every few minutes to the folder `<output>.training`; the same call continues from there, and gives the same
    weights as an uninterrupted run. The log in that folder (`log.csv`, and TensorBoard if it is installed) compares the
    network with simple baselines on held-out cells.

    After training, a compact network gets a bag correction and a whitened embedding (`config.prior_cells`,
    `config.whitening`). The folder has a model card with data and settings.

    Parameters
    ----------
    data
        h5ad or zarr files of counts, stored by cells, with Ensembl ids or symbols; or parts of CELLxGENE Census, as
        :class:`scanpy_sct.train.CensusCells`. Bags stay within `obs["sample"]` if a file has it, and gather neighbours
        on the tissue if it has `obsm["spatial"]`, else cells of similar expression. Genes that a file lacks are
        unmeasured in it.
    config
        Network and settings; by default the recipe of `sct-mini`.
    output
        Folder of the checkpoint.
    vocabulary
        Ensembl ids of the genes of the network, in any order. By default the 19,937 protein-coding genes of the
        released network.
    device
        As Lightning Fabric's `accelerator`.
    precision
        As in Lightning Fabric: "32-true" or "bf16-mixed".
    devices
        As in Lightning Fabric; with `torchrun` or SLURM, the number per node. Several processes divide the bags of each
        step, with the result of one process except for rounding.
    strategy, num_nodes
        As in Lightning Fabric.
    license
        Licence of the weights, for the checkpoint.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError
        If `data` is empty or cannot be read, `config.bags_per_step` cannot be divided among the processes, or the
        state folder belongs to a run with other data or settings.
    FloatingPointError
        If the loss or a gradient becomes NaN or infinite, or the loss on held-out cells doubles; the same call then
        continues from the state of the last good report.
    """
    config, folder = config or PretrainConfig(), Path(output)
    if not data:
        msg = "data is empty; give at least one h5ad or zarr file."
        raise ValueError(msg)
    check_replaceable(folder)
    _check_possible(config, precision)
    fabric = make_fabric(
        accelerator=device, devices=devices, num_nodes=num_nodes, strategy=strategy, precision=precision
    )
    fabric.launch()
    check_divisible(config.bags_per_step, fabric.world_size)
    training = folder.with_name(folder.name + ".training")
    training.mkdir(parents=True, exist_ok=True)

    start = _start(training, data, config, vocabulary, fabric)
    sources, rules = open_sources(data, start.genes), token_rules(start.genes, config)
    check_enough_cells(sources, config)
    held_out = hold_out(sources, config)
    network, test = new_network(start, config), None
    if fabric.is_global_zero:
        test = HeldOut(held_out_bags(sources, held_out, rules, config), start.detection_rates)
    Pretraining(fabric, network, sources, held_out, rules, config, training).fit(test)
    if fabric.is_global_zero:
        trained = Checkpoint(
            name=config.name,
            network=network.cpu().eval(),
            tokens=TokenSettings(binning=config.binning),
            mask_fraction=config.mask_fraction,
            genes=start.genes,
            license=license,
        )
        checkpoint = finish_checkpoint(trained, sources, config, fabric.device.type)
        card = model_card(checkpoint, sources, config, last_report(training))
        save_checkpoint(folder, checkpoint, dtype="float16", readme=card)
    fabric.barrier()
    return folder


def check_divisible(bags_per_step: int, n_processes: int) -> None:
    """Raise a ValueError if the bags of a step cannot be divided evenly among processes."""
    if bags_per_step % n_processes:
        msg = (
            f"bags_per_step={bags_per_step} cannot be divided among {n_processes} processes; "
            f"use a multiple of {n_processes}."
        )
        raise ValueError(msg)


def _check_possible(config: PretrainConfig, precision: str) -> None:
    if precision not in PRECISIONS:
        msg = f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}."
        raise ValueError(msg)
    if config.network.reads_coordinates:
        msg = (
            "config.network reads coordinates, which files of single cells lack; pretrain without them, then use "
            "sct.train.finetune(config=FinetuneConfig(spatial=True))."
        )
        raise ValueError(msg)


def _start(
    training: Path,
    data: Sequence[str | PathLike[str] | CensusCells],
    config: PretrainConfig,
    vocabulary: Sequence[str] | None,
    fabric: Fabric,
) -> Start:
    """Compute the start of the network once for all processes and restarts; refuse the folder of another run."""
    file = training / START_FILE
    if fabric.is_global_zero:
        facts = {"architecture": "compact" if isinstance(config.network, CompactConfig) else "released"}
        facts |= {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
        facts["data"] = [str(item) if isinstance(item, CensusCells) else Path(item).name for item in data]
        listed = None if vocabulary is None else "\n".join(sorted(vocabulary))
        facts["vocabulary"] = None if listed is None else sha256(listed.encode()).hexdigest()
        check_same_run(training, facts)
        if not file.exists():
            find_start(data, config, vocabulary).save(file)
    fabric.barrier()
    return Start.load(file)
