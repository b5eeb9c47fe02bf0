"""What a checkpoint is: a network together with everything needed to use it as it was trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    # Imported by name only: torch takes seconds, and listing checkpoints needs none of it.
    from scanpy_sct.model import Sct, SctConfig

logger = logging.getLogger(__name__)

Binning = Literal["uniform", "quantile", "counts"]
Scale = Literal["log1p_counts", "log1p_cp10k"]
Unmeasured = Literal["mask", "zero"]
Embedding = Literal["transformer", "cell"]
Path = Literal["full", "direct"]
Coordinates = Literal["given", "spacing"]


@dataclass(frozen=True)
class TokenSettings:
    """How expression values become tokens for this network."""

    n_bins: int = 4
    """Expression bins of a cell; token 0 means not expressed."""
    binning: Binning = "uniform"
    """Bins of equal width, with equal numbers of genes, or of 1, 2, 3-4, 5-8, ... counts."""
    scale: Scale = "log1p_counts"
    """Values that are binned: log1p of counts, or of counts per 10,000."""
    unmeasured: Unmeasured = "mask"
    """Token of a gene that was not measured: the mask token, or 0 as if it were measured and absent."""

    def __post_init__(self) -> None:
        if self.n_bins < 1:
            msg = f"n_bins={self.n_bins} must be at least 1."
            raise ValueError(msg)
        _check_choice("binning", self.binning, Binning)
        _check_choice("scale", self.scale, Scale)
        _check_choice("unmeasured", self.unmeasured, Unmeasured)
        if self.binning == "counts" and self.scale != "log1p_counts":
            msg = f"binning='counts' needs scale='log1p_counts', found {self.scale!r}: other values are no counts."
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
    """A trained network with its genes, tokens and training facts."""

    name: str
    config: SctConfig
    tokens: TokenSettings
    mask_fraction: float
    """Share of the tokens hidden during training, between 0 and 1."""
    genes: np.ndarray
    """(n_genes,) Ensembl id at each position of the network, "" where there is none (padding, retired genes)."""
    network: Sct
    """The torch module: float32, on the CPU, in evaluation mode."""
    temperature: float = 1.0
    """Logits are divided by it before they become probabilities."""
    embedding: Embedding = "transformer"
    """Which output stands for a cell: the mean of the transformer's positions, or the direct cell embedding."""
    path: Path = "full"
    """Part of the network that predicts unless the user says otherwise: all of it, or only the direct paths."""
    coordinates: Coordinates = "given"
    """Unit of the coordinates that a network with spatial information reads: as they are given, or the median distance
    of the cells of a sample to their nearest neighbor, from the middle of the sample."""
    label_head: LabelHead | None = None
    license: str = "unknown"
    revision: str | None = None
    """Commit of the repository the weights came from."""
    sha256: str = ""
    """Hash of the weights file; empty while there is none."""

    def __post_init__(self) -> None:
        if self.network.config != self.config or self.genes.shape != (self.network.n_genes,):
            msg = (
                f"config and genes (shape {self.genes.shape}) must be those of the network, which has "
                f"{self.network.n_genes} positions."
            )
            raise ValueError(msg)
        named, counts = np.unique(self.genes[self.genes != ""], return_counts=True)
        if (counts > 1).any():
            msg = f"genes has ids at more than one position: {named[counts > 1][:5].tolist()}."
            raise ValueError(msg)
        if self.tokens.n_bins + 1 != self.config.num_bins:
            msg = (
                f"tokens.n_bins={self.tokens.n_bins} does not fit the network, which has {self.config.num_bins} levels."
            )
            raise ValueError(msg)
        if not 0 < self.mask_fraction < 1:
            msg = f"mask_fraction={self.mask_fraction} must lie between 0 and 1."
            raise ValueError(msg)
        _check_positive("temperature", self.temperature)
        _check_choice("embedding", self.embedding, Embedding)
        _check_choice("path", self.path, Path)
        _check_choice("coordinates", self.coordinates, Coordinates)
        if self.path == "direct" and not self.config.context:
            msg = "path='direct' needs a network with direct paths (context=True)."
            raise ValueError(msg)
        if not self.config.convolutions and (self.path, self.embedding) != ("direct", "cell"):
            msg = (
                f"path={self.path!r} and embedding={self.embedding!r} must be 'direct' and 'cell': the network has no "
                "convolutions."
            )
            raise ValueError(msg)
        if self.embedding == "cell" and not self.config.cell_dim:
            msg = "embedding='cell' needs a network with a direct cell embedding (cell_dim > 0)."
            raise ValueError(msg)

    def __repr__(self) -> str:
        labels = "none" if self.label_head is None else f"{len(self.label_head.labels):,} types"
        return "\n".join(
            [
                f"Checkpoint {self.name!r}",
                f"    genes: {int((self.genes != '').sum()):,}",
                f"    parameters: {self.n_parameters:,}",
                f"    path: {self.path}, embedding: {self.embedding}",
                f"    label head: {labels}",
                f"    licence: {self.license}",
            ]
        )

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers in the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def describe(self) -> str:
        """Return the main facts as a few lines of Markdown."""
        tokens, config = self.tokens, self.config
        scale = "log1p of counts" if tokens.scale == "log1p_counts" else "log1p of counts per 10,000"
        widths = {"uniform": "of equal width", "quantile": "of equal size (quantiles)", "counts": "of doubling counts"}
        coding = "masked" if tokens.unmeasured == "mask" else "coded as zero"
        lines = [
            f"- name: {self.name}",
            f"- parameters: {self.n_parameters:,}",
            f"- genes: {int((self.genes != '').sum()):,} on {len(self.genes):,} positions",
            f"- tokens: {tokens.n_bins} bins {widths[tokens.binning]} per cell, {scale}; unmeasured genes are {coding}",
            f"- mask fraction: {self.mask_fraction:g}",
            f"- bags in training: {config.num_cells} cells"
            + (f", with coordinates ({self.coordinates})" if config.use_spatial_information else ""),
            f"- embedding: {self.embedding}",
            f"- path of predictions by default: {self.path}",
        ]
        if self.label_head is not None:
            lines.append(f"- labels: {'; '.join(self.label_head.labels)}")
        lines.append(f"- licence of the weights: {self.license}")
        if self.revision:
            lines.append(f"- revision: {self.revision}")
        if self.sha256:
            lines.append(f"- sha256 of the weights file: {self.sha256}")
        return "\n".join(lines)


def build_network(config: SctConfig, n_genes: int, tensors: Mapping[str, Tensor], source: str) -> Sct:
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

    from scanpy_sct.model import Sct

    with torch.random.fork_rng(devices=[]):  # the random starting weights leave the user's random state as it was
        network = Sct(config, n_genes)
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
