"""What a checkpoint is: a network together with everything needed to use it as it was trained."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scanpy_sct.plan.bins import Binning

if TYPE_CHECKING:
    from torch import Tensor

    # Imported by name only: torch takes seconds, and listing checkpoints needs none of it.
    from scanpy_sct.model import CompactConfig, CompactNetwork, ReleasedConfig, ReleasedNetwork

logger = logging.getLogger(__name__)

Scale = Literal["log1p_counts", "log1p_cp10k"]
Coordinates = Literal["given", "spacing"]
Architecture = Literal["released", "compact"]


@dataclass(frozen=True)
class TokenSettings:
    """How expression values become tokens for this network."""

    binning: Binning = "uniform"
    """Bins of equal width, or of 1, 2, 3-4, 5-8, ... counts."""
    scale: Scale = "log1p_counts"
    """Values that are binned: log1p of counts, or of counts per 10,000."""

    def __post_init__(self) -> None:
        _check_choice("binning", self.binning, Binning)
        _check_choice("scale", self.scale, Scale)
        if self.binning == "counts" and self.scale != "log1p_counts":
            msg = f"binning='counts' needs scale='log1p_counts', found {self.scale!r}: other values are not counts."
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A linear classifier of cells on this network's embedding.

    The probability of each label is ``softmax(((x - feature_mean) / feature_scale @ weight.T + bias) / temperature)``.
    """

    labels: tuple[str, ...]
    weight: np.ndarray
    """(n_labels, n_features) float32."""
    bias: np.ndarray
    """(n_labels,) float32."""
    feature_mean: np.ndarray
    """(n_features,) float32: mean of the embedding over the training cells."""
    feature_scale: np.ndarray
    """(n_features,) float32: standard deviation of the embedding over the training cells."""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            msg = f"labels must be different names, at least one; found {self.labels}."
            raise ValueError(msg)
        n_features = self.weight.shape[-1]
        expected = {"weight": (len(self.labels), n_features), "bias": (len(self.labels),)}
        expected |= dict.fromkeys(("feature_mean", "feature_scale"), (n_features,))
        for name, shape in expected.items():
            values = getattr(self, name)
            if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
                msg = (
                    f"{name} of the label head must be finite float32 of shape {shape}; "
                    f"found {values.dtype} of shape {values.shape}."
                )
                raise ValueError(msg)
        if (self.feature_scale <= 0).any():
            msg = "feature_scale of the label head must be positive."
            raise ValueError(msg)
        _check_positive("temperature of the label head", self.temperature)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network with its genes and how expression becomes tokens for it."""

    name: str
    network: CompactNetwork | ReleasedNetwork
    """The torch module: float32, on the CPU, in evaluation mode."""
    tokens: TokenSettings
    mask_fraction: float
    """Fraction of the tokens that is masked at once, between 0 and 1."""
    genes: np.ndarray
    """(n_genes,) Ensembl id of each gene of the network, "" where there is none (padding, retired genes)."""
    coordinates: Coordinates = "given"
    """Unit of the coordinates that a network reads: as they are given, or the median distance of the cells of a sample
    to their nearest neighbour, from the middle of the sample."""
    label_head: LabelHead | None = None
    license: str = "unknown"
    revision: str | None = None
    """Commit of the repository the weights came from."""
    sha256: str = ""
    """Hash of the weights file; empty while there is none."""

    def __post_init__(self) -> None:
        if self.genes.shape != (self.network.n_genes,):
            msg = f"genes has shape {self.genes.shape}, and the network reads {self.network.n_genes} genes."
            raise ValueError(msg)
        named, counts = np.unique(self.genes[self.genes != ""], return_counts=True)
        if (counts > 1).any():
            msg = f"genes has ids more than once: {named[counts > 1][:5].tolist()}."
            raise ValueError(msg)
        if not 0 < self.mask_fraction < 1:
            msg = f"mask_fraction={self.mask_fraction} must lie between 0 and 1."
            raise ValueError(msg)
        _check_choice("coordinates", self.coordinates, Coordinates)

    def __repr__(self) -> str:
        labels = "none" if self.label_head is None else f"{len(self.label_head.labels):,} types"
        return "\n".join(
            [
                f"Checkpoint {self.name!r}",
                f"    genes: {int((self.genes != '').sum()):,}",
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
    def architecture(self) -> Architecture:
        """Kind of the network."""
        return "compact" if self.network.has_cell_embedding else "released"

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers in the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def describe(self) -> str:
        """Return the main facts as a few lines of Markdown."""
        tokens, config = self.tokens, self.config
        scale = "log1p of counts" if tokens.scale == "log1p_counts" else "log1p of counts per 10,000"
        widths = {"uniform": "of equal width", "counts": "of doubling counts"}
        lines = [
            f"- name: {self.name}",
            f"- architecture: {self.architecture}",
            f"- parameters: {self.n_parameters:,}",
            f"- genes: {int((self.genes != '').sum()):,} of {len(self.genes):,} that the network reads",
            f"- tokens: zero and {config.n_bins - 1} bins {widths[tokens.binning]} per cell, {scale}; unmeasured genes "
            "are masked",
            f"- mask fraction: {self.mask_fraction:g}",
            f"- bag size: {config.bag_size} cells"
            + (f", with coordinates ({self.coordinates})" if config.reads_coordinates else ""),
        ]
        if self.label_head is not None:
            lines.append(f"- labels: {'; '.join(self.label_head.labels)}")
        lines.append(f"- licence of the weights: {self.license}")
        if self.revision:
            lines.append(f"- revision: {self.revision}")
        if self.sha256:
            lines.append(f"- sha256 of the weights file: {self.sha256}")
        return "\n".join(lines)


def build_network(
    config: CompactConfig | ReleasedConfig, n_genes: int, tensors: Mapping[str, Tensor], source: str
) -> CompactNetwork | ReleasedNetwork:
    """Make the network and fill it with ``tensors``, every one of which must have its place and its shape.

    Parameters
    ----------
    config, n_genes
        Shape of the network.
    tensors
        Weights by their name in the network.
    source
        File the weights came from, for messages.

    Raises
    ------
    ValueError
        If a tensor is missing, has no place, has another shape than the network's, or is not finite.
    """
    import torch

    from scanpy_sct.model import make_network

    with torch.random.fork_rng(devices=[]):  # the random starting weights leave the user's random state as it was
        network = make_network(config, n_genes)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_names(found, expected, source)
    wrong = [f"{name} {found[name]}, expected {shape}" for name, shape in expected.items() if found[name] != shape]
    if wrong:
        msg = f"{source} holds arrays of the wrong shape: {shorten(wrong)}."
        raise ValueError(msg)
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        msg = f"{source} holds NaN or infinite weights: {shorten(broken)}."
        raise ValueError(msg)
    network.load_state_dict(tensors, strict=True)
    return network.float().eval()


def check_names(found: Mapping[str, object], expected: Mapping[str, object], source: str) -> None:
    """Raise a ValueError that lists the names of ``expected`` that are missing, and those found beside them."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        parts = [f"{word}: {shorten(names)}" for word, names in (("missing", missing), ("unknown", extra)) if names]
        msg = f"{source} does not hold the weights that its config.json describes; {'; '.join(parts)}."
        raise ValueError(msg)


def check_keys(found: Collection[str], expected: Collection[str], where: str) -> None:
    """Raise a ValueError that lists the keys that are missing and those that are unknown."""
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unknown:
        msg = f"{where} lacks the keys {missing} and has the unknown keys {unknown}."
        raise ValueError(msg)


def shorten(names: list[str], most: int = 6) -> str:
    """Join ``names``, and only count those after the first few."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


@cache
def mention_license(name: str, license: str) -> None:
    """Log, once for each checkpoint, a licence that forbids commercial use."""
    if "NC" in license.replace("-", " ").split():
        logger.warning("The weights of %s are licensed under %s: not for commercial use.", name, license)


def _check_choice(name: str, value: object, choices: object) -> None:
    if value not in get_args(choices):
        msg = f"{name}={value!r} is not known; use one of {', '.join(map(repr, get_args(choices)))}."
        raise ValueError(msg)


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        msg = f"{name} must be positive; found {value}."
        raise ValueError(msg)
