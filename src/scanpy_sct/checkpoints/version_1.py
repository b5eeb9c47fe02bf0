"""Version 1 of the folder format: one configuration for all networks, of which the two of today are still read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from scanpy_sct.checkpoints.checkpoint import check_names

if TYPE_CHECKING:
    from torch import Tensor

REQUIRED_KEYS = frozenset(
    "format format_version name license network n_genes tokens mask_fraction temperature embedding".split()
)
DEFAULTS = {"path": "full", "coordinates": "given", "revision": None, "label_head": None}
ONLY_VALUES = {("tokens", "unmeasured"): "mask", ("network", "center_tokens"): False}
"""Options of which one value is left."""
COMPACT_FIELDS = {
    "n_bins": "mask_token_id",
    "bag_size": "num_cells",
    "cell_dim": "cell_dim",
    "cell_layers": "cell_layers",
    "bag_correction": "bag_correction",
    "reads_coordinates": "use_spatial_information",
}
NEW_NAMES = {
    "cell_path.level_values": "embedder.bin_values",
    "cell_path.gene_table": "embedder.gene_factors",
    "cell_path.gene_output": "decoder.gene_factors",
    "cell_path.detection.": "decoder.detection.",
    "cell_path.level.": "decoder.amount.",
    "cell_path.level_shift.": "decoder.amount_shift.",
    "cell_path.": "cell_transformer.",
}
"""First parts of the weights' names, and what stands in their place now; the first that fits counts."""


def upgraded(config: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the content of a `config.json` of version 1 as version 2 would have written it.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or the network is of a kind that is no longer supported.
    """
    from scanpy_sct.model import ReleasedConfig

    check_names(set(config) - set(DEFAULTS), REQUIRED_KEYS, f"config.json in {folder!r}")
    config = DEFAULTS | config
    network, tokens = config["network"], config["tokens"]
    released = network.get("convolutions", True)
    _check_supported(config, folder, released=released)
    result = {name: config[name] for name in ("format", "name", "revision", "license", "n_genes", "mask_fraction")}
    result |= {name: config[name] for name in ("coordinates", "label_head")}
    names = {field.name: field.name for field in fields(ReleasedConfig)} if released else COMPACT_FIELDS
    return result | {
        "format_version": 2,
        "architecture": "released" if released else "compact",
        "network": {new: network[old] for new, old in names.items()},
        "tokens": {"binning": tokens["binning"], "scale": tokens["scale"]},
    }


def _check_supported(config: dict[str, Any], folder: str, *, released: bool) -> None:
    """Raise a ValueError for unpublished kinds: convolutions beside a cell embedding, and other options."""
    network = config["network"]
    reasons = [
        f"{name}={config[section].get(name)!r}"
        for (section, name), only in ONLY_VALUES.items()
        if config[section].get(name, only) != only
    ]
    if released and (network.get("context") or network.get("cell_dim")):
        reasons.append("convolutions beside a profile or a cell embedding")
    if not released and not network.get("level_shift"):
        reasons.append("a cell embedding without level_shift")
    if not released and [network.get(name) for name in ("num_scales", "sigma_min", "sigma_max")] != [10, 1.0, 10.0]:
        reasons.append("other scales of the coordinates than 10 from 1 to 10")
    if config["temperature"] != 1:
        reasons.append(f"temperature={config['temperature']!r}")
    if config["tokens"]["n_bins"] + 1 != network["mask_token_id"]:
        reasons.append(f"n_bins={config['tokens']['n_bins']} beside mask_token_id={network['mask_token_id']}")
    if reasons:
        msg = (
            f"The checkpoint in {folder!r} is of a kind that is no longer supported ({'; '.join(reasons)}); train "
            "a compact network in its place."
        )
        raise ValueError(msg)


def new_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network of version 1 under the names they have now."""
    return {_new_name(name): tensor for name, tensor in tensors.items()}


def _new_name(name: str) -> str:
    for old, new in NEW_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
