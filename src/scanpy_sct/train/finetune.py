"""Continue the training of a checkpoint on your own data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.checkpoints.folder import check_replaceable, read_checkpoint, save_checkpoint
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.files import check_input, read_cells
from scanpy_sct.model import CompactNetwork, ReleasedNetwork, make_network
from scanpy_sct.model.compact import BY_GENE
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.device import choose_device
from scanpy_sct.run.inputs import genes_to_read, network_coordinates, token_rules
from scanpy_sct.run.options import as_seed
from scanpy_sct.train.config import FinetuneConfig
from scanpy_sct.train.data import Dataset, as_dataset
from scanpy_sct.train.optimise import make_fabric
from scanpy_sct.train.tuning import Tuning
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from lightning_fabric import Fabric

MIN_CELLS = 10


def finetune(
    model: str | PathLike[str] | Checkpoint,
    data: AnnData | str | PathLike[str] | Sequence[AnnData | str | PathLike[str]],
    config: FinetuneConfig | None = None,
    output: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    hide: str | np.ndarray | sparse.spmatrix | None = None,
    device: str = "auto",
    precision: str = "32-true",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Continue the training of a checkpoint on your own data, by predicting masked entries.

    A fraction of the cells is held out, and the weights that predict them best are returned: those of the model, if
    training improves nothing. In a compact network, the parts that describe cells are trained on the measured genes,
    which takes about a minute on one core and does not improve predictions of unmeasured genes. In a released network,
    all weights are trained, which needs a GPU in practice.

    With `config.spatial` the network also learns to read coordinates. They are scaled: 1 is the median distance of the
    cells of a sample to their nearest neighbour, and 0 the middle of a sample; the checkpoint records this as
    `coordinates="spacing"`. A network that already reads coordinates keeps its scale.

    Parameters
    ----------
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`. It is not changed.
    data
        Cells x genes: counts, or log-normalised values. An AnnData, an h5ad or zarr file, or several of them.
    config
        Training settings; by default :class:`scanpy_sct.train.FinetuneConfig`.
    output
        Folder in which the result is also saved.
    layer, library_key, gene_names, scale
        As in :func:`scanpy_sct.tl.impute`, the same for all data.
    hide
        Entries without any influence, as in :func:`scanpy_sct.tl.impute`: they are removed when the data are read, and
        are neither visible nor predicted. For a single object only.
    device
        As in :func:`scanpy_sct.tl.impute`.
    precision
        As Lightning Fabric's `precision`.
    rng
        Seed: the same seed gives the same weights on the same machine, unless `config.minutes` is reached.

    Returns
    -------
    The new checkpoint, named `<model>-finetuned`. It has no label head, since the embedding, by which a head finds new
    cells, has changed; fit a new one with :func:`scanpy_sct.train.fit_label_head`.

    Raises
    ------
    ValueError, KeyError, TypeError
        If an argument or the data are invalid; before anything is computed.
    FloatingPointError
        If the loss or a gradient becomes NaN or infinite.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> model = sct.train.finetune("sct-mini", adata, sct.train.FinetuneConfig(steps=100))  # doctest: +SKIP
    >>> sct.tl.impute(adata, model=model)  # doctest: +SKIP
    """
    config, seed = config or FinetuneConfig(), as_seed(rng)
    if output is not None:
        check_replaceable(output)
    objects = _as_objects(data, hide)
    given = load_model(model)
    _check_possible(given, config)
    target = choose_device(device)
    devices = 1 if target.index is None or target.type == "cpu" else [target.index]
    fabric = make_fabric(accelerator=target.type, devices=devices, precision=precision)
    network = _reading_coordinates(given) if config.spatial else copy.deepcopy(given.network)
    is_new = network.config.reads_coordinates and not given.config.reads_coordinates
    checkpoint = replace(
        given,
        network=network,
        coordinates="spacing" if is_new else given.coordinates,
        name=f"{given.name}-finetuned",
        label_head=None,
        revision=None,
        sha256="",
    )
    options = ReadOptions(layer=layer, library_key=library_key, gene_names=gene_names, hide=hide, scale=scale)
    blocks = [_read(checkpoint, item, options, spatial=config.spatial) for item in objects]
    datasets = [_hold_out(block, number, config, seed) for number, block in enumerate(blocks)]
    _train(fabric, checkpoint, datasets, config, seed)
    checkpoint.network.cpu().eval()
    if output is None:
        return checkpoint
    return read_checkpoint(save_checkpoint(output, checkpoint))


