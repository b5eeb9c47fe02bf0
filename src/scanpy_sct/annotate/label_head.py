"""Annotation by the label head of a checkpoint, which reads expression or the cell embedding."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import softmax

from scanpy_sct.annotate.expression import check_markers, expression_logits, lacks_markers
from scanpy_sct.annotate.home import MIN_SHARED_GENES, check_shared, home_novelty
from scanpy_sct.annotate.labels import Annotation, empty_cells
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier, ExpressionClassifier
from scanpy_sct.embed.cells import embed_cells

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.checkpoints.label_head import LabelHead
    from scanpy_sct.read.reader import CellReader
    from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

ALTERNATIVES = "pass reference= and labels_key= (labelled cells) or markers= (genes of each type)"


@dataclass(frozen=True)
class LabelHeadAnnotator:
    """Applies the label head of the checkpoint."""

    name: ClassVar[str] = "label_head"
    learns: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Apply the label head, and compare the cells with those that it was fitted to.

        Raises
        ------
        ValueError
            The checkpoint has no label head, or the cells share too few genes with those of its fit.
        """
        head = checkpoint.label_head
        if head is None:
            msg = (
                f"The model {checkpoint.name!r} has no label head; {ALTERNATIVES}, or fit a label head with "
                "sct.train.fit_label_head."
            )
            raise ValueError(msg)
        genes = None if head.home is None else check_shared(head.home, cells, checkpoint.name)
        if isinstance(head.classifier, ExpressionClassifier):
            check_markers(head.classifier, cells, checkpoint.name)
        vectors, empty = embed_cells(checkpoint, cells, options, head.relative_to), empty_cells(cells)
        probabilities = label_probabilities(head, cells, vectors)
        if head.home is None:
            _warn_of_unknown_home(checkpoint.name, head)
            return Annotation(head.labels, probabilities, empty, details={"source": self.name})
        novelty = home_novelty(head.home, cells, vectors, empty, genes, options.seed)
        _warn_of_new_cells(checkpoint.name, head, novelty)
        home = {"sources": list(head.home.sources), "cells": list(head.home.n_cells), "shared_genes": len(genes)}
        return Annotation(head.labels, probabilities, empty, novelty, {"source": self.name, "label_head": home})


def can_label(head: LabelHead, measured: np.ndarray) -> bool:
    """Whether the ``measured`` genes, bool (n_genes,), are enough for a head: what `annotate` requires."""
    if isinstance(head.classifier, ExpressionClassifier) and lacks_markers(head.classifier, measured):
        return False
    return head.home is None or int((head.home.measured & measured).sum()) >= MIN_SHARED_GENES


def label_probabilities(head: LabelHead, cells: CellReader, vectors: np.ndarray) -> np.ndarray:
    """Return the probability of each label, (n_cells, n_labels) float64.

    A head reads either the expression of the cells, or ``vectors``, their embedding (n_cells, n_features).
    """
    if isinstance(head.classifier, ExpressionClassifier):
        logits = expression_logits(head.classifier, cells)
    else:
        logits = embedding_logits(head.classifier, vectors)
    return softmax(logits / head.temperature, axis=1)


def embedding_logits(classifier: EmbeddingClassifier, vectors: np.ndarray) -> np.ndarray:
    """Return the logit of each label, (n_cells, n_labels) float64, from the embedding (n_cells, n_features)."""
    n_features = classifier.weight.shape[1]
    if vectors.shape[1] != n_features:
        msg = (
            f"The label head reads {n_features} features of a cell; found {vectors.shape[1]}. Use it with the network "
            "that it was fitted for."
        )
        raise ValueError(msg)
    scaled = (vectors.astype(np.float64) - classifier.feature_mean) / classifier.feature_scale
    return scaled @ classifier.weight.T + classifier.bias


def _warn_of_unknown_home(name: str, head: LabelHead) -> None:
    logger.warning(
        "The label head of %r has no record of the cells that it was fitted to, so cells of other types get its "
        "labels, too. It knows: %s. For other cells, %s.",
        name,
        head.describe(),
        ALTERNATIVES,
    )


def _warn_of_new_cells(name: str, head: LabelHead, novelty: np.ndarray) -> None:
    """Warn if most cells are unlike those of the fit."""
    n_new, n_cells = int(np.sum(novelty > 0.5)), int(np.isfinite(novelty).sum())
    if n_new > n_cells / 2:
        logger.warning(
            "%d of %d cells are unlike all cells that the label head of %r was fitted to: their scores are low, and by "
            "default their label is 'unknown'. It knows: %s. For other cells, %s.",
            n_new,
            n_cells,
            name,
            head.describe(),
            ALTERNATIVES,
        )
