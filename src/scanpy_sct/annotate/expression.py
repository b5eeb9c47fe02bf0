"""Classifiers of expression for label heads: a linear classifier of few marker genes.

Cells of another study differ from the training cells in the level of most genes. The strongest markers of each pair of
labels differ far more between the labels than between studies, so that a classifier of them transfers, and one of
thousands of genes does not: with all genes, most monocytes of another protocol were taken for precursor cells
(benchmarks/label_head.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.classifier import (
    can_be_tested,
    fit_linear,
    fit_temperature,
    held_out_logits,
    weights_of_cells,
)
from scanpy_sct.annotate.features import normalised_genes
from scanpy_sct.checkpoints.label_classifiers import ExpressionClassifier
from scanpy_sct.checkpoints.label_head import LabelHead
from scanpy_sct.sparse_tools import with_data

if TYPE_CHECKING:
    from scanpy_sct.annotate.classifier import Folds
    from scanpy_sct.read.block import CellBlock
    from scanpy_sct.read.reader import CellReader

logger = logging.getLogger(__name__)

MIN_MARKERS = 10
MARKERS_OF_A_PAIR = 10
"""Genes that are higher in one label than in another, for each pair of labels in both directions."""
STRENGTH = 0.001
"""`C`, the inverse strength of regularisation. Cross-validation within the training studies would choose less
regularisation, which is worse on other protocols; markers and strength were chosen while looking at
benchmarks/label_head.py."""


def fit_expression_head(
    cells: Sequence[CellBlock], genes: np.ndarray, labels: np.ndarray, donors: np.ndarray | None, folds: Folds
) -> LabelHead:
    """Fit a head to the expression of marker genes, calibrated on held-out cells.

    Parameters
    ----------
    cells
        Cells of each object, none of them empty.
    genes
        `gene_index` of genes that all objects measured.
    labels, donors, folds
        Label and donor (None: all of one) of each cell of all objects, one object after the other; rows that are held
        out in turn.
    """
    genes = genes[np.sum([block.token_values[:, genes].sum(axis=0).A1 for block in cells], axis=0) > 0]
    values = sparse.vstack([normalised_genes(block.token_values, genes) for block in cells], format="csr")
    different, codes = np.unique(labels, return_inverse=True)
    counts = with_data(values, np.expm1(values.data))
    markers = find_markers(counts, codes, np.zeros(len(codes), dtype=int) if donors is None else donors)
    features, weights = values[:, markers].toarray(), weights_of_cells(codes)

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        fitted = fit_linear(features[train], codes[train], len(different), STRENGTH, weights[train])
        return fitted.logits(features[test])

    tested = can_be_tested(codes, folds)
    temperature = fit_temperature(held_out_logits(predict, folds, len(codes))[tested], codes[tested])
    fitted = fit_linear(features, codes, len(different), STRENGTH, weights)
    classifier = ExpressionClassifier(
        weight=fitted.weight.astype(np.float32),
        bias=fitted.bias.astype(np.float32),
        marker_mean=features.mean(axis=0, dtype=np.float64).astype(np.float32),
        gene_rate=np.asarray(counts.mean(axis=0, dtype=np.float64)).ravel().astype(np.float32),
        gene_index=genes.astype(np.int32),
        marker_index=genes[markers].astype(np.int32),
    )
    return LabelHead(tuple(different.tolist()), classifier, temperature)


def find_markers(counts: sparse.csr_matrix, codes: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Return the columns of ten markers of each label against each other one, increasing.

    They have the largest difference of log1p of the mean counts per 10,000 of the label, averaged over the donors.

    Parameters
    ----------
    counts
        Counts per 10,000, (n_cells, n_genes).
    codes, donors
        Index of the label of each cell, all of which occur; and its donor.
    """
    n_labels = int(codes.max()) + 1
    levels = np.zeros((n_labels, counts.shape[1]))
    for code in range(n_labels):
        of_donors = [counts[(codes == code) & (donors == donor)] for donor in np.unique(donors[codes == code])]
        levels[code] = np.mean([np.log1p(cells.mean(axis=0).A1) for cells in of_donors], axis=0)
    n_kept = min(MARKERS_OF_A_PAIR, counts.shape[1])
    found = [
        np.argpartition(levels[other] - levels[label], n_kept - 1)[:n_kept]
        for label, other in permutations(range(n_labels), 2)
    ]
    return np.unique(np.concatenate(found))


def check_markers(classifier: ExpressionClassifier, cells: CellReader, model: str) -> None:
    """Raise a ValueError if the cells have too few of the markers, and log a warning if they lack half of them."""
    n_markers, n_found = len(classifier.marker_index), int(_is_measured(cells)[classifier.marker_index].sum())
    found = f"adata has {n_found} of the {n_markers} marker genes that the label head of {model!r} reads"
    if n_found < min(MIN_MARKERS, n_markers):
        msg = (
            f"{found}; at least {MIN_MARKERS} are needed. Check the gene names, or pass reference= and labels_key= "
            "(labelled cells) or markers= instead."
        )
        raise ValueError(msg)
    if n_found < n_markers / 2:
        logger.warning("%s: labels will be less accurate.", found)


def expression_logits(classifier: ExpressionClassifier, cells: CellReader) -> np.ndarray:
    """Return the logit of each label, (n_cells, n_labels); the cells are read in blocks.

    Genes that some samples of the cells lack have the mean value of the training cells, and the share of the counts
    that these had.
    """
    measured = _is_measured(cells)[classifier.gene_index]
    genes, rates = classifier.gene_index[measured], classifier.gene_rate
    share = float(rates[measured].sum() / rates.sum())
    is_lacking = ~np.isin(classifier.marker_index, genes)
    of_lacking = classifier.weight[:, is_lacking] @ classifier.marker_mean[is_lacking]
    weight, columns = classifier.weight[:, ~is_lacking], np.searchsorted(genes, classifier.marker_index[~is_lacking])
    logits = np.empty((cells.n_cells, classifier.n_labels))
    for block in cells.blocks():
        values = normalised_genes(block.token_values, genes, share)[:, columns]
        logits[block.rows] = values @ weight.T + (classifier.bias + of_lacking)
    return logits


def _is_measured(cells: CellReader) -> np.ndarray:
    """Return which genes all samples of the cells have, bool (n_genes,)."""
    return cells.measured & ~cells.partly_measured
