"""The label head that reads expression: :mod:`scanpy_sct.annotate.few_genes`, applied without its training cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.features import normalised_genes
from scanpy_sct.annotate.few_genes import fit_few_genes
from scanpy_sct.checkpoints.label_classifiers import ExpressionClassifier
from scanpy_sct.checkpoints.label_head import LabelHead
from scanpy_sct.sparse_tools import with_data

if TYPE_CHECKING:
    from scanpy_sct.annotate.classifier import Folds
    from scanpy_sct.read.block import CellBlock
    from scanpy_sct.read.reader import CellReader

logger = logging.getLogger(__name__)

MIN_MARKERS = 10
"""Markers that cells must have, unless a head reads fewer."""


def fit_expression_head(
    cells: Sequence[CellBlock], genes: np.ndarray, labels: np.ndarray, donors: np.ndarray | None, folds: Folds
) -> LabelHead:
    """Fit a head to the expression of marker genes, calibrated on held-out cells.

    Parameters
    ----------
    cells
        Cells of each object, none of them empty.
    genes
        `gene_index` of genes that all objects measured, and cells have.
    labels, donors, folds
        Label and donor (None: all of one) of each cell of all objects, one object after the other; rows that are held
        out in turn.
    """
    values = sparse.vstack([normalised_genes(block.token_values, genes) for block in cells], format="csr")
    fit = fit_few_genes(values, labels, np.zeros(len(labels), dtype=int) if donors is None else donors, folds)
    classifier = ExpressionClassifier(
        weight=fit.classifier.weight.astype(np.float32),
        bias=fit.classifier.bias.astype(np.float32),
        marker_mean=_mean(values[:, fit.columns]),
        gene_rate=_mean(with_data(values, np.expm1(values.data))),
        gene_index=genes.astype(np.int32),
        marker_index=genes[fit.columns].astype(np.int32),
    )
    return LabelHead(fit.labels, classifier, fit.temperature)


def check_markers(classifier: ExpressionClassifier, cells: CellReader, model: str) -> None:
    """Raise a ValueError if the cells have too few of the markers, and log a warning if they lack half of them."""
    measured = _is_measured(cells)
    n_markers, n_found = len(classifier.marker_index), int(measured[classifier.marker_index].sum())
    found = f"adata has {n_found} of the {n_markers} marker genes that the label head of {model!r} reads"
    if lacks_markers(classifier, measured):
        msg = (
            f"{found}; at least {min(MIN_MARKERS, n_markers)} are needed. Check the gene names, or pass reference= and "
            "labels_key= (labelled cells) or markers= instead."
        )
        raise ValueError(msg)
    if n_found < n_markers / 2:
        logger.warning("%s: labels will be less accurate.", found)


def lacks_markers(classifier: ExpressionClassifier, measured: np.ndarray) -> bool:
    """Whether too few of the markers are among the ``measured`` genes, bool (n_genes,)."""
    return int(measured[classifier.marker_index].sum()) < min(MIN_MARKERS, len(classifier.marker_index))


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
    logits = np.empty((cells.n_cells, len(classifier.bias)))
    for block in cells.blocks():
        values = normalised_genes(block.token_values, genes, share)[:, columns]
        logits[block.rows] = values @ weight.T + (classifier.bias + of_lacking)
    return logits


def _is_measured(cells: CellReader) -> np.ndarray:
    """Return which genes all samples of the cells have, bool (n_genes,)."""
    return cells.measured & ~cells.partly_measured


def _mean(values: sparse.csr_matrix) -> np.ndarray:
    """Return the mean of each column, float32."""
    return values.mean(axis=0, dtype=np.float64).A1.astype(np.float32)
