"""The files of the released network: `config.json` and `params.joblib`, in the layout of the JAX library Haiku."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.checkpoints.checkpoint import (
    COPY_AGAIN,
    Checkpoint,
    TokenSettings,
    build_network,
    check_names,
    hash_file,
    mention_license,
    shorten,
)
from scanpy_sct.checkpoints.fields import check_types, named_damage, read_object
from scanpy_sct.checkpoints.unpickle import read_arrays

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor

    from scanpy_sct.model import ReleasedConfig

RELEASED_LICENSE = "CC BY-NC-SA 4.0"
RELEASED_MASK_FRACTION = 0.15
RELEASED_N_GENES = 19_968
UNUSED_OPTIONS = {"interpolation_method", "max_positions", "embeddings_layers_to_save", "attention_maps_to_save"}
"""Options of the released files that the reference never reads, or that only add outputs."""
CONFIG_FILE, WEIGHTS_FILE, SUBFOLDER = "config.json", "params.joblib", "jax_params"
PREFIXES = ("long_range_nt/", "s_ct/")
"""Common first part of the stored names: the name of the network in the reference, or its default name."""

Rule = tuple[str, str, Callable[[np.ndarray], np.ndarray]]
"""Name of a stored array (such as ``stem/conv1_d w``), name of the weight in the torch network, conversion."""


def is_released(folder: str | PathLike[str]) -> bool:
    """Return whether ``folder`` has the released files, itself or in its subfolder `jax_params`."""
    return _find_folder(folder) is not None


def read_released(folder: str | PathLike[str], *, name: str | None = None) -> Checkpoint:
    """Read a network in the released layout.

    Parameters
    ----------
    folder
        Folder with `config.json` and `params.joblib`, or with a subfolder `jax_params` that has them.
    name
        Name of the checkpoint; by default that of the folder.

    Raises
    ------
    ValueError
        If a file is missing, the weights file has anything but arrays (see
        :func:`~scanpy_sct.checkpoints.unpickle.read_arrays`), or the arrays do not match the configuration.
    """
    source = _find_folder(folder)
    if source is None:
        msg = (
            f"folder={str(folder)!r} has no {CONFIG_FILE} with {WEIGHTS_FILE}, nor has its subfolder {SUBFOLDER}; pass "
            "a folder with both files."
        )
        raise ValueError(msg)
    weights = source / WEIGHTS_FILE
    with named_damage(f"The checkpoint in {str(source)!r}"):
        config = _read_config(source / CONFIG_FILE)
        arrays = _flatten(read_arrays(weights))
        n_genes = _count_genes(arrays, weights)
        network = build_network(config, n_genes, _to_tensors(arrays, config, weights), str(weights))
    name = name or Path(folder).resolve().name
    mention_license(name, RELEASED_LICENSE)
    return Checkpoint(
        name=name,
        network=network,
        # The reference was trained on counts per 10,000.
        tokens=TokenSettings(binning="uniform", scale="log1p_cp10k"),
        mask_fraction=RELEASED_MASK_FRACTION,
        genes=_genes(n_genes),
        license=RELEASED_LICENSE,
        sha256=hash_file(weights),
    )


def _find_folder(folder: str | PathLike[str]) -> Path | None:
    for candidate in (Path(folder), Path(folder) / SUBFOLDER):
        if (candidate / CONFIG_FILE).is_file() and (candidate / WEIGHTS_FILE).is_file():
            return candidate
    return None


def _read_config(path: Path) -> ReleasedConfig:
    from scanpy_sct.model import ReleasedConfig

    values = read_object(path)
    known = {field.name for field in fields(ReleasedConfig)}
    unknown = sorted(set(values) - known - UNUSED_OPTIONS)
    if unknown:
        msg = (
            f"{path} has the unknown options {unknown}, so it belongs to another network than the released one, or to "
            "a newer one; update scanpy_sct, or use another checkpoint."
        )
        raise ValueError(msg)
    check_types(ReleasedConfig, values, str(path))
    return ReleasedConfig(**{name: value for name, value in values.items() if name in known})


def _flatten(modules: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return ``{"stem/conv1_d w": array, ...}``, without the common prefix."""
    prefix = next((each for each in PREFIXES if all(path.startswith(each) for path in modules)), "")
    named = [(path.removeprefix(prefix), name, array) for path, each in modules.items() for name, array in each.items()]
    return {f"{path} {name}": array for path, name, array in named}


def _count_genes(arrays: dict[str, np.ndarray], weights: Path) -> int:
    """Return the size of the first gene norm, which has one scale per gene."""
    first_norm = "conv_block_0/conv_block/layer_norm scale"
    if first_norm not in arrays:
        msg = f"{weights} has no array {first_norm!r}, so it is not an sCT network; use another checkpoint."
        raise ValueError(msg)
    return arrays[first_norm].size


