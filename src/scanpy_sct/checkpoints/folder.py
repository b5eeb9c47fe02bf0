"""Our folder format: `config.json`, `model.safetensors`, `genes.tsv`, `README.md`, and optionally a label head."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

import numpy as np

from scanpy_sct.checkpoints import version_1
from scanpy_sct.checkpoints.checkpoint import (
    COPY_AGAIN,
    Checkpoint,
    TokenSettings,
    build_network,
    check_names,
    hash_file,
    mention_license,
)
from scanpy_sct.checkpoints.fields import check_types, check_value, named_damage, read_object
from scanpy_sct.checkpoints.genes_file import read_gene_ids, write_genes
from scanpy_sct.checkpoints.label_head import LabelHead, head_settings, make_head, write_head

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor, nn

    from scanpy_sct.model import CompactConfig, ReleasedConfig

T = TypeVar("T")

FORMAT, FORMAT_VERSION = "scanpy_sct", 2
CONFIG_FILE, WEIGHTS_FILE, GENES_FILE = "config.json", "model.safetensors", "genes.tsv"
LABEL_HEAD_FILE, CARD_FILE = "label_head.safetensors", "README.md"
REQUIRED_FILES = (CONFIG_FILE, WEIGHTS_FILE, GENES_FILE)
ALL_FILES = (*REQUIRED_FILES, LABEL_HEAD_FILE, CARD_FILE)
CONFIG_KEYS = (
    "format format_version name revision license architecture network n_genes tokens mask_fraction coordinates "
    "label_head"
).split()
CONFIG_TYPES = {"name": str, "license": str, "architecture": str, "n_genes": int, "mask_fraction": float}


def save_checkpoint(
    folder: str | PathLike[str],
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    readme: str = "",
) -> Path:
    """Write a checkpoint folder; an existing checkpoint is replaced only after everything is written.

    Parameters
    ----------
    folder
        The folder to write. If it exists, it must be empty or a checkpoint without other files.
    checkpoint
        The checkpoint to write.
    dtype
        Type of the stored weights. ``"float16"`` halves the file and rounds the weights to about three digits.
    readme
        Model card in Markdown; by default the facts of :meth:`Checkpoint.describe`.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError
        If ``dtype`` is not supported, a weight is too large for it, or ``folder`` has other content.
    """
    if dtype not in ("float32", "float16"):
        msg = f"dtype={dtype!r} is not known; use 'float32' or 'float16'."
        raise ValueError(msg)
    with replaced_folder(folder) as new:
        _write_weights(new / WEIGHTS_FILE, checkpoint.network, dtype)
        write_genes(new / GENES_FILE, checkpoint.genes)
        if checkpoint.label_head is not None:
            write_head(new / LABEL_HEAD_FILE, checkpoint.label_head)
        (new / CARD_FILE).write_text(readme or f"# {checkpoint.name}\n\n{checkpoint.describe()}\n", encoding="utf-8")
        write_config(new, _config_of(checkpoint))
    return Path(folder)


def read_checkpoint(folder: str | PathLike[str]) -> Checkpoint:
    """Read a folder written by :func:`save_checkpoint`.

    Raises
    ------
    ValueError
        If a file is missing or damaged, the folder has another format version, or its content does not match its
        `config.json`.
    """
    with named_damage(f"The checkpoint in {str(folder)!r}"):
        return _read_checkpoint(Path(folder))


def _read_checkpoint(folder: Path) -> Checkpoint:
    config = read_config(folder)
    weights = _existing(folder, WEIGHTS_FILE)
    tensors = _read_tensors(weights)
    if _read_json(folder)["format_version"] == 1:
        tensors = version_1.new_names(tensors)
    network = build_network(_network_config(config, folder), config["n_genes"], tensors, str(weights))
    mention_license(config["name"], config["license"])
    return Checkpoint(
        name=config["name"],
        network=network,
        tokens=_from_fields(TokenSettings, config["tokens"], "tokens", folder),
        mask_fraction=config["mask_fraction"],
        genes=read_gene_ids(_existing(folder, GENES_FILE), config["n_genes"]),
        coordinates=config["coordinates"],
        label_head=_read_label_head(folder, config["label_head"]),
        license=config["license"],
        revision=config["revision"],
        sha256=hash_file(weights),
    )


def is_checkpoint(folder: str | PathLike[str]) -> bool:
    """Return whether the folder has a `config.json` of our format, of any version."""
    try:
        config = _read_json(Path(folder))
    except (OSError, ValueError):
        return False
    return config.get("format") == FORMAT


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` and check its version and keys; version 1 is brought up to this one."""
    if not is_checkpoint(folder):
        msg = (
            f"folder={str(folder)!r} is not a checkpoint of scanpy_sct: it has no {CONFIG_FILE} of that format. Pass a "
            "folder that scanpy_sct wrote."
        )
        raise ValueError(msg)
    config, source = _read_json(folder), f"{CONFIG_FILE} in {str(folder)!r}"
    if config.get("format_version") == 1:
        config = version_1.upgraded(config, str(folder))
    elif config.get("format_version") != FORMAT_VERSION:
        msg = (
            f"The checkpoint in {str(folder)!r} has format version {config.get('format_version')!r}, and this version "
            f"of scanpy_sct reads 1 and {FORMAT_VERSION}; install a newer version of scanpy_sct."
        )
        raise ValueError(msg)
    check_names(config, CONFIG_KEYS, source)
    for name, kind in CONFIG_TYPES.items():
        check_value(name, config[name], kind, source)
    return config


