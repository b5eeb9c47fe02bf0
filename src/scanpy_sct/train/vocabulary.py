"""Estimates from the training data: co-expression of genes and frequencies of their bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bags import divide
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.sparse_tools import log_normalise, with_data
from scanpy_sct.train.data import Dataset

GENES_PER_LEAF = 4
CHUNK = 1000
PSEUDO_CELLS = 2.0


def coexpression_vectors(datasets: Sequence[Dataset], n_components: int, seed: int) -> np.ndarray:
    """Return co-expression vectors (n_genes, n_components), zero for genes that are never detected.

    They are the gene loadings of a truncated SVD of standardised, depth-normalised log values.
    """
    from sklearn.decomposition import TruncatedSVD

    log_counts = sparse.vstack([dataset.log_counts[~dataset.held_out] for dataset in datasets]).tocsr()
    values = log_normalise(with_data(log_counts, np.expm1(log_counts.data)))
    squares = np.asarray(values.multiply(values).mean(0)).ravel()
    scaled = values @ sparse.diags(np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 1e-4))
    n_possible = max(1, min(n_components, *(size - 1 for size in values.shape)))
    svd = TruncatedSVD(n_possible, random_state=seed).fit(scaled.tocsr().astype(np.float32))
    vectors = np.zeros((values.shape[1], n_components), dtype=np.float32)
    vectors[:, :n_possible] = (svd.components_ * svd.singular_values_[:, None] / np.sqrt(values.shape[0])).T
    return vectors


def coexpression_order(vectors: np.ndarray) -> np.ndarray:
    """Order genes so that neighbours are co-expressed, by repeated halving along the direction of largest variance."""
    length = np.linalg.norm(vectors, axis=1)
    detected = np.flatnonzero(length > 0)
    directions = vectors / np.maximum(length, 1e-12)[:, None]
    parts = divide(directions, detected, max(1, len(detected) // GENES_PER_LEAF))
    return np.concatenate([*parts, np.flatnonzero(length == 0)])


def bin_frequencies(datasets: Sequence[Dataset], rules: TokenRules) -> np.ndarray:
    """Return the frequency of each bin of each gene in the training cells that measured it, (n_genes, n_bins).

    It is shrunk towards the frequencies over all genes, with the weight of two cells.
    """
    n_bins = rules.n_bins
    counts = np.zeros((len(rules.vocabulary), n_bins))
    for dataset in datasets:
        rows = np.flatnonzero(~dataset.held_out)
        for start in range(0, len(rows), CHUNK):
            cells = dataset.log_counts[rows[start : start + CHUNK]]
            masked = np.zeros(cells.shape, dtype=bool)
            tokens = make_tokens(cells, cells, masked, dataset.measured, rules).tokens
            in_bin = np.stack([(tokens == number).sum(0) for number in range(n_bins)], axis=1)
            counts += in_bin * dataset.measured[:, None]
    # No frequency is zero, also for bins that these cells lack.
    overall = (counts.sum(0) + 1) / (counts.sum() + n_bins)
    return (counts + PSEUDO_CELLS * overall) / (counts.sum(1, keepdims=True) + PSEUDO_CELLS)
