"""Annotation by labelled cells: an ensemble on their expression and, where both objects look alike, their embedding."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.cells import empty_cells, with_measured
from scanpy_sct.annotate.ensemble import fit_ensemble
from scanpy_sct.annotate.features import (
    difference,
    normalised_genes,
    principal_components,
    standardisation,
    variable_genes,
)
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, Annotation
from scanpy_sct.annotate.novelty import estimate_novelty
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.run.checks import check_computable

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 50
MAX_DIFFERENCE = 0.7
"""Beyond this AUC between reference and query the embedding is not used.

Measured (benchmarks/annotation.py): where both are parts of one data set it helps. Between studies the embedding
carries over less well than expression does, and cross-validation within the reference cannot show that.
"""
SUSPICIOUS_DIFFERENCE = 0.99
"""Beyond this AUC the user is warned: another protocol cannot be distinguished from another tissue."""
EMBEDDING_WEIGHT = 0.3
"""Standard deviation of a feature of the embedding, beside a mean of 1 for the principal components."""


@dataclass(frozen=True)
class ReferenceAnnotator:
    """Learns labels from a reference, from the genes that reference and query both measured."""

    name: ClassVar[str] = "reference"
    learns: ClassVar[bool] = True
    calibrated: ClassVar[bool] = True

    cells: CellBlock
    """All cells of the reference."""
    labels: np.ndarray
    """(n_cells,) strings."""
    usable: np.ndarray
    """(n_cells,) bool: cells to learn from."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Fit an ensemble to the reference, and apply it."""
        shared = self._shared_genes(checkpoint, cells)
        reference_options = replace(options, bags="random")
        check_computable(checkpoint, self.cells, reference_options)
        rows = draw_per_label(self.labels, MAX_CELLS_PER_LABEL, options.seed, self.usable)
        labels = self.labels[rows]
        # Genes that only one side measured would separate both, so neither the components nor the network reads them.
        query, known = (with_measured(block, shared) for block in (cells.block(), self.cells.block(rows)))
        values = [normalised_genes(part.token_values, shared) for part in (known, query)]
        known_views, views = _component_views(*values, options.seed)
        # The last two views are the halves of the variable genes.
        auc = difference(np.hstack(known_views[2:]), np.hstack(views[2:]), options.seed)
        if auc <= MAX_DIFFERENCE:
            vectors = embed_cells(checkpoint, known, reference_options), embed_cells(checkpoint, query, options)
            known_part, part = _scaled_embeddings(*vectors)
        else:
            _log_difference(auc)
            known_part, part = np.empty((known.n_cells, 0)), np.empty((query.n_cells, 0))
        known_views, views = _append(known_views, known_part), _append(views, part)
        ensemble = fit_ensemble(known_views, labels, known.samples, options.seed)
        empty = empty_cells(query)
        details = {
            "cells": len(rows),
            "shared_genes": len(shared),
            "difference": auc,
            "embedding": auc <= MAX_DIFFERENCE,
            "calibrated_on": ensemble.held_out,
        }
        return Annotation(
            labels=ensemble.labels,
            probabilities=ensemble.probabilities(views),
            empty=empty,
            novelty=estimate_novelty(*values, labels, ensemble.energy(views), empty, options.seed),
            details={"source": self.name, "reference": details},
        )

    def _shared_genes(self, checkpoint: Checkpoint, cells: CellReader) -> np.ndarray:
        """Return the `gene_index` of the genes that both measured."""
        shared = np.flatnonzero(cells.measured & self.cells.measured)
        if len(shared) < MIN_SHARED_GENES:
            msg = (
                f"reference and adata share {len(shared)} genes that the model {checkpoint.name!r} knows; at least "
                f"{MIN_SHARED_GENES} are needed: give a reference that measured the same genes."
            )
            raise ValueError(msg)
        return shared


Views = list[np.ndarray]


def _component_views(known: sparse.csr_matrix, query: sparse.csr_matrix, seed: int) -> tuple[Views, Views]:
    """Principal components of four sets of genes, for both: two halves of all genes, two of the most variable ones."""
    rng = np.random.default_rng(seed)
    everything, variable = np.arange(known.shape[1]), np.flatnonzero(variable_genes(known))
    halves = [half for genes in (everything, variable) for half in np.array_split(rng.permutation(genes), 2)]
    pairs = [principal_components(known[:, half], query[:, half], seed) for half in halves]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _scaled_embeddings(known: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardise both embeddings by that of the reference, and give them their weight."""
    mean, scale = standardisation(known)
    return EMBEDDING_WEIGHT * (known - mean) / scale, EMBEDDING_WEIGHT * (query - mean) / scale


def _append(views: Views, embedding: np.ndarray) -> Views:
    return [np.hstack([view, embedding]) for view in views]


def _log_difference(auc: float) -> None:
    if auc < SUSPICIOUS_DIFFERENCE:
        logger.info("Reference and query differ (AUC %.2f): labels are learnt from expression alone.", auc)
        return
    logger.warning(
        "Cells of adata and of the reference can be separated almost without error (AUC %.4f): they come from another "
        "protocol or another tissue. If the reference lacks most cell types of adata, do not rely on labels and "
        "novelty.",
        auc,
    )
