"""What label heads predict with: classifiers of expression, or of the cell embedding. Only their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

Reads = Literal["expression", "embedding"]
"""What a label head reads of a cell."""


@dataclass(frozen=True, eq=False)
class ExpressionClassifier:
    """A linear classifier of the expression x of marker genes: logits ``x @ weight.T + bias``.

    x is log1p of counts per 10,000 of a longer list of genes, those that all training cells have.
    """

    reads: ClassVar[Reads] = "expression"
    ARRAYS: ClassVar[tuple[str, ...]] = ("weight", "bias", "marker_mean", "gene_rate", "gene_index", "marker_index")

    weight: np.ndarray
    """(n_labels, n_markers) float32."""
    bias: np.ndarray
    """(n_labels,) float32."""
    marker_mean: np.ndarray
    """(n_markers,) float32: mean of x over the training cells, which stands for markers that the data lack."""
    gene_rate: np.ndarray
    """(n_genes,) float32: mean counts per 10,000 over the training cells, positive."""
    gene_index: np.ndarray
    """(n_genes,) int32, increasing: index of each gene in the genes of the network."""
    marker_index: np.ndarray
    """(n_markers,) int32, increasing: index of each marker, some of ``gene_index``."""

    def __post_init__(self) -> None:
        n_markers = len(self.marker_index)
        shapes = {"weight": (len(self.bias), n_markers), "bias": (len(self.weight),)}
        _check_arrays(self, shapes | {"marker_mean": (n_markers,), "gene_rate": (len(self.gene_index),)})
        for name in ("gene_index", "marker_index"):
            index = getattr(self, name)
            if index.dtype != np.int32 or not index.size or index[0] < 0 or (np.diff(index) <= 0).any():
                msg = f"{name} of the label head must be int32, not negative, increasing, and at least one gene."
                raise ValueError(msg)
        others = np.setdiff1d(self.marker_index, self.gene_index)
        if len(others):
            msg = f"marker_index of the label head must be some of its gene_index; found others: {others[:5].tolist()}."
            raise ValueError(msg)
        if (self.gene_rate <= 0).any():
            msg = f"gene_rate of the label head must be positive; found {self.gene_rate.min():g}."
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class EmbeddingClassifier:
    """A linear classifier of the cell embedding x: logits ``(x - feature_mean) / feature_scale @ weight.T + bias``."""

    reads: ClassVar[Reads] = "embedding"
    ARRAYS: ClassVar[tuple[str, ...]] = ("weight", "bias", "feature_mean", "feature_scale")

    weight: np.ndarray
    """(n_labels, n_features) float32."""
    bias: np.ndarray
    """(n_labels,) float32."""
    feature_mean: np.ndarray
    """(n_features,) float32: mean of the embedding over the training cells."""
    feature_scale: np.ndarray
    """(n_features,) float32: standard deviation of the embedding over the training cells."""

    def __post_init__(self) -> None:
        n_features = self.weight.shape[-1]
        expected = {"weight": (len(self.bias), n_features), "bias": (len(self.weight),)}
        _check_arrays(self, expected | dict.fromkeys(("feature_mean", "feature_scale"), (n_features,)))
        if (self.feature_scale <= 0).any():
            msg = f"feature_scale of the label head must be positive; found {self.feature_scale.min():g}."
            raise ValueError(msg)


LabelClassifier = ExpressionClassifier | EmbeddingClassifier
CLASSIFIERS: dict[str, type[LabelClassifier]] = {
    kind.reads: kind for kind in (ExpressionClassifier, EmbeddingClassifier)
}


def _check_arrays(classifier: LabelClassifier, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        values = getattr(classifier, name)
        if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
            refuse_array(name, shape, values)


def refuse_array(name: str, shape: tuple[int, ...], values: np.ndarray) -> None:
    """Raise the error of an array of a head that has another shape or type, or values that are not finite."""
    msg = (
        f"{name} of the label head must be finite float32 of shape {shape}; "
        f"found {values.dtype} of shape {values.shape}."
    )
    raise ValueError(msg)
