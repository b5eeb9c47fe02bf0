"""Features of cells for classifiers and neighbour searches, and how much two sets of cells differ in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from scanpy_sct.sparse_tools import log_normalise, row_totals, with_data

N_COMPONENTS = 50
N_VARIABLE_GENES = 4000
MAX_COMPARED = 5000
MIN_COMPARED = 10
N_FOLDS = 3
FEATURES_AT_ONCE = 32
"""Features whose spread is computed at a time: that of all would need their deviations from the mean in float64."""


def normalised_genes(log_values: sparse.csr_matrix, gene_index: np.ndarray, share: float = 1.0) -> sparse.csr_matrix:
    """Normalise ``log1p`` values (n_cells, n_genes) to ``log1p`` of counts per 10,000, over some genes only.

    Returns float32 (n_cells, len(gene_index)); other genes do not count towards the total of a cell, of which these
    genes are the fraction ``share``.
    """
    kept = log_values[:, gene_index].tocsr().astype(np.float64)
    counts = with_data(kept, np.expm1(kept.data))
    return log_normalise(counts, row_totals(counts) / share).astype(np.float32)


def variable_genes(values: sparse.csr_matrix) -> np.ndarray:
    """Return the 4,000 most variable genes of log-normalised ``values`` (n_cells, n_genes), bool (n_genes,)."""
    if values.shape[1] <= N_VARIABLE_GENES:
        return np.ones(values.shape[1], dtype=bool)
    import scanpy as sc
    from anndata import AnnData

    table = sc.pp.highly_variable_genes(AnnData(values), n_top_genes=N_VARIABLE_GENES, inplace=False)
    return table["highly_variable"].to_numpy()


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each feature, float32 (n_features,); 1 for a constant feature."""
    starts = range(0, features.shape[1], FEATURES_AT_ONCE)
    parts = [features[:, start : start + FEATURES_AT_ONCE].std(axis=0, dtype=np.float64) for start in starts]
    scale = np.concatenate(parts)
    scale[scale < 1e-6] = 1
    return features.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)


@dataclass(frozen=True)
class Components:
    """Up to 50 principal components of some cells."""

    pca: PCA
    unit: float
    """Divides the scores, so that those of the cells of the fit have a mean variance of one."""

    def transform(self, values: sparse.csr_matrix) -> np.ndarray:
        """Project other cells, (n_cells, n_components)."""
        return self.pca.transform(values) / self.unit


def fit_components(values: sparse.csr_matrix, seed: int) -> tuple[np.ndarray, Components]:
    """Fit principal components to cells; returns their scores, (n_cells, n_components), and the components.

    Genes are centred and not scaled.
    """
    n_components = min(N_COMPONENTS, min(values.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed)
    fitted = pca.fit_transform(values)
    unit = max(float(fitted.std()), 1e-12)
    return fitted / unit, Components(pca, unit)


def difference(reference: np.ndarray, query: np.ndarray, seed: int) -> float:
    """Measure how well a logistic regression separates query from reference: area under the ROC curve, cross-validated.

    0.5: neither protocol nor composition differ; 1: every cell can be assigned to its object; NaN: one of them has
    fewer than ten cells, too few to tell. Both are (n_cells, n_components); of each, up to 5,000 cells are drawn.
    """
    if min(len(reference), len(query)) < MIN_COMPARED:
        return float("nan")
    rng = np.random.default_rng(seed)
    drawn = [part[rng.permutation(len(part))[:MAX_COMPARED]] for part in (reference, query)]
    side = np.repeat([0, 1], [len(part) for part in drawn])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    decision = cross_val_predict(model, np.concatenate(drawn), side, cv=folds, method="decision_function")
    return float(roc_auc_score(side, decision))
