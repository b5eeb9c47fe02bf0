"""Load a checkpoint by name, folder or hub repository."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from scanpy_sct.checkpoints import hub
from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.checkpoints.folder import is_checkpoint, read_checkpoint, read_genes
from scanpy_sct.checkpoints.released import is_released, read_released

if TYPE_CHECKING:
    from os import PathLike

PACKAGED_FOLDER = Path(__file__).parent / "data"
DEFAULT_MODEL = "sct-mini"


def load_model(model: str | PathLike[str] | Checkpoint = DEFAULT_MODEL, *, revision: str | None = None) -> Checkpoint:
    """Load a checkpoint by name, from a folder, or from the Hugging Face hub.

    Parameters
    ----------
    model
        Name of the checkpoint of the package (``"sct-mini"``), a folder (ours, or the released layout with
        `config.json` and `params.joblib`), or a repository of the hub (``"InstaDeepAI/sCellTransformer"``), which is
        downloaded once and then read from the cache. A loaded checkpoint is returned unchanged.
    revision
        Branch, tag or full commit hash, for the hub only. By default a commit that is known to work.

    Returns
    -------
    The checkpoint; its ``.network`` is the torch module, on the CPU.

    Raises
    ------
    TypeError
        If ``model`` is not a string, a path or a checkpoint.
    ValueError
        If there is no such model, or its files are incomplete or inconsistent.
    ConnectionError
        If it must be downloaded and the hub cannot be reached.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> checkpoint = sct.load_model("sct-mini")  # doctest: +SKIP
    >>> checkpoint.network  # doctest: +SKIP
    """
    if isinstance(model, Checkpoint):
        _check_no_revision(revision, "a loaded checkpoint")
        return model
    if not isinstance(model, str | os.PathLike):
        msg = f"model={model!r} must be a name, a folder, a repository of the hub, or a loaded Checkpoint."
        raise TypeError(msg)
    folder = find_folder(model, revision=revision)
    if is_checkpoint(folder):
        return read_checkpoint(folder)
    if is_released(folder):
        return read_released(folder)
    msg = (
        f"model={str(folder)!r} is a folder without a checkpoint: expected config.json with model.safetensors (written "
        "by scanpy_sct) or with params.joblib (the released layout)."
    )
    raise ValueError(msg)


def find_folder(model: str | PathLike[str], *, revision: str | None = None) -> Path:
    """Return the folder of ``model``; a hub repository is downloaded unless it is in the cache."""
    if isinstance(model, str) and model in packaged_models():
        _check_no_revision(revision, "a model of the package")
        return PACKAGED_FOLDER / model
    if Path(model).expanduser().is_dir():
        _check_no_revision(revision, "a folder")
        return Path(model).expanduser()
    if isinstance(model, str) and hub.is_repository(model):
        return hub.fetch(model, revision)
    known = [*packaged_models(), *hub.HUB_MODELS]
    # Repositories are also compared by the part after the owner, ignoring case.
    spellings = {spelling.lower(): name for name in known for spelling in (name, name.rpartition("/")[2])}
    close = get_close_matches(str(model).lower().replace("_", "-"), spellings, n=1)
    hint = f" Did you mean {spellings[close[0]]!r}?" if close else ""
    msg = (
        f"model={str(model)!r} is not known; use the name of a model ({', '.join(known)}), the path of an existing "
        f"folder, or a repository of the Hugging Face hub ('owner/name').{hint}"
    )
    raise ValueError(msg)


def packaged_models() -> list[str]:
    """Return the names of the checkpoints of the package."""
    return sorted(path.parent.name for path in PACKAGED_FOLDER.glob("*/config.json"))


def known_genes(name: str) -> frozenset[str] | None:
    """Return the Ensembl ids that a checkpoint knows, without loading it; None: it cannot be found by its name."""
    if name in packaged_models():
        return frozenset(read_genes(PACKAGED_FOLDER / name)) - {""}
    if hub.is_repository(name) and is_checkpoint(hub.cached_folder(name)):
        return frozenset(read_genes(hub.cached_folder(name))) - {""}
    return None


def _check_no_revision(revision: str | None, kind: str) -> None:
    if revision is not None:
        msg = f"revision={revision!r} is for repositories of the hub, and model is {kind}; leave revision out."
        raise ValueError(msg)