def _genes(n_genes: int) -> np.ndarray:
    """Return the released vocabulary; a network of another size has an unknown vocabulary."""
    if n_genes != RELEASED_N_GENES:
        return np.full(n_genes, "", dtype=str)
    from scanpy_sct.read.genes import released_vocabulary

    return released_vocabulary()


def _to_tensors(arrays: dict[str, np.ndarray], config: ReleasedConfig, weights: Path) -> dict[str, Tensor]:
    """Convert all arrays for torch; rules and arrays must match one to one."""
    import torch

    rules = list(_rules(config))
    check_names(arrays, [stored for stored, _, _ in rules], str(weights))
    tensors, wrong = {}, []
    for stored, name, convert in rules:
        try:
            tensors[name] = torch.from_numpy(np.ascontiguousarray(convert(arrays[stored]), dtype=np.float32))
        except ValueError:  # an array without the axes that the conversion moves
            wrong.append(f"{stored} {arrays[stored].shape}")
    if wrong:
        msg = f"{weights} has arrays of the wrong shape: {shorten(wrong)}. {COPY_AGAIN}"
        raise ValueError(msg)
    return tensors


def _rules(config: ReleasedConfig) -> Iterator[Rule]:
    """Yield the rule of every array of a network with this configuration."""
    yield "~/embed embeddings", "token_embedding.weight", np.asarray
    if config.use_spatial_information:
        yield from _linear("spatial_encoding/~/spatial_fully_connected", "spatial_encoding.linear")
    yield from _convolution("stem/conv1_d", "stem", _convolution_weight)
    for i in range(config.num_downsamples):
        for path, part in (("conv_block", "conv"), ("residual_conv_block/conv_block", "pointwise")):
            yield from _norm(f"conv_block_{i}/{path}/layer_norm", f"down.{i}.{part}.norm")
            yield from _convolution(f"conv_block_{i}/{path}/conv1_d", f"down.{i}.{part}.conv", _convolution_weight)
    for i in range(config.num_layers):
        yield from _transformer_layer(f"attention_layer_{i}/~", f"layers.{i}")
    for i in range(config.num_downsamples):
        for path, part, convert in (
            ("de_conv_block", "conv", _transposed_weight),
            ("residual_de_conv_block/de_conv_block", "pointwise", _pointwise_weight),
        ):
            yield from _norm(f"deconv_block_{i}/{path}/layer_norm", f"up.{i}.{part}.norm")
            yield from _convolution(f"deconv_block_{i}/{path}/conv1_d_transpose", f"up.{i}.{part}.conv", convert)
    for i in range(config.num_hidden_layers_head + 1):
        yield from _linear(f"linear_{i}" if i else "linear", f"head.{i}")


def _transformer_layer(path: str, name: str) -> Iterator[Rule]:
    yield from _norm(f"{path}/self_attention_layer_norm", f"{name}.attention_norm")
    for stored, part in (("query", "query"), ("key", "key"), ("value", "value"), ("mha_output", "output")):
        yield from _linear(f"{path}/self_attention/{stored}", f"{name}.attention.{part}")
    yield from _norm(f"{path}/final_layer_norm", f"{name}.mlp_norm")
    yield f"{path}/fc1 w", f"{name}.mlp_in.weight", np.transpose
    yield f"{path}/fc2 w", f"{name}.mlp_out.weight", np.transpose


def _norm(path: str, name: str) -> Iterator[Rule]:
    yield f"{path} scale", f"{name}.weight", np.asarray
    yield f"{path} offset", f"{name}.bias", np.asarray


def _linear(path: str, name: str) -> Iterator[Rule]:
    """(in, out) -> (out, in)."""
    yield f"{path} w", f"{name}.weight", np.transpose
    yield f"{path} b", f"{name}.bias", np.asarray


def _convolution(path: str, name: str, convert: Callable[[np.ndarray], np.ndarray]) -> Iterator[Rule]:
    """Bias: (out, 1) -> (out,)."""
    yield f"{path} w", f"{name}.weight", convert
    yield f"{path} b", f"{name}.bias", lambda bias: bias.squeeze(1)


def _convolution_weight(weight: np.ndarray) -> np.ndarray:
    """(kernel, in, out) -> (out, in, 1, kernel)."""
    return weight.transpose(2, 1, 0)[:, :, None]


def _transposed_weight(weight: np.ndarray) -> np.ndarray:
    """(kernel, out, in) -> (in, out, 1, kernel), reversed: torch's transposed convolution runs the other way."""
    return weight[::-1].transpose(2, 1, 0)[:, :, None]


def _pointwise_weight(weight: np.ndarray) -> np.ndarray:
    """(1, out, in) -> (out, in, 1, 1)."""
    return weight.transpose(1, 2, 0)[:, :, None]
