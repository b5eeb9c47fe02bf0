"""Checkpoints from the Hugging Face hub: downloaded once, converted to our folder format, then read offline.

The cache folder follows from the name of the repository and the requested revision, so that a second load needs no
internet access.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from scanpy_sct.checkpoints import folder as ours
from scanpy_sct.checkpoints import released
from scanpy_sct.checkpoints.checkpoint import hash_file

logger = logging.getLogger(__name__)

REVISION_PATTERN = re.compile(r"\w[\w./+#@-]*")
"""No name of a folder outside the cache."""
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
REPOSITORY_PATTERN = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub that is known by name."""

    revision: str
    """Full commit hash that is downloaded by default."""
    parameters: int
    genes: int
    license: str
    description: str


HUB_MODELS = {
    "InstaDeepAI/sCellTransformer": HubModel(
        revision="361dd8fb8ac04c9d2656f8d00b0f972928cf139e",
        parameters=79_204_163,
        genes=19_937,
        license=released.RELEASED_LICENSE,
        description="The network released by its authors, trained on about 50 million cells (317 MB).",
    )
}


def is_repository(name: str) -> bool:
    """Return whether ``name`` has the form of a hub repository, ``owner/name``."""
    return REPOSITORY_PATTERN.fullmatch(name) is not None


def cached_folder(repository: str, revision: str | None = None) -> Path:
    """Return the cache folder of a checkpoint, whether it exists or not."""
    from scanpy_sct.settings import settings

    revision = revision or _default_revision(repository)
    if not REVISION_PATTERN.fullmatch(revision):
        msg = f"revision={revision!r} must be a branch, a tag or a commit hash."
        raise ValueError(msg)
    return settings.cache_dir / "models" / repository.replace("/", "--") / revision.replace("/", "--")


def fetch(repository: str, revision: str | None = None) -> Path:
    """Return the cache folder of a hub checkpoint; download and convert it if needed.

    Parameters
    ----------
    repository
        ``owner/name``, in our folder format or in the released layout.
    revision
        Branch, tag or full commit hash. By default the pinned commit of a known checkpoint, else the newest state at
        the first download.

    Raises
    ------
    ValueError
        If the repository, the revision or a file does not exist, or access requires a login.
    ConnectionError
        If it is not in the cache and the hub cannot be reached.
    """
    target = cached_folder(repository, revision)
    if ours.is_checkpoint(target):
        return target
    with _one_at_a_time(target):
        # Another process may have done it meanwhile.
        return target if ours.is_checkpoint(target) else _fill(target, repository, revision)


@contextmanager
def _one_at_a_time(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire()
    except OSError as error:
        msg = (
            f"The cache folder {str(target.parent)!r} cannot be written: {error}; make it writable, or set "
            "SCANPY_SCT_CACHE_DIR to another."
        )
        raise OSError(error.errno, msg) from error
    try:
        yield
    finally:
        lock.release()


def _fill(target: Path, repository: str, revision: str | None) -> Path:
    """Download and convert a checkpoint; the folder appears when everything in it has been read once."""
    revision = revision or _default_revision(repository)
    logger.info("Downloading %s once from the Hugging Face hub; it is kept in %s.", repository, target)
    source = _download(repository, revision)
    # The hub's own cache keeps files in `snapshots/<commit>/`.
    parts = source.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else revision
    try:
        _convert(source, target, repository, commit)
    except ValueError as error:
        msg = f"{error} If the download was damaged, delete {str(source)!r} and load the model again."
        raise ValueError(msg) from error
    return target


def _convert(source: Path, target: Path, repository: str, commit: str) -> None:
    if not ours.is_checkpoint(source):
        logger.info("Converting %s to the format of scanpy_sct.", repository)
        checkpoint = dataclasses.replace(released.read_released(source, name=repository), revision=commit)
        ours.save_checkpoint(target, checkpoint, dtype="float32")
        return
    config = ours.read_config(source)  # raises an error before anything is copied
    with ours.replaced_folder(target) as new:
        for name in ours.ALL_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, new / name)
        ours.write_config(new, config | {"name": repository, "revision": commit})
        ours.read_checkpoint(new)


def _default_revision(repository: str) -> str:
    return HUB_MODELS[repository].revision if repository in HUB_MODELS else "main"


def _download(repository: str, revision: str) -> Path:
    """Download the files of a checkpoint in either layout, and return their folder."""
    config = _download_file(repository, ours.CONFIG_FILE, revision, optional=True)
    if config is not None and ours.is_checkpoint(config.parent):
        for name in ours.REQUIRED_FILES:
            _download_file(repository, name, revision)
        for name in (ours.LABEL_HEAD_FILE, ours.CARD_FILE):
            _download_file(repository, name, revision, optional=True)
        return config.parent
    for name in (released.CONFIG_FILE, released.WEIGHTS_FILE):
        path = _download_file(repository, f"{released.SUBFOLDER}/{name}", revision)
    return path.parent


def _download_file(repository: str, name: str, revision: str, *, optional: bool = False) -> Path | None:
    import huggingface_hub
    from huggingface_hub import errors

    model = f"model={repository!r}, revision={revision!r}"
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        msg = (
            f"{model}: {name} is not in the cache and the hub cannot be reached. Run "
            f"scanpy_sct.models.download({repository!r}) on a machine with internet access, copy the returned folder "
            "to this machine, and pass that folder as the model."
        )
        raise ConnectionError(msg) from error
    except errors.EntryNotFoundError as error:
        if optional:
            return None
        msg = (
            f"{model}: the repository has no {name}, so it does not hold an sCT checkpoint; check the name. "
            "scanpy_sct.models.list() shows those that are known."
        )
        raise ValueError(msg) from error
    except errors.RevisionNotFoundError as error:
        msg = f"{model}: the revision does not exist; give a branch, a tag, or a full commit hash of 40 characters."
        raise ValueError(msg) from error
    except errors.RepositoryNotFoundError as error:
        msg = (
            f"{model}: there is no such repository on the Hugging Face hub, or it requires a login. Check the name, or "
            "log in with `hf auth login`."
        )
        raise ValueError(msg) from error
    except errors.HfHubHTTPError as error:
        msg = f"{model}: {name} could not be downloaded ({error}); try again later, or pass a folder with its files."
        raise ConnectionError(msg) from error
    _check_hash(path, f"{model}: {name}")
    return path


def _check_hash(path: Path, what: str) -> None:
    """Raise a ValueError if a downloaded file is not the one that the hub has."""
    # The hub's own cache calls large files by their SHA-256, and links to them. Small ones have another hash, and are
    # read as text with all their parts checked.
    stored = path.resolve()
    expected = stored.name
    if SHA256_PATTERN.fullmatch(expected) and hash_file(stored) != expected:
        msg = f"{what} was damaged: it is not the file on the hub. Delete {str(stored)!r} and load the model again."
        raise ValueError(msg)