def _as_objects(data: object, hide: object) -> list[Any]:
    objects = list(data) if isinstance(data, Iterable) and not isinstance(data, str) else [data]
    if not objects:
        msg = "data is empty; give at least one AnnData or file."
        raise ValueError(msg)
    if hide is not None and len(objects) > 1:
        msg = f"hide is for a single object, and data has {len(objects)}; remove the entries beforehand."
        raise ValueError(msg)
    for number, item in enumerate(objects):
        if isinstance(item, str | PathLike):
            check_input(Path(item))
        else:
            check_is_anndata(item, f"data[{number}]" if len(objects) > 1 else "data")
    return objects


def _check_possible(given: Checkpoint, config: FinetuneConfig) -> None:
    if config.thin_fraction and given.tokens.scale != "log1p_counts":
        msg = (
            f"thin_fraction={config.thin_fraction} needs a model that bins counts; {given.name!r} bins "
            f"{given.tokens.scale}. Use thin_fraction=0."
        )
        raise ValueError(msg)


def _reading_coordinates(given: Checkpoint) -> CompactNetwork | ReleasedNetwork:
    """Return a copy of the network that reads coordinates, initially without effect."""
    if given.config.reads_coordinates:
        return copy.deepcopy(given.network)
    name = "reads_coordinates" if isinstance(given.network, CompactNetwork) else "use_spatial_information"
    with torch.random.fork_rng(devices=[]):
        network = make_network(replace(given.config, **{name: True}), given.network.n_genes).eval()
    found = network.load_state_dict(given.network.state_dict(), strict=False)
    with torch.no_grad():
        for name in found.missing_keys:
            network.get_parameter(name).zero_()
    return network


def _read(checkpoint: Checkpoint, item: object, options: ReadOptions, *, spatial: bool) -> CellBlock:
    """Read all cells of an object or file."""
    adata = read_cells(Path(item)) if isinstance(item, str | PathLike) else item
    _, reader = open_cells(adata, checkpoint, options)
    if spatial and reader.coordinates is None:
        msg = "config.spatial=True needs coordinates in .obsm['spatial'], which data lacks; use spatial=False."
        raise ValueError(msg)
    if reader.n_cells < MIN_CELLS:
        msg = f"data has an object of {reader.n_cells} cells; at least {MIN_CELLS} are needed."
        raise ValueError(msg)
    coordinates = network_coordinates(checkpoint, reader.coordinates, reader.samples)
    return replace(reader.block(), coordinates=coordinates)


def _hold_out(block: CellBlock, number: int, config: FinetuneConfig, seed: int) -> Dataset:
    n_held_out = max(1, round(config.validation_fraction * block.n_cells))
    held_out = np.random.default_rng([seed, 3, number]).permutation(block.n_cells) < n_held_out
    return as_dataset(block, f"object {number + 1}", held_out, seed)


def _train(fabric: Fabric, checkpoint: Checkpoint, datasets: list[Dataset], config: FinetuneConfig, seed: int) -> None:
    """Train the network of ``checkpoint`` in place."""
    network = checkpoint.network
    if not isinstance(network, CompactNetwork):
        Tuning(fabric, network, datasets, token_rules(checkpoint), config, seed).fit()
        return
    measured = np.any([dataset.measured for dataset in datasets], axis=0)
    gene_index = genes_to_read(checkpoint, measured, np.zeros_like(measured))
    part, rules = trainable_part(network, gene_index), token_rules(checkpoint, gene_index)
    Tuning(fabric, part, [dataset.at_genes(gene_index) for dataset in datasets], rules, config, seed).fit()
    trained = part.state_dict()
    with torch.no_grad():
        for name, values in network.state_dict().items():
            values[torch.from_numpy(gene_index) if name in BY_GENE else ...] = trained[name].to(values.device)


def trainable_part(network: CompactNetwork, gene_index: np.ndarray) -> CompactNetwork:
    """Return a copy of the network for some genes in which only the parts that describe cells are trainable.

    Bag profile, bag correction and bin values are the same for all tissues, and are not trained.
    """
    part = network.at_genes(torch.from_numpy(gene_index))
    part.profile.requires_grad_(False)
    if part.correction is not None:
        part.correction.requires_grad_(False)
    part.embedder.bin_values.requires_grad_(False)
    return part
