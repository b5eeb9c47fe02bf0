"""Annotation by the label head of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import softmax

from scanpy_sct.annotate.labels import Annotation, empty_cells
from scanpy_sct.embed.cells import embed_cells

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint, LabelHead
    from scanpy_sct.read.reader import CellReader
    from scanpy_sct.run.options import ComputeOptions


@dataclass(frozen=True)
class LabelHeadAnnotator:
    """Applies the label head of the checkpoint to the cell embedding."""

    name: ClassVar[str] = "label_head"
    learns: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Embed the cells and apply the label head; a ValueError if the checkpoint has none."""
        head = checkpoint.label_head
        if head is None:
            msg = (
                f"The model {checkpoint.name!r} has no label head; pass reference= and labels_key= (labelled cells) or "
                "markers= (genes of each type), or fit a label head with sct.train.fit_label_head."
            )
            raise ValueError(msg)
        probabilities = label_probabilities(head, embed_cells(checkpoint, cells, options))
        return Annotation(head.labels, probabilities, empty_cells(cells), details={"source": self.name})


def label_probabilities(head: LabelHead, features: np.ndarray) -> np.ndarray:
    """Return the probability of each label, (n_cells, n_labels) float64, from ``features`` (n_cells, n_features)."""
    n_features = head.weight.shape[1]
    if features.shape[1] != n_features:
        msg = f"The label head reads {n_features} features of a cell; found {features.shape[1]}."
        raise ValueError(msg)
    scaled = (features.astype(np.float64) - head.feature_mean) / head.feature_scale
    return softmax((scaled @ head.weight.T + head.bias) / head.temperature, axis=1)
