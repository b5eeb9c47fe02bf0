"""The checkpoints that can be loaded by name: `scanpy_sct.models`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scanpy_sct.checkpoints import hub, registry
from scanpy_sct.checkpoints.folder import CARD_FILE, is_checkpoint
from scanpy_sct.checkpoints.registry import load_model

__all__ = ["describe", "download", "list"]


def list() -> pd.DataFrame:
    """List the checkpoints that :func:`~scanpy_sct.load_model` knows by name.

    Returns
    -------
    One row per checkpoint, with its name as index and the columns ``parameters``, ``genes``, ``license``, ``source``
    (``"package"`` or ``"hub"``) and ``downloaded`` (whether it can be loaded offline).
    """
    rows = {}
    for name in registry.packaged_models():
        checkpoint = load_model(name)
        rows[name] = (checkpoint.n_parameters, checkpoint.n_known_genes, checkpoint.license, "package", True)
    for name, model in hub.HUB_MODELS.items():
        rows[name] = (model.parameters, model.genes, model.license, "hub", is_checkpoint(hub.cached_folder(name)))
    columns = ["parameters", "genes", "license", "source", "downloaded"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")


def describe(name: str) -> str:
    """Return the model card of a checkpoint in Markdown, without downloading anything.

    Parameters
    ----------
    name
        A name of :func:`list`, a folder, or a repository of the hub that has been downloaded.

    Raises
    ------
    ValueError
        If there is no such checkpoint on this machine.
    """
    is_missing = hub.is_repository(name) and not Path(name).is_dir() and not is_checkpoint(hub.cached_folder(name))
    if is_missing and name in hub.HUB_MODELS:
        model = hub.HUB_MODELS[name]
        return (
            f"# {name}\n\n{model.description}\n\n- parameters: {model.parameters:,}\n- genes: {model.genes:,}\n"
            f"- licence of the weights: {model.license}\n- revision: {model.revision}\n"
        )
    if is_missing:
        msg = f"name={name!r} has not been downloaded; call scanpy_sct.models.download({name!r}) first."
        raise ValueError(msg)
    folder = registry.find_folder(name)
    card = folder / CARD_FILE
    return card.read_text(encoding="utf-8") if card.is_file() else f"# {name}\n\n{load_model(folder).describe()}\n"


def download(name: str, *, revision: str | None = None) -> Path:
    """Download a checkpoint unless it is in the cache, and return its folder.

    The folder can be copied to a machine without internet access and passed to :func:`~scanpy_sct.load_model` there.

    Parameters
    ----------
    name
        A name of :func:`list`, or any repository of the Hugging Face hub.
    revision
        Branch, tag or full commit hash; for the hub only.

    Raises
    ------
    ValueError
        If there is no such checkpoint.
    ConnectionError
        If the hub cannot be reached.
    """
    return registry.find_folder(name, revision=revision)
