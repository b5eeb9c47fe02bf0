"""A checkpoint: a network with everything needed to use it as it was trained."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scanpy_sct.plan.bins import Binning

if TYPE_CHECKING:
    from torch import Tensor

    from scanpy_sct.checkpoints.label_head import LabelHead

    # Imported by name only: torch takes seconds, and listing checkpoints needs none of it.
    from scanpy_sct.model import CompactConfig, CompactNetwork, ReleasedConfig, ReleasedNetwork

logger = logging.getLogger(__name__)

Scale = Literal["log1p_counts", "log1p_cp10k"]
Coordinates = Literal["given", "spacing"]

COPY_AGAIN = "Copy or download the checkpoint again."
"""What helps where files are damaged, incomplete or from different checkpoints."""


@dataclass(frozen=True)
class TokenSettings:
    """How expression values become tokens."""

    binning: Binning = "uniform"
    """Bins of equal width, or of 1, 2, 3-4, 5-8, ... counts."""
    scale: Scale = "log1p_counts"
    """Values that are binned: log1p of counts, or of counts per 10,000."""

    def __post_init__(self) -> None:
        _check_choice("binning", self.binning, Binning)
        _check_choice("scale", self.scale, Scale)
        if self.binning == "counts" and self.scale != "log1p_counts":
            msg = f"binning='counts' must have scale='log1p_counts', found {self.scale!r}: other values are not counts."
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network with its genes and token settings."""

    name: str
    network: CompactNetwork | ReleasedNetwork
    """The torch module: float32, on the CPU, in evaluation mode."""
    tokens: TokenSettings
    mask_fraction: float
    """Fraction of the tokens that are masked in each pass, between 0 and 1."""
    genes: np.ndarray
    """(n_genes,) Ensembl id of each gene of the network, "" where there is none (padding, retired genes)."""
    coordinates: Coordinates = "given"
    """Unit of the coordinates that a network reads: `"given"`, as in the data; `"spacing"`, the median distance of the
    cells of a sample to their nearest neighbour, with the middle of the sample at 0."""
    label_head: LabelHead | None = None
    license: str = "unknown"
    revision: str | None = None
    """Commit of the hub repository that the weights come from."""
    sha256: str = ""
    """Hash of the weights file; empty if there is none."""

    def __post_init__(self) -> None:
        if self.genes.shape != (self.network.n_genes,):
            msg = f"genes has shape {self.genes.shape}, expected ({self.network.n_genes},), the genes of the network."
            raise ValueError(msg)
        named, counts = np.unique(self.genes[self.genes != ""], return_counts=True)
        if (counts > 1).any():
            msg = (
                f"genes has duplicate ids: {named[counts > 1][:5].tolist()}; give each gene once, or '' where it has "
                "no id."
            )
            raise ValueError(msg)
        if not 0 < self.mask_fraction < 1:
            msg = f"mask_fraction={self.mask_fraction} must be between 0 and 1."
            raise ValueError(msg)
        _check_choice("coordinates", self.coordinates, Coordinates)
        if self.label_head is not None:
            self.label_head.check_fits(len(self.genes))

    def __repr__(self) -> str:
        labels = "none" if self.label_head is None else f"{len(self.label_head.labels):,} types"
        return "\n".join(
            [
                f"Checkpoint {self.name!r}",
                f"    genes: {self.n_known_genes:,}",
                f"    parameters: {self.n_parameters:,}",
                f"    architecture: {self.architecture}",
                f"    label head: {labels}",
                f"    licence: {self.license}",
            ]
        )

    @property
    def config(self) -> CompactConfig | ReleasedConfig:
        """Configuration of the network."""
        return self.network.config

    @property
    def architecture(self) -> Literal["released", "compact"]:
        """Kind of the network."""
        return "compact" if self.network.has_cell_embedding else "released"

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def n_known_genes(self) -> int:
        """Number of genes with an Ensembl id."""
        return int((self.genes != "").sum())

    def describe(self) -> str:
        """Return the main facts as a few lines of Markdown."""
        tokens, config = self.tokens, self.config
        scale = "log1p of counts" if tokens.scale == "log1p_counts" else "log1p of counts per 10,000"
        widths = {"uniform": "of equal width", "counts": "of doubling counts"}
        lines = [
            f"- name: {self.name}",
            f"- architecture: {self.architecture}",
            f"- parameters: {self.n_parameters:,}",
            f"- genes: {self.n_known_genes:,} of {len(self.genes):,} that the network reads",
            f"- tokens: zero and {config.n_bins - 1} bins {widths[tokens.binning]} per cell, {scale}; unmeasured genes "
            "are masked",
            f"- mask fraction: {self.mask_fraction:g}",
            f"- bag size: {config.bag_size} cells"
            + (f", with coordinates ({self.coordinates})" if config.reads_coordinates else ""),
        ]
        if self.label_head is not None:
            lines.append(f"- labels: {self.label_head.describe()}")
        lines.append(f"- licence of the weights: {self.license}")
        if self.revision:
            lines.append(f"- revision: {self.revision}")
        if self.sha256:
            lines.append(f"- sha256 of the weights file: {self.sha256}")
        return "\n".join(lines)


def build_network(
    config: CompactConfig | ReleasedConfig, n_genes: int, tensors: Mapping[str, Tensor], source: str
) -> CompactNetwork | ReleasedNetwork:
    """Make the network and load ``tensors``, its weights by name, into it.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, of another shape than the network's, or not finite; the message names
        ``source``, the file.
    """
    import torch

    from scanpy_sct.model import make_network

    with torch.device("meta"):  # without memory and random numbers: all that it needs is in the file
        network = make_network(config, n_genes)
    expected = {name: tuple(each.shape) for name, each in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_names(found, expected, source)
    wrong = [f"{name} {found[name]}, expected {shape}" for name, shape in expected.items() if found[name] != shape]
    if wrong:
        msg = f"{source} has arrays of the wrong shape: {shorten(wrong)}. {COPY_AGAIN}"
        raise ValueError(msg)
    broken = [name for name, each in tensors.items() if not (each.is_floating_point() and torch.isfinite(each).all())]
    if broken:
        msg = f"{source} has weights that are NaN, infinite or not real numbers: {shorten(broken)}. {COPY_AGAIN}"
        raise ValueError(msg)
    # Copies, as tensors of a file lie where reading put them, and may belong to the caller.
    copies = {
        name: each.to(torch.float32, copy=True, memory_format=torch.contiguous_format) for name, each in tensors.items()
    }
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()


def check_names(found: Iterable[str], expected: Iterable[str], source: str) -> None:
    """Raise a ValueError that lists the names that ``source`` lacks, and those that are unknown."""
    found, expected = dict.fromkeys(found), dict.fromkeys(expected)
    missing, unknown = (
        [name for name in expected if name not in found],
        [name for name in found if name not in expected],
    )
    if missing or unknown:
        lists = [f"{word}: {shorten(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names]
        msg = f"{source} does not have the expected names; {'; '.join(lists)}. {COPY_AGAIN}"
        raise ValueError(msg)


def shorten(names: list[str], most: int = 6) -> str:
    """Join the first few names, and count the others."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def mention_license(name: str, license: str) -> None:
    """Log a licence that forbids commercial use, once for each checkpoint."""
    if "NC" in license.replace("-", " ").split():
        logger.warning("The weights of %s are licensed under %s: not for commercial use.", name, license)


def _check_choice(name: str, value: object, choices: object) -> None:
    if value not in get_args(choices):
        msg = f"{name}={value!r} is not known; use one of {', '.join(map(repr, get_args(choices)))}."
        raise ValueError(msg)
