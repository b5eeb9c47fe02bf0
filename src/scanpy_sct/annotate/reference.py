"""Annotation from labelled cells: an ensemble that reads expression and, if the objects are similar, the embedding.

If they are not, a classifier of few genes, which transfers to other protocols, counts as much as the ensemble. With
coordinates, the ensemble may read expression relative to the sample instead, and the labels of the nearest cells.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.classifier import Folds
from scanpy_sct.annotate.ensemble import Ensemble, HeldOut, choose_folds, fit_ensemble
from scanpy_sct.annotate.features import (
    MIN_COMPARED,
    difference,
    normalised_genes,
    standardisation,
)
from scanpy_sct.annotate.few_genes import FewGenes, fit_few_genes
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, Annotation, empty_cells
from scanpy_sct.annotate.novelty import estimate_novelty
from scanpy_sct.annotate.tissue import has_coordinates, mean_of_nearest, sample_means
from scanpy_sct.annotate.views import Views, fit_projection
from scanpy_sct.embed.vectors import cell_vectors
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.read.matrix import consecutive
from scanpy_sct.run.checks import check_computable
from scanpy_sct.sparse_tools import keep_entries

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 50
MAX_DIFFERENCE = 0.7
"""Above this AUC between reference and query the embedding is not used.

It improves the accuracy within a data set, but transfers between studies less well than expression does, which
cross-validation within the reference cannot show (benchmarks/annotation.py).
"""
SUSPICIOUS_DIFFERENCE = 0.99
"""Above this AUC the user is warned: another protocol cannot be distinguished from another tissue."""
EMBEDDING_WEIGHT = 0.3
"""Standard deviation of a feature of the embedding; that of the principal components is 1 on average."""
CELLS_AT_ONCE = 8192


@dataclass(frozen=True)
class ReferenceAnnotator:
    """Fits an ensemble to a reference, on the genes that reference and query both measured."""

    name: ClassVar[str] = "reference"
    learns: ClassVar[bool] = True
    calibrated: ClassVar[bool] = True

    cells: CellBlock
    """All cells of the reference."""
    labels: np.ndarray
    """(n_cells,) strings."""
    usable: np.ndarray
    """(n_cells,) bool: cells to fit to."""
    partly_measured: np.ndarray | None = None
    """(n_genes,) bool: genes that some samples of the reference lack; None: there are none."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Fit an ensemble to the reference, apply it, and estimate the novelty."""
        shared = self._shared_genes(checkpoint, cells)
        reference_options = replace(options, bags="random")
        check_computable(checkpoint, self.cells, reference_options)
        rows = draw_per_label(self.labels, MAX_CELLS_PER_LABEL, options.seed, self.usable)
        labels = self.labels[rows]
        # Genes that only one object measured would separate the two, so neither components nor network read them.
        known, query = with_measured(self.cells.block(rows), shared), cells.with_genes(shared)
        values = normalised_genes(known.token_values, shared)
        scores, projection = fit_projection(values, options.seed)
        known_views = Views(scores, known.samples, empty_cells(known))
        query_views = projection.project(query, shared)
        # The last two views are those of the variable genes.
        of_variable = (np.hstack(views.components[2:]) for views in (known_views, query_views))
        auc = difference(*of_variable, options.seed)
        folds, held_out = choose_folds(labels, known.samples, options.seed)
        few = None
        if auc <= MAX_DIFFERENCE:
            vectors = cell_vectors(checkpoint, known, reference_options), cell_vectors(checkpoint, query, options)
            known_views, query_views = _with_embedding(known_views, query_views, *vectors)
        else:
            _log_difference(auc, known.n_cells, query.n_cells)
            few = fit_few_genes(values, labels, known.samples, folds)
        of_few = None if few is None else few.held_out
        ensemble, on_tissue = fit_ensemble(known_views.rows(), labels, folds, of_few_genes=of_few), None
        if _may_use_coordinates(held_out, known, query):
            means = projection.scores(self._sample_means(shared))
            on_tissue = _fit_on_tissue(known, known_views.relative_to_samples(means), labels, folds, ensemble.loss)
        if on_tissue is not None:
            nearest = mean_of_nearest(query.coordinates, query.samples, query_views.empty)
            probabilities, energy = _apply(on_tissue, query_views.relative_to_samples(), nearest)
        else:
            of_few = None if few is None else _few_logits(few, query, shared)
            probabilities, energy = _apply(ensemble, query_views, of_few_genes=of_few)
        details = {
            "cells": len(rows),
            "shared_genes": len(shared),
            "difference": auc,
            "embedding": query_views.embedding is not None,
            "few_genes": few is not None and on_tissue is None,
            "coordinates": on_tissue is not None,
            "calibrated_on": held_out,
        }
        return Annotation(
            labels=ensemble.labels,
            probabilities=probabilities,
            empty=query_views.empty,
            novelty=estimate_novelty(
                values,
                lambda part: normalised_genes(query.block(part).token_values, shared),
                labels,
                energy,
                query_views.empty,
                options.seed,
            ),
            details={"source": self.name, "reference": details},
        )

    def _sample_means(self, shared: np.ndarray) -> sparse.csr_matrix:
        """Return the mean log-normalised expression of each sample, over all cells, not only those of the fit."""
        values = normalised_genes(self.cells.token_values, shared)
        return sample_means(values, self.cells.samples, empty_cells(self.cells))

    def _shared_genes(self, checkpoint: Checkpoint, cells: CellReader) -> np.ndarray:
        """Return the `gene_index` of the genes that both measured, in all of their samples."""
        is_shared = cells.measured & self.cells.measured & ~cells.partly_measured
        shared = np.flatnonzero(is_shared if self.partly_measured is None else is_shared & ~self.partly_measured)
        if len(shared) < MIN_SHARED_GENES:
            msg = (
                f"reference and adata share {len(shared)} genes that the model {checkpoint.name!r} knows; at least "
                f"{MIN_SHARED_GENES} are needed, in all of their samples: use a reference that measured the same genes."
            )
            raise ValueError(msg)
        return shared