def read_genes(folder: Path) -> np.ndarray:
    """Read the Ensembl id of each gene of a checkpoint, without its weights."""
    return read_gene_ids(_existing(folder, GENES_FILE), read_config(folder)["n_genes"])


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`."""
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def check_replaceable(folder: str | PathLike[str]) -> None:
    """Raise a ValueError unless ``folder`` is new, empty or a checkpoint; call it before long computations."""
    folder = Path(folder)
    if not folder.exists():
        return
    others = sorted({path.name for path in folder.iterdir()} - set(ALL_FILES)) if folder.is_dir() else []
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if others or not (is_empty or is_checkpoint(folder)):
        found = f"has other files ({', '.join(others[:5])})" if others else "is not a checkpoint"
        msg = f"folder={str(folder)!r} {found} and will not be replaced; give a new folder."
        raise ValueError(msg)


@contextmanager
def replaced_folder(folder: str | PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write to; it replaces ``folder`` at the end, unless an error was raised."""
    check_replaceable(folder)
    target = Path(folder).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    # A sibling is on the same disk, so that renaming is atomic.
    new = target.with_name(f".{target.name}.{uuid4().hex[:8]}.new")
    new.mkdir()
    try:
        yield new
        _swap(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = new.with_suffix(".old")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_json(folder: Path) -> Any:
    return read_object(folder / CONFIG_FILE)


def _config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "license": checkpoint.license,
        "architecture": checkpoint.architecture,
        "network": asdict(checkpoint.config),
        "n_genes": len(checkpoint.genes),
        "tokens": asdict(checkpoint.tokens),
        "mask_fraction": checkpoint.mask_fraction,
        "coordinates": checkpoint.coordinates,
        "label_head": head_settings(checkpoint.label_head),
    }


def _network_config(config: dict[str, Any], folder: Path) -> CompactConfig | ReleasedConfig:
    from scanpy_sct.model import CompactConfig, ReleasedConfig

    architecture, kinds = config["architecture"], {"compact": CompactConfig, "released": ReleasedConfig}
    if architecture not in kinds:
        msg = f"architecture={architecture!r} in {str(folder / CONFIG_FILE)!r} must be 'compact' or 'released'."
        raise ValueError(msg)
    return _from_fields(kinds[architecture], config["network"], "network", folder)


def _from_fields(kind: type[T], values: dict[str, Any], section: str, folder: Path) -> T:
    """Make a dataclass from a section of `config.json`."""
    source = f"{section} in {str(folder / CONFIG_FILE)!r}"
    if not isinstance(values, dict):
        msg = f"{source} must be a JSON object ({{...}}), found {type(values).__name__}."
        raise ValueError(msg)
    check_names(values, [field.name for field in fields(kind)], source)
    check_types(kind, values, source)
    return kind(**values)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        msg = f"The checkpoint in {str(folder)!r} is incomplete: {name} is missing. {COPY_AGAIN}"
        raise ValueError(msg)
    return path


def _write_weights(path: Path, network: nn.Module, dtype: str) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    stored = {
        name: tensor.detach().to("cpu", getattr(torch, dtype)).contiguous()
        for name, tensor in network.state_dict().items()
    }
    broken = [name for name, tensor in stored.items() if not torch.isfinite(tensor).all()]
    if broken:
        msg = (
            f"The weights {broken[:5]} are not finite as {dtype}, so nothing was written; use dtype='float32', or "
            "weights that are finite."
        )
        raise ValueError(msg)
    try:
        save_file(stored, path)
    except SafetensorError as error:
        msg = f"The weights cannot be written to {path.parent} ({error}); free some space, or choose another folder."
        raise OSError(msg) from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"{path} is damaged or not a safetensors file; copy or download it again ({error})."
        raise ValueError(msg) from error


def _read_label_head(folder: Path, settings: dict[str, Any] | None) -> LabelHead | None:
    if settings is None:
        return None
    path = _existing(folder, LABEL_HEAD_FILE)
    arrays = {name: tensor.numpy() for name, tensor in _read_tensors(path).items()}
    return make_head(settings, arrays, f"label_head in {str(folder / CONFIG_FILE)!r}", str(path))
