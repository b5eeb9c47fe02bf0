"""From what a user calls a model to a checkpoint."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from scanpy_sct.checkpoints import hub
from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.checkpoints.folder import is_checkpoint, read_checkpoint
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
        Name of a checkpoint that comes with the package (``"sct-mini"``; ``"sct-mini-spatial"``, which needs
        coordinates), a folder (ours, or the released layout with `config.json` and `params.joblib`), or a repository of
        the hub (``"InstaDeepAI/sCellTransformer"``), which is downloaded once and read from the cache from then on. A
        loaded checkpoint is returned as it is.
    revision
        Branch, tag or full commit hash, for the hub only. By default a commit that is known to work.

    Returns
    -------
    The checkpoint; its ``.network`` is the torch module, on the CPU.

    Raises
    ------
    TypeError
        If ``model`` is neither text, nor a path, nor a checkpoint.
    ValueError
        If there is no such model, or its files are not complete and consistent.
    ConnectionError
        If it must be downloaded and the hub cannot be reached.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> checkpoint = sct.load_model("sct-mini")  # doctest: +SKIP
    >>> checkpoint.network  # doctest: +SKIP
    """
    if isinstance(model, Checkpoint):
        _refuse_revision(revision, "a loaded checkpoint")
        return model
    if not isinstance(model, str | os.PathLike):
        msg = f"model={model!r} must be a name, a folder, a repository of the hub, or a loaded Checkpoint."
        raise TypeError(msg)
    return _read_folder(find_folder(model, revision=revision))


def find_folder(model: str | PathLike[str], *, revision: str | None = None) -> Path:
    """Return the folder that holds ``model``; one from the hub is downloaded first, if it is not in the cache yet."""
    if isinstance(model, str) and model in packaged_models():
        _refuse_revision(revision, "a model that comes with the package")
        return PACKAGED_FOLDER / model
    if Path(model).expanduser().is_dir():
        _refuse_revision(revision, "a folder")
        return Path(model).expanduser()
    if isinstance(model, str) and hub.is_repository(model):
        return hub.fetch(model, revision)
    msg = (
        f"model={str(model)!r} is neither a known model ({', '.join(known_models())}), nor an existing folder, nor a "
        f"repository of the Hugging Face hub ('owner/name').{_did_you_mean(str(model))}"
    )
    raise ValueError(msg)


def _did_you_mean(model: str) -> str:
    """Name the known model that is spelt most alike; empty if none is."""
    # Of a repository also the part after its owner, in any case of letters.
    spellings = {spelling.lower(): name for name in known_models() for spelling in (name, name.rpartition("/")[2])}
    close = get_close_matches(model.lower().replace("_", "-"), spellings, n=1)
    return f" Did you mean {spellings[close[0]]!r}?" if close else ""


def packaged_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in PACKAGED_FOLDER.glob("*/config.json"))


def known_models() -> list[str]:
    """Names of all checkpoints that can be loaded without knowing where they are."""
    return [*packaged_models(), *hub.HUB_MODELS]


def _read_folder(folder: Path) -> Checkpoint:
    if is_checkpoint(folder):
        return read_checkpoint(folder)
    if is_released(folder):
        return read_released(folder)
    msg = (
        f"model={str(folder)!r} is a folder without a checkpoint: expected config.json with model.safetensors (written "
        "by scanpy_sct) or with params.joblib (the released layout)."
    )
    raise ValueError(msg)


def _refuse_revision(revision: str | None, kind: str) -> None:
    if revision is not None:
        msg = f"revision={revision!r} is for repositories of the hub; model is {kind}. Leave it out."
        raise ValueError(msg)
