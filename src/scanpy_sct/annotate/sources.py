"""Where `annotate` gets names from: a labelled reference, marker genes, or the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.annotate import labels as naming
from scanpy_sct.annotate import novelty as novel
from scanpy_sct.annotate.ensemble import fit_committee
from scanpy_sct.annotate.marker_sets import MarkerSets, check_distinct
from scanpy_sct.embed.cells import predict_embedding
from scanpy_sct.impute.entries import predict_entries
from scanpy_sct.read.expression import Expression, read_expression
from scanpy_sct.run.inputs import check_coordinates, choose_bag_policy
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.runner import Runner

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 50
N_VARIABLE_GENES = 4000
NOTHING_ALIKE = 0.99
"""Beyond this AUC the user is warned: nothing tells a strange protocol from a strange tissue."""
MAX_DIFFERENCE = 0.7
"""Beyond this AUC between reference and query the embedding stays out of it.

Measured (benchmarks/annotation.py): where both are parts of one data set it helps. Between studies the embedding
carries over less well than expression does, and cross-validation within the reference cannot see that.
"""
EMBEDDING_WEIGHT = 0.3
"""Standard deviation of a feature of the embedding, beside a mean of 1 for the principal components."""
MAX_CELLS_A_LABEL = 5000
"""More cells of one label teach little that is new, and each has to be embedded."""


@dataclass(frozen=True)
class Answer:
    """What a source says about the cells."""

    names: tuple[str, ...]
    probabilities: np.ndarray
    """(cells, names)."""
    empty: np.ndarray
    """(cells,) bool: nothing is known about these cells."""
    novelty: np.ndarray | None = None
    """(cells,) probability that none of the names fits; None where the source cannot tell."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is worth recording."""


@dataclass(frozen=True)
class Reference:
    """Labelled cells, read and checked."""

    expression: Expression
    labels: np.ndarray
    """(cells,) text."""
    usable: np.ndarray
    """(cells,) bool: cells to learn from."""


