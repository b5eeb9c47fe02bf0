"""A linear classifier of few genes: the strongest markers of each pair of labels.

Cells of another study differ from the training cells in the level of most genes. The strongest markers of two labels
differ far more between the labels than between studies, so that a classifier of them transfers to other protocols, and
one of thousands of genes does not (benchmarks/label_head.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import sparse

from scanpy_sct.annotate.classifier import (
    Folds,
    LinearClassifier,
    can_be_tested,
    fit_linear,
    fit_temperature,
    held_out_logits,
    weights_of_cells,
)
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.sparse_tools import with_data

GENES_OF_A_PAIR = 10
"""Genes that are higher in one label than in another, for each pair of labels in both directions."""
STRENGTH = 0.001
"""`C`, the inverse strength of regularisation. Cross-validation within the training studies would choose less
regularisation, which is worse on other protocols; number of genes and strength were chosen while looking at
benchmarks/label_head.py."""
CELLS_OF_A_LABEL = 1000
"""Cells of each label that it is fitted to."""


@dataclass(frozen=True)
class FewGenes:
    """A classifier of few genes, whose probabilities are calibrated."""

    labels: tuple[str, ...]
    columns: np.ndarray
    """Columns that it reads, increasing."""
    classifier: LinearClassifier
    temperature: float
    """Divides its logits."""
    held_out: np.ndarray
    """(n_cells, n_labels) logits of each training cell from a fit without it, divided by the temperature; NaN for cells
    in no fold."""

    def logits(self, values: sparse.csr_matrix) -> np.ndarray:
        """Return calibrated logits of log-normalised ``values`` (n_cells, n_genes), (n_cells, n_labels)."""
        return self.classifier.logits(values[:, self.columns]) / self.temperature


def fit_few_genes(values: sparse.csr_matrix, labels: np.ndarray, donors: np.ndarray, folds: Folds) -> FewGenes:
    """Find the genes, and fit the classifier and, on held-out cells, its temperature.

    Parameters
    ----------
    values
        Log-normalised, (n_cells, n_genes).
    labels, donors
        Label and donor of each cell, (n_cells,).
    folds
        Cells that are held out in turn. Those of a label that the other folds lack are not used for the temperature;
        see :func:`~scanpy_sct.annotate.classifier.can_be_tested`, which must be true of at least one cell.
    """
    different, codes = np.unique(labels, return_inverse=True)
    counts, weights = with_data(values, np.expm1(values.data)), weights_of_cells(codes)

    def fit(rows: np.ndarray) -> tuple[np.ndarray, LinearClassifier]:
        """Find the genes, too: found with the cells that are held out, they would make these look too easy."""
        columns = strongest_genes(counts[rows], codes[rows], donors[rows])
        # At most so many cells of a label, which stand for all of it: more make the fit slower, and hardly better.
        drawn = rows[draw_per_label(codes[rows], CELLS_OF_A_LABEL, seed=0)]
        n_rows, n_drawn = (np.bincount(codes[some], minlength=len(different)) for some in (rows, drawn))
        stands_for = n_rows / np.maximum(n_drawn, 1)
        features, of_drawn = values[drawn][:, columns].toarray(), (weights * stands_for[codes])[drawn]
        return columns, fit_linear(features, codes[drawn], len(different), STRENGTH, of_drawn)

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        columns, fitted = fit(train)
        return fitted.logits(values[test][:, columns])

    held_out = held_out_logits(predict, folds, len(codes))
    tested = can_be_tested(codes, folds)
    temperature = fit_temperature(held_out[tested], codes[tested])
    columns, fitted = fit(np.arange(len(codes)))
    return FewGenes(tuple(different.tolist()), columns, fitted, temperature, held_out / temperature)


def strongest_genes(counts: sparse.csr_matrix, codes: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Return the columns of ten markers of each label against each other one, increasing.

    They have the largest difference of log1p of the mean counts per 10,000 of the label, averaged over the donors.

    Parameters
    ----------
    counts
        Counts per 10,000, (n_cells, n_genes).
    codes, donors
        Index of the label of each cell, and of its donor, (n_cells,).
    """
    levels = []
    for code in np.unique(codes):
        of_donors = [counts[(codes == code) & (donors == donor)] for donor in np.unique(donors[codes == code])]
        levels.append(np.mean([np.log1p(cells.mean(axis=0).A1) for cells in of_donors], axis=0))
    n_kept = min(GENES_OF_A_PAIR, counts.shape[1])
    found = [np.argpartition(lower - higher, n_kept - 1)[:n_kept] for higher, lower in permutations(levels, 2)]
    return np.unique(np.concatenate(found))
