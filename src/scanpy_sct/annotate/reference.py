"""Annotation from labelled cells: an ensemble that reads expression and, if the objects are similar, the embedding."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.ensemble import Ensemble, fit_ensemble
from scanpy_sct.annotate.features import (
    MIN_COMPARED,
    Components,
    difference,
    fit_components,
    normalised_genes,
    standardisation,
    variable_genes,
)
from scanpy_sct.annotate.labels import MAX_CELLS_PER_LABEL, Annotation, empty_cells
from scanpy_sct.annotate.novelty import estimate_novelty
from scanpy_sct.embed.cells import embed_cells
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
        known_views, components = _fit_views(values, options.seed)
        table, empty = _project(query, shared, components)
        views = np.split(table, np.cumsum([view.shape[1] for view in known_views])[:-1], axis=1)
        # The last two views are those of the variable genes.
        of_variable = table[:, -sum(view.shape[1] for view in known_views[2:]) :]
        auc = difference(np.hstack(known_views[2:]), of_variable, options.seed)
        embedding = None
        if auc <= MAX_DIFFERENCE:
            vectors = embed_cells(checkpoint, known, reference_options)
            embedding = _Embedding(embed_cells(checkpoint, query, options), *standardisation(vectors))
            known_views = [np.hstack([view, embedding.scaled(vectors)]) for view in known_views]
        else:
            _log_difference(auc, known.n_cells, query.n_cells)
        ensemble = fit_ensemble(known_views, labels, known.samples, options.seed)
        probabilities, energy = _apply(ensemble, views, embedding)
        details = {
            "cells": len(rows),
            "shared_genes": len(shared),
            "difference": auc,
            "embedding": auc <= MAX_DIFFERENCE,
            "calibrated_on": ensemble.held_out,
        }
        return Annotation(
            labels=ensemble.labels,
            probabilities=probabilities,
            empty=empty,
            novelty=estimate_novelty(
                values,
                lambda part: normalised_genes(query.block(part).token_values, shared),
                labels,
                energy,
                empty,
                options.seed,
            ),
            details={"source": self.name, "reference": details},
        )

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


def _fit_views(known: sparse.csr_matrix, seed: int) -> tuple[list[np.ndarray], list[tuple[np.ndarray, Components]]]:
    """Return principal components of two random halves of all genes and two of the most variable ones.

    Scores of the cells in each view; genes and components of each view.
    """
    rng = np.random.default_rng(seed)
    everything, variable = np.arange(known.shape[1]), np.flatnonzero(variable_genes(known))
    halves = [half for genes in (everything, variable) for half in np.array_split(rng.permutation(genes), 2)]
    fits = [fit_components(known[:, half], seed) for half in halves]
    return [scores for scores, _ in fits], [(half, fit) for half, (_, fit) in zip(halves, fits, strict=True)]


def _project(
    cells: CellReader, genes: np.ndarray, components: list[tuple[np.ndarray, Components]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return all views of the cells side by side, which are read block by block, and which cells are empty."""
    table = np.empty((cells.n_cells, sum(fit.pca.n_components_ for _, fit in components)), dtype=np.float32)
    empty = np.empty(cells.n_cells, dtype=bool)
    for block in cells.blocks():
        values = normalised_genes(block.token_values, genes)
        table[block.rows] = np.hstack([fit.transform(values[:, half]) for half, fit in components])
        empty[block.rows] = empty_cells(block)
    return table, empty


@dataclass(frozen=True)
class _Embedding:
    """Embedding of the query, and its standardisation by the reference."""

    vectors: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def scaled(self, vectors: np.ndarray) -> np.ndarray:
        return EMBEDDING_WEIGHT * (vectors - self.mean) / self.scale


def _apply(ensemble: Ensemble, views: list[np.ndarray], embedding: _Embedding | None) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and energy of all cells, some at a time; the embedding is appended to all views."""
    found = []
    for part in consecutive(len(views[0]), CELLS_AT_ONCE):
        chosen = [view[part] for view in views]
        if embedding is not None:
            extra = embedding.scaled(embedding.vectors[part])
            chosen = [np.hstack([view, extra]) for view in chosen]
        found.append((ensemble.probabilities(chosen), ensemble.energy(chosen)))
    probabilities, energy = zip(*found, strict=True)
    return np.concatenate(probabilities), np.concatenate(energy)


def _log_difference(auc: float, n_reference: int, n_query: int) -> None:
    if np.isnan(auc):
        logger.warning(
            "Too few cells to compare the reference (%d cells) with adata (%d), each of which needs %d: whether they "
            "come from the same protocol and tissue is not checked, and the classifiers read expression only.",
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