def with_measured(cells: CellBlock, gene_index: np.ndarray) -> CellBlock:
    """Return a copy of the cells in which only the genes in ``gene_index`` are measured."""
    measured = np.zeros_like(cells.measured)
    measured[gene_index] = True

    def kept(values: sparse.csr_matrix) -> sparse.csr_matrix:
        return keep_entries(values, measured[values.indices])

    return replace(
        cells,
        log_values=kept(cells.log_values),
        token_values=kept(cells.token_values),
        measured=measured,
        hidden=None if cells.hidden is None else kept(cells.hidden),
    )


def _with_embedding(known: Views, query: Views, of_known: np.ndarray, of_query: np.ndarray) -> tuple[Views, Views]:
    """Add embeddings of the cells to both, standardised by the reference; they are changed in place."""
    mean, scale = standardisation(of_known)
    for vectors in (of_known, of_query):
        vectors -= mean
        vectors *= EMBEDDING_WEIGHT
        vectors /= scale
    return replace(known, embedding=of_known), replace(query, embedding=of_query)


def _fit_on_tissue(known: CellBlock, views: Views, labels: np.ndarray, folds: Folds, loss: float) -> Ensemble | None:
    """Fit an ensemble that also reads the labels of the nearest cells; None if its loss is not below ``loss``.

    ``views`` are relative to the samples.
    """
    around = mean_of_nearest(known.coordinates, known.samples, views.empty)
    found = fit_ensemble(views.rows(), labels, folds, around)
    if found.loss >= loss:
        return None
    logger.info("Coordinates are used: log loss %.3f instead of %.3f.", found.loss, loss)
    return found


def _few_logits(few: FewGenes, cells: CellReader, genes: np.ndarray) -> np.ndarray:
    """Return the logits of the classifier of few genes, (n_cells, n_labels); the cells are read block by block."""
    logits = np.empty((cells.n_cells, len(few.labels)), dtype=np.float32)
    for block in cells.blocks():
        logits[block.rows] = few.logits(normalised_genes(block.token_values, genes))
    return logits


def _apply(
    ensemble: Ensemble,
    views: Views,
    nearest: sparse.csr_matrix | None = None,
    of_few_genes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and energy of all cells; the views of some at a time are joined with the embedding."""
    found = []
    for part in consecutive(len(views.samples), CELLS_AT_ONCE):
        rows, logits = views.rows(part), None if of_few_genes is None else of_few_genes[part]
        found.append((ensemble.log_mean(rows, logits), ensemble.energy(rows)))
    log_mean, energy = map(np.concatenate, zip(*found, strict=True))
    return ensemble.calibrated(log_mean, nearest), energy


def _may_use_coordinates(held_out: HeldOut, known: CellBlock, query: CellReader) -> bool:
    """Whether both have coordinates, and held-out samples can show whether these help."""
    if not (has_coordinates(known.coordinates) and has_coordinates(query.coordinates)):
        return False
    if held_out != "samples":
        logger.info("Coordinates are not used: the labels of the reference are not in several samples (library_key=).")
        return False
    return True


def _log_difference(auc: float, n_reference: int, n_query: int) -> None:
    if np.isnan(auc):
        logger.warning(
            "Too few cells to compare the reference (%d cells) with adata (%d), each of which needs %d: whether they "
            "come from the same protocol and tissue is not checked, so make sure that they do. The classifiers read "
            "expression only.",
            n_reference,
            n_query,
            MIN_COMPARED,
        )
        return
    if auc < SUSPICIOUS_DIFFERENCE:
        logger.info("Reference and adata differ (AUC %.2f): the classifiers read expression only.", auc)
        return
    logger.warning(
        "Cells of adata and of the reference can be separated almost without error (AUC %.4f): they come from another "
        "protocol or another tissue. If the reference lacks most cell types of adata, do not rely on labels and "
        "novelty.",
        auc,
    )
