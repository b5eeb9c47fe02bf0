"""`config.json` of our folder format: what it must hold, and what version 1 of it meant."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scanpy_sct.checkpoints import version_1
from scanpy_sct.checkpoints.checkpoint import check_keys

if TYPE_CHECKING:
    from os import PathLike

    from scanpy_sct.model import CompactConfig, ReleasedConfig

T = TypeVar("T")

FORMAT, FORMAT_VERSION = "scanpy_sct", 2
CONFIG_FILE = "config.json"
KEYS = frozenset(
    "format format_version name revision license architecture network n_genes tokens mask_fraction coordinates "
    "label_head".split()
)


def is_checkpoint(folder: str | PathLike[str]) -> bool:
    """Tell whether ``folder`` has a `config.json` of our format, of whatever version."""
    try:
        config = read_json(Path(folder))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_json(folder: Path) -> Any:
    """Read `config.json` as it stands."""
    return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` and check that its sections are those of this version; version 1 is brought up to it."""
    if not is_checkpoint(folder):
        msg = f"folder={str(folder)!r} is not a checkpoint of scanpy_sct: it has no {CONFIG_FILE} of that format."
        raise ValueError(msg)
    config = read_json(folder)
    if config.get("format_version") == 1:
        return version_1.upgraded(config, str(folder))
    if config.get("format_version") != FORMAT_VERSION:
        msg = (
            f"The checkpoint in {str(folder)!r} has format version {config.get('format_version')!r}, this version of "
            f"scanpy_sct reads {FORMAT_VERSION}; install a newer version of scanpy_sct."
        )
        raise ValueError(msg)
    check_keys(config, KEYS, f"{CONFIG_FILE} in {str(folder)!r}")
    return config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`."""
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def network_config(config: dict[str, Any], folder: Path) -> CompactConfig | ReleasedConfig:
    """Return the configuration of the network that the content of a `config.json` names."""
    from scanpy_sct.model import CompactConfig, ReleasedConfig

    kinds = {"compact": CompactConfig, "released": ReleasedConfig}
    if config["architecture"] not in kinds:
        msg = (
            f"architecture={config['architecture']!r} in {str(folder / CONFIG_FILE)!r} is not known; it must be "
            "'compact' or 'released', or this version of scanpy_sct is too old."
        )
        raise ValueError(msg)
    return from_fields(kinds[config["architecture"]], config["network"], "network", folder)


def from_fields(kind: type[T], values: dict[str, Any], section: str, folder: Path) -> T:
    """Make a dataclass from a section of `config.json`, which must have its fields and no others."""
    check_keys(values, {field.name for field in fields(kind)}, f"{section} in {str(folder / CONFIG_FILE)!r}")
    return kind(**values)
