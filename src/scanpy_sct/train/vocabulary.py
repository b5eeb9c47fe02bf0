"""The order of the genes, and how often each shows which level: facts of the training data, found before training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bags import divide
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.train.data import Dataset

GENES_A_LEAF = 4
CHUNK = 1000
PSEUDO_CELLS = 2.0


def coexpression_vectors(datasets: Sequence[Dataset], n_components: int, seed: int) -> np.ndarray:
    """Place genes by the cells that express them: truncated SVD of standardised, depth-normalised log values.

    Returns (positions, n_components); genes never seen are all zero.
    """
    from sklearn.decomposition import TruncatedSVD

    linear = _normalized(datasets)
    squares = np.asarray(linear.multiply(linear).mean(0)).ravel()
    scaled = linear @ sparse.diags(np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 1e-4))
    svd = TruncatedSVD(n_components, random_state=seed).fit(scaled.tocsr().astype(np.float32))
    return (svd.components_ * svd.singular_values_[:, None] / np.sqrt(linear.shape[0])).T.astype(np.float32)


def mean_expression(datasets: Sequence[Dataset]) -> np.ndarray:
    """Mean of the depth-normalised log values of each position, (positions,)."""
    return np.asarray(_normalized(datasets).mean(0)).ravel()


def _normalized(datasets: Sequence[Dataset]) -> sparse.csr_matrix:
    """Log values at 10,000 counts a cell, training cells only."""
    values = sparse.vstack([dataset.log_counts[~dataset.held_out] for dataset in datasets]).tocsr()
    values.data = np.expm1(values.data)
    totals = np.maximum(np.asarray(values.sum(1)).ravel(), 1)
    values.data *= np.repeat(1e4 / totals, np.diff(values.indptr)).astype(np.float32)
    values.data = np.log1p(values.data)
    return values


def coexpression_order(vectors: np.ndarray) -> np.ndarray:
    """Order genes so that neighbours are expressed by the same cells: repeated halving along the widest direction."""
    length = np.linalg.norm(vectors, axis=1)
    seen = np.flatnonzero(length > 0)
    directions = vectors / np.maximum(length, 1e-12)[:, None]
    parts = divide(directions, seen, max(1, len(seen) // GENES_A_LEAF))
    return np.concatenate([*parts, np.flatnonzero(length == 0)])


def level_frequencies(datasets: Sequence[Dataset], rules: TokenRules) -> np.ndarray:
    """Frequency of each level of each gene over those training cells given that measured it, (positions, levels).

    Shrunk with the weight of two cells towards the frequencies over all genes.
    """
    n_levels = rules.n_bins
    counts = np.zeros((len(rules.vocabulary), n_levels))
    for dataset in datasets:
        rows = np.flatnonzero(~dataset.held_out)
        for start in range(0, len(rows), CHUNK):
            cells = dataset.log_counts[rows[start : start + CHUNK]]
            nothing = np.zeros(cells.shape, dtype=bool)
            tokens = make_tokens(cells, cells, nothing, dataset.measured, rules).tokens
            counts += (
                np.stack([(tokens == level).sum(0) for level in range(n_levels)], axis=1) * dataset.measured[:, None]
            )
    # No level is impossible, also one that these cells do not show.
    overall = (counts.sum(0) + 1) / (counts.sum() + n_levels)
    return (counts + PSEUDO_CELLS * overall) / (counts.sum(1, keepdims=True) + PSEUDO_CELLS)
