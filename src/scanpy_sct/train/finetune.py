"""Continue the training of a checkpoint on the data at hand."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.checkpoints.folder import check_replaceable, read_checkpoint, save_checkpoint
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.files import read_cells
from scanpy_sct.model import CompactNetwork
from scanpy_sct.read.expression import Expression
from scanpy_sct.read.hide import hidden_at_positions, read_hide
from scanpy_sct.run.device import choose_device
from scanpy_sct.run.inputs import placed, token_rules
from scanpy_sct.tl._common import as_seed, read
from scanpy_sct.train.config import FinetuneConfig
from scanpy_sct.train.data import Dataset, as_dataset
from scanpy_sct.train.direct import DirectPaths, FullPath, direct_positions
from scanpy_sct.train.tuning import Tuning

if TYPE_CHECKING:
    from anndata import AnnData
    from lightning_fabric import Fabric

    Data = AnnData | str | PathLike[str]

logger = logging.getLogger(__name__)

MIN_CELLS = 10


def finetune(
    model: str | PathLike[str] | Checkpoint,
    data: Data | Sequence[Data],
    config: FinetuneConfig | None = None,
    output: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    hide: str | np.ndarray | sparse.spmatrix | None = None,
    device: str = "auto",
    precision: str = "32-true",
    rng: int | np.random.Generator | None = 0,
) -> Checkpoint:
    """Continue the training of a checkpoint on the data at hand, by predicting hidden entries of it.

    One cell in ten is held out to judge by, and the weights of the best moment are returned; if nothing better is
    found, those of the model. Of a checkpoint whose path is ``"direct"`` only the cell path is trained, on the measured
    genes: about a minute on one core. Predictions of genes that were not measured become no better by it, and its
    full path does not know of it. Of any other checkpoint the whole network is trained, which wants a GPU.

    With `config.spatial` the network learns to read places too, of which it makes nothing at first. They are put on one
    scale: 1 is the median distance of the cells of a sample to their nearest neighbor, and the middle of a sample is 0.
    The checkpoint says so (`coordinates="spacing"`). A network that reads places already keeps its scale.

    Parameters
    ----------
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`. It stays as it is.
    data
        Cells x genes: counts, or log-normalised values. An AnnData, an h5ad or zarr file, or several of them.
    config
        Recipe; by default that of :class:`scanpy_sct.train.FinetuneConfig`.
    output
        Folder to save the result in, too.
    layer, library_key, gene_names
        As in :func:`scanpy_sct.tl.impute`, the same for all data.
    hide
        Entries that must have no influence, as in :func:`scanpy_sct.tl.impute`: they are taken out before anything is
        read, and never seen or asked for. Only for a single object.
    device
        As in :func:`scanpy_sct.tl.impute`.
    precision
        As Lightning Fabric's `precision`.
    rng
        Seed: the same seed gives the same weights on the same machine, unless `config.minutes` is reached.

    Returns
    -------
    The new checkpoint, named `<model>-finetuned`. Its label head is left out, since the embedding is another one; fit
    a new one with :func:`scanpy_sct.train.fit_label_head`.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or the data cannot be used; before anything is computed.
    FloatingPointError
        If the loss becomes NaN or infinite.

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
    if given.path == "direct" and not given.config.cell_dim:
        msg = f"model={given.name!r} predicts by the profile of the bag alone, in which there is nothing to train."
        raise ValueError(msg)
    for name in ("thin_share", "gene_effect_share"):
        if getattr(config, name) and given.tokens.scale != "log1p_counts":
            msg = (
                f"{name}={getattr(config, name)} needs a model with tokens of counts; those of {given.name!r} are not."
            )
            raise ValueError(msg)
    fabric = _fabric(choose_device(device), precision)
    names = {"layer": layer, "library_key": library_key, "gene_names": gene_names}
    checkpoint = replace(
        _with_places(given) if config.spatial else replace(given, network=copy.deepcopy(given.network)),
        name=f"{given.name}-finetuned",
        label_head=None,
        revision=None,
        sha256="",
    )
    expressions, hidden = _read(checkpoint, objects, hide, names, spatial=config.spatial)
    datasets = _hold_out(expressions, hidden, config, seed)
    _train(fabric, checkpoint, datasets, config, seed)
    checkpoint.network.cpu().eval()
    if output is None:
        return checkpoint
    return read_checkpoint(save_checkpoint(output, checkpoint))


def _with_places(given: Checkpoint) -> Checkpoint:
    """Copy a checkpoint and let its network read places, of which it makes nothing yet."""
    if given.config.use_spatial_information:
        return replace(given, network=copy.deepcopy(given.network))
    config = replace(given.config, use_spatial_information=True)
    with torch.random.fork_rng(devices=[]):
        network = CompactNetwork(config, given.network.n_genes).eval()
    found = network.load_state_dict(given.network.state_dict(), strict=False)
    with torch.no_grad():
        for name in found.missing_keys:
            network.get_parameter(name).zero_()
    return replace(given, config=config, network=network, coordinates="spacing")


def _as_objects(data: Data | Sequence[Data], hide: object) -> list[Data]:
    from anndata import AnnData

    single = isinstance(data, AnnData | str | PathLike)
    objects = [data] if single else list(data)
    if not objects:
        msg = "data is empty; give at least one AnnData or file."
        raise ValueError(msg)
    if hide is not None and len(objects) > 1:
        msg = f"hide names entries of a single object, and data has {len(objects)}; take the entries out beforehand."
        raise ValueError(msg)
    return objects


def _fabric(device: torch.device, precision: str) -> Fabric:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        msg = 'Training needs lightning-fabric: pip install "scanpy_sct[train]"'
        raise ImportError(msg) from error
    devices = 1 if device.index is None or device.type == "cpu" else [device.index]
    return Fabric(accelerator=device.type, devices=devices, precision=precision)


def _read(
    checkpoint: Checkpoint, objects: Sequence[Data], hide: object, names: dict[str, str | None], *, spatial: bool
) -> tuple[list[Expression], list[sparse.csr_matrix | None]]:
    """Read all objects, and where their hidden entries are."""
    expressions, hidden = [], []
    for item in objects:
        adata = read_cells(Path(item)) if isinstance(item, str | PathLike) else item
        by_column = read_hide(adata, hide)
        _, expression = read(adata, checkpoint, hide=by_column, **names)
        if spatial and expression.coordinates is None:
            msg = "config.spatial=True needs coordinates in .obsm['spatial'], and there are none; leave it off."
            raise ValueError(msg)
        expression = placed(checkpoint, expression)
        if len(expression.samples) < MIN_CELLS:
            msg = f"data has an object of {len(expression.samples)} cells; at least {MIN_CELLS} are needed."
            raise ValueError(msg)
        expressions.append(expression)
        hidden.append(hidden_at_positions(by_column, expression))
    return expressions, hidden


def _hold_out(
    expressions: Sequence[Expression], hidden: Sequence[sparse.csr_matrix | None], config: FinetuneConfig, seed: int
) -> list[Dataset]:
    datasets = []
    for number, (expression, always) in enumerate(zip(expressions, hidden, strict=True)):
        n_cells = len(expression.samples)
        n_held_out = max(1, round(config.validation_share * n_cells))
        held_out = np.random.default_rng([seed, 3, number]).permutation(n_cells) < n_held_out
        datasets.append(as_dataset(expression, f"object {number + 1}", held_out, seed, always))
    return datasets


def _train(fabric: Fabric, checkpoint: Checkpoint, datasets: list[Dataset], config: FinetuneConfig, seed: int) -> None:
    """Train the network of ``checkpoint`` in place."""
    rules, network = token_rules(checkpoint), checkpoint.network
    is_direct = checkpoint.path == "direct"
    if is_direct:
        measured = np.any([dataset.measured for dataset in datasets], axis=0)
        positions = direct_positions(rules, measured)
        paths = DirectPaths(network, positions)
        datasets = [_at(dataset, positions) for dataset in datasets]
        rules = replace(rules, vocabulary=rules.vocabulary[positions])
    else:
        paths = FullPath(network)
    size = config.bag_size if is_direct else config.tower_bag_size
    Tuning(fabric, paths, checkpoint, datasets, rules, config, size, seed).fit()
    paths.write_back()


def _at(dataset: Dataset, positions: np.ndarray) -> Dataset:
    hidden = None if dataset.hidden is None else dataset.hidden[:, positions]
    return replace(
        dataset, log_counts=dataset.log_counts[:, positions], measured=dataset.measured[positions], hidden=hidden
    )