def read_reference(
    reference: AnnData,
    labels_key: str,
    checkpoint: Checkpoint,
    *,
    layer: str | None,
    library_key: str | None,
    gene_names: str | None,
) -> Reference:
    """Read and check the reference; all that can be wrong with it is found here."""
    if not isinstance(reference, AnnData):
        msg = f"reference must be an AnnData, found {type(reference).__name__}."
        raise TypeError(msg)
    try:
        expression = read_expression(
            reference,
            checkpoint.genes,
            token_scale=checkpoint.tokens.scale,
            layer=layer,
            library_key=library_key if library_key in reference.obs else None,
            gene_names=gene_names if gene_names in reference.var else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        error.add_note("This is about the reference.")
        raise
    return Reference(expression, *read_labels(reference, labels_key, "reference", has_counts(expression)))


def read_labels(
    adata: AnnData, labels_key: str, argument: str, has_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the cells, and which cells to learn from."""
    if labels_key not in adata.obs:
        columns = ", ".join(map(repr, adata.obs.columns)) or "none"
        msg = f"labels_key={labels_key!r} is not a column of {argument}.obs; there are: {columns}."
        raise KeyError(msg)
    source = f"{argument}.obs[{labels_key!r}]"
    labels, usable = naming.checked_labels(adata.obs[labels_key], source, has_counts)
    check_distinct(np.unique(labels), source)
    return labels, usable


def by_reference(
    checkpoint: Checkpoint, expression: Expression, reference: Reference, bags: str, computing: Mapping[str, Any]
) -> Answer:
    """Learn the labels of the reference from what both objects measured."""
    shared = np.flatnonzero(expression.measured & reference.expression.measured)
    if len(shared) < MIN_SHARED_GENES:
        msg = (
            f"reference and adata share {len(shared)} genes that the model {checkpoint.name!r} knows; at least "
            f"{MIN_SHARED_GENES} are needed: give a reference that measured the same genes."
        )
        raise ValueError(msg)
    # Made for its checks: what it cannot use is refused before anything is computed.
    choose_bag_policy(bags, expression)
    for each in (expression, reference.expression):
        check_coordinates(checkpoint, each)
    Runner(checkpoint, ComputeOptions(**{name: computing[name] for name in ("device", "precision", "batch_size")}))
    seed = computing["rng"]
    rows = draw_rows(reference.labels, reference.usable, seed)
    labels = reference.labels[rows]
    # What only one side measured would set both apart, so neither the components nor the network see it.
    query, known = take(expression, None, shared), take(reference.expression, rows, shared)
    values = [naming.log_cp10k(part.token_values, shared) for part in (known, query)]
    known_views, views = _views(*values, seed)
    # The last two share out the variable genes.
    difference = naming.tell_apart(np.hstack(known_views[2:]), np.hstack(views[2:]), seed)
    if difference <= MAX_DIFFERENCE:
        vectors = predict_embedding(checkpoint, query, bags=bags, **computing)
        known_vectors = predict_embedding(checkpoint, known, bags="random", **computing)
        mean, scale = naming.standardisation(known_vectors)
        known_part, part = (EMBEDDING_WEIGHT * (each - mean) / scale for each in (known_vectors, vectors))
    else:
        _say_how_different(difference)
        known_part, part = np.empty((len(rows), 0)), np.empty((len(expression.samples), 0))
    known_seen = [np.hstack([view, known_part]) for view in known_views]
    seen = [np.hstack([view, part]) for view in views]
    committee = fit_committee(known_seen, labels, known.samples, seed)
    empty = ~has_counts(query)
    details = {
        "cells": len(rows),
        "shared_genes": len(shared),
        "difference": difference,
        "embedding": difference <= MAX_DIFFERENCE,
        "calibrated_on": committee.held_out,
    }
    unlike = novelty_of(*values, labels, committee.strangeness(seen), empty, seed)
    probabilities = committee.probabilities(seen)
    return Answer(committee.labels, probabilities, empty, unlike, {"source": "reference", "reference": details})


def _say_how_different(difference: float) -> None:
    if difference < NOTHING_ALIKE:
        logger.info("Reference and query differ (AUC %.2f): names come from expression alone.", difference)
        return
    logger.warning(
        "Cells of adata and of the reference can be told apart nearly without error (AUC %.4f): another protocol, or "
        "another tissue. Where the reference lacks most cell types of adata, neither names nor novelty can be trusted.",
        difference,
    )


def _views(known: sparse.csr_matrix, query: sparse.csr_matrix, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Principal components of four sets of genes, for both: two halves of all genes, and of those that vary most."""
    rng = np.random.default_rng(seed)
    everything, variable = np.arange(known.shape[1]), np.flatnonzero(_variable_genes(known))
    halves = [half for genes in (everything, variable) for half in np.array_split(rng.permutation(genes), 2)]
    pairs = [naming.principal_components(known[:, half], query[:, half], seed) for half in halves]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def novelty_of(
    known: sparse.csr_matrix,
    query: sparse.csr_matrix,
    labels: np.ndarray,
    strangeness: np.ndarray,
    empty: np.ndarray,
    seed: int,
) -> np.ndarray | None:
    """Find how likely each cell is of a type that the reference lacks, (cells,); NaN for empty cells.

    Parameters
    ----------
    known, query
        Log-normalised expression of the reference and of the cells to name, (cells, shared genes).
    labels
        Those of the reference, (cells,).
    strangeness
        Lack of evidence for any label, (cells to name,).
    empty
        Cells to name without counts.
    seed
        Decides which cells are drawn.

    Returns
    -------
    None where one side has fewer than 50 cells.
    """
    full = np.flatnonzero(~empty)
    rows = novel.draw_balanced(labels, len(full), seed)
    if min(len(full), len(rows)) < novel.MIN_CELLS:
        logger.info("Too few cells to tell whether the reference lacks a type.")
        return None
    both = sparse.vstack([known[rows], query[full]], format="csr")
    both = both[:, _variable_genes(both)]
    components, _ = naming.principal_components(both, both[:1], seed)
    result = np.full(len(empty), np.nan)
    result[full] = novel.novelty(components[: len(rows)], components[len(rows) :], strangeness[full], seed)
    return result


def draw_rows(labels: np.ndarray, usable: np.ndarray, seed: int) -> np.ndarray:
    """Rows to learn from, in their order: all usable ones, but no more than `MAX_CELLS_A_LABEL` of a label."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(usable))
    rank = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    return np.sort(order[rank < MAX_CELLS_A_LABEL])


def by_label_head(checkpoint: Checkpoint, expression: Expression, bags: str, computing: Mapping[str, Any]) -> Answer:
    """Use the labels the checkpoint carries."""
    head = checkpoint.label_head
    if head is None:
        msg = (
            f"The model {checkpoint.name!r} carries no labels. Give reference= and labels_key= (cells with known "
            "labels) or markers= (marker genes of each type), or fit a head: sct.train.fit_label_head."
        )
        raise ValueError(msg)
    vectors = predict_embedding(checkpoint, expression, bags=bags, **computing)
    probabilities = naming.label_probabilities(head, vectors)
    return Answer(head.labels, probabilities, ~has_counts(expression), details={"source": "label_head"})


def by_markers(
    checkpoint: Checkpoint, expression: Expression, markers: MarkerSets, bags: str, computing: Mapping[str, Any]
) -> Answer:
    """Score the markers of each type on what was seen of them plus what the network predicts from all other genes.

    The sum names more cells rightly than either part (benchmarks/annotation.py); a marker that was not measured has
    its prediction alone.
    """
    positions = np.unique(np.concatenate(list(markers.positions.values())))
    prediction = predict_entries(checkpoint, expression, positions=positions, bags=bags, **computing)
    columns = {name: np.searchsorted(positions, places) for name, places in markers.positions.items()}
    values = prediction.value + expression.log_values[:, positions].toarray()
    probabilities, none = naming.score_markers(values, columns)
    details = {
        "source": "markers",
        "markers": {
            "types": list(columns),
            "genes": [len(places) for places in columns.values()],
            "measured": list(markers.measured.values()),
        },
    }
    empty = ~has_counts(expression)
    return Answer(tuple(columns), probabilities, empty, np.where(empty, np.nan, none), details)


def take(expression: Expression, rows: np.ndarray | None, positions: np.ndarray) -> Expression:
    """Take some cells (None: all), as if only the genes at ``positions`` had been measured."""
    rows = np.arange(len(expression.samples)) if rows is None else rows
    measured = np.zeros_like(expression.measured)
    measured[positions] = True
    keep = sparse.diags_array(measured.astype(np.float32), format="csr")

    def cut(values: sparse.csr_matrix) -> sparse.csr_matrix:
        part = sparse.csr_matrix(values[rows] @ keep)
        part.eliminate_zeros()
        part.sort_indices()
        return part

    return replace(
        expression,
        log_values=cut(expression.log_values),
        token_values=cut(expression.token_values),
        measured=measured,
        samples=expression.samples[rows],
        coordinates=None if expression.coordinates is None else expression.coordinates[rows],
    )


def _variable_genes(values: sparse.csr_matrix) -> np.ndarray:
    """Which columns of log-normalised ``values`` vary most for their mean, bool."""
    if values.shape[1] <= N_VARIABLE_GENES:
        return np.ones(values.shape[1], dtype=bool)
    import scanpy as sc

    table = sc.pp.highly_variable_genes(AnnData(values), n_top_genes=N_VARIABLE_GENES, inplace=False)
    return table["highly_variable"].to_numpy()


def has_counts(expression: Expression) -> np.ndarray:
    """Whether each cell has any counts, (cells,) bool."""
    return np.diff(expression.log_values.indptr) > 0
