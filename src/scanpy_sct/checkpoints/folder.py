"""Our folder format: `config.json`, `model.safetensors`, `genes.tsv`, `README.md`, and perhaps a label head."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import numpy as np
import pandas as pd

from scanpy_sct.checkpoints import version_1
from scanpy_sct.checkpoints.checkpoint import (
    Checkpoint,
    LabelHead,
    TokenSettings,
    build_network,
    mention_license,
)
from scanpy_sct.checkpoints.config_file import (
    CONFIG_FILE,
    FORMAT,
    FORMAT_VERSION,
    from_fields,
    is_checkpoint,
    network_config,
    read_config,
    read_json,
    write_config,
)

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn


WEIGHTS_FILE, GENES_FILE = "model.safetensors", "genes.tsv"
LABEL_HEAD_FILE, CARD_FILE = "label_head.safetensors", "README.md"
REQUIRED_FILES = (CONFIG_FILE, WEIGHTS_FILE, GENES_FILE)
ALL_FILES = (*REQUIRED_FILES, LABEL_HEAD_FILE, CARD_FILE)

HEAD_ARRAYS = ("weight", "bias", "feature_mean", "feature_scale")


def save_checkpoint(
    folder: str | PathLike[str],
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    readme: str = "",
) -> Path:
    """Write a checkpoint folder; an older checkpoint of the same name is replaced only when all is written.

    Parameters
    ----------
    folder
        The folder to write. If it exists it must be empty or a checkpoint with no other files in it.
    checkpoint
        What to write.
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
        If ``dtype`` is another one, a weight is too large for it, or ``folder`` holds something else.
    """
    if dtype not in ("float32", "float16"):
        msg = f"dtype={dtype!r} is not known; use 'float32' or 'float16'."
        raise ValueError(msg)
    with replaced_folder(folder) as new:
        _write_weights(new / WEIGHTS_FILE, checkpoint.network, dtype)
        _write_genes(new / GENES_FILE, checkpoint.genes)
        if checkpoint.label_head is not None:
            _write_label_head(new / LABEL_HEAD_FILE, checkpoint.label_head)
        (new / CARD_FILE).write_text(readme or f"# {checkpoint.name}\n\n{checkpoint.describe()}\n", encoding="utf-8")
        write_config(new, _config_of(checkpoint))
    return Path(folder)


def read_checkpoint(folder: str | PathLike[str]) -> Checkpoint:
    """Read a folder written by :func:`save_checkpoint`.

    Raises
    ------
    ValueError
        If a file is missing or damaged, the folder was written by a newer version of the package, or anything in it
        is missing, unknown, or of another shape than its `config.json` says.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights = _existing(folder, WEIGHTS_FILE)
    tensors = _read_tensors(weights)
    if read_json(folder)["format_version"] == 1:
        tensors = version_1.new_names(tensors)
    network = build_network(network_config(config, folder), config["n_genes"], tensors, str(weights))
    mention_license(config["name"], config["license"])
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(
        name=config["name"],
        network=network,
        tokens=from_fields(TokenSettings, config["tokens"], "tokens", folder),
        mask_fraction=config["mask_fraction"],
        genes=_read_genes(_existing(folder, GENES_FILE), config["n_genes"]),
        coordinates=config["coordinates"],
        label_head=_read_label_head(folder, config["label_head"]),
        license=config["license"],
        revision=config["revision"],
        sha256=sha256,
    )


def check_replaceable(folder: str | PathLike[str]) -> None:
    """Raise a ValueError unless a checkpoint may be written to ``folder``; call it before long work."""
    folder = Path(folder)
    if not folder.exists():
        return
    others = sorted({path.name for path in folder.iterdir()} - set(ALL_FILES)) if folder.is_dir() else []
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if others or not (is_empty or is_checkpoint(folder)):
        found = f"has other files in it ({', '.join(others[:5])})" if others else "is something else than a checkpoint"
        msg = f"folder={str(folder)!r} {found} and will not be replaced; give a new folder."
        raise ValueError(msg)


@contextmanager
def replaced_folder(folder: str | PathLike[str]) -> Iterator[Path]:
    """Give an empty folder to write to, which takes the place of ``folder`` at the end, unless there was an error."""
    check_replaceable(folder)
    target = Path(folder).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    # A sibling is on the same disk, so that renaming is one step.
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


def _config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    head = checkpoint.label_head
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
        "label_head": None if head is None else {"labels": list(head.labels), "temperature": head.temperature},
    }


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        msg = f"The checkpoint in {str(folder)!r} is not complete: {name} is missing."
        raise ValueError(msg)
    return path


def _write_weights(path: Path, network: nn.Module, dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    stored = {
        name: tensor.detach().to("cpu", getattr(torch, dtype)).contiguous()
        for name, tensor in network.state_dict().items()
    }
    broken = [name for name, tensor in stored.items() if not torch.isfinite(tensor).all()]
    if broken:
        msg = f"The weights {broken[:5]} are not finite as {dtype}; nothing was written."
        raise ValueError(msg)
    save_file(stored, path)


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"{path} is damaged or not a safetensors file: {error}"
        raise ValueError(msg) from error


def _write_genes(path: Path, genes: np.ndarray) -> None:
    symbols = pd.Series("", index=genes)
    if (genes != "").any():
        from scanpy_sct.read.genes import load_gene_table

        symbols = load_gene_table()["symbol"].reindex(genes).fillna("")
    table = pd.DataFrame({"ensembl_id": genes, "symbol": symbols.to_numpy()})
    table.to_csv(path, sep="\t", index_label="position", lineterminator="\n")


def _read_genes(path: Path, n_genes: int) -> np.ndarray:
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    positions = [str(position) for position in range(n_genes)]
    if list(table.columns) != ["position", "ensembl_id", "symbol"] or list(table["position"]) != positions:
        msg = (
            f"{path} must have the columns position, ensembl_id, symbol, and the positions 0 to {n_genes - 1} in order."
        )
        raise ValueError(msg)
    return table["ensembl_id"].to_numpy(dtype=str)


def _write_label_head(path: Path, head: LabelHead) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(getattr(head, name)) for name in HEAD_ARRAYS}, path)


def _read_label_head(folder: Path, values: dict[str, Any] | None) -> LabelHead | None:
    if values is None:
        return None
    tensors = _read_tensors(_existing(folder, LABEL_HEAD_FILE))
    if set(tensors) != set(HEAD_ARRAYS) or set(values) != {"labels", "temperature"}:
        msg = (
            f"The label head in {str(folder)!r} must have the arrays {sorted(HEAD_ARRAYS)} and, in {CONFIG_FILE}, "
            f"labels and temperature; found {sorted(tensors)} and {sorted(values)}."
        )
        raise ValueError(msg)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return LabelHead(labels=tuple(values["labels"]), temperature=values["temperature"], **arrays)
