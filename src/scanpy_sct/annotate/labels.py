"""Names for cells, on arrays: labels to learn from, probabilities of a label head, and scores of marker genes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from scanpy_sct.checkpoints.checkpoint import LabelHead

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
MIN_CELLS = 3
"""A label with fewer cells cannot be learnt and checked; it is left out."""
MAX_COMPARED = 5000
N_COMPONENTS = 50
TOTAL = 1e4
MARKER_SHARPNESS = 2.0
"""Scores of types are multiplied by it before the softmax."""


def checked_labels(
    values: Sequence[object] | pd.Series, name: str, has_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Check the labels of a reference.

    Parameters
    ----------
    values
        One label per cell; numbers become text.
    name
        What the labels are called in messages.
    has_counts
        Whether anything was measured in the cell, bool (n_cells,); the others teach nothing and are left out.

    Returns
    -------
    Labels as text (n_cells,), and which cells to learn from, bool (n_cells,): labels with fewer than three cells are
    left out, which is logged.

    Raises
    ------
    ValueError
        If a label is missing, one is called "unknown", or fewer than two remain.
    """
    series = pd.Series(list(values), dtype=object)
    n_missing = int(series.isna().sum())
    if n_missing:
        msg = f"{name}: {n_missing} of {len(series)} cells have no label; leave these cells out."
        raise ValueError(msg)
    labels = series.astype(str).to_numpy(dtype=str)
    check_names(np.unique(labels), name)
    names, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes, weights=has_counts, minlength=len(names)).astype(int)
    rare = names[counts < MIN_CELLS]
    if len(names) - len(rare) < 2:
        msg = f"{name}: at least two labels with {MIN_CELLS} or more cells are needed; found {_counted(names, counts)}."
        raise ValueError(msg)
    if len(rare):
        logger.warning("%s: left out labels with fewer than %d cells: %s.", name, MIN_CELLS, ", ".join(rare))
    return labels, has_counts & ~np.isin(labels, rare)


def check_names(names: Sequence[str], source: str) -> None:
    """Raise a ValueError if one of the names is the one that stands for "none of these"."""
    taken = [str(name) for name in names if name.casefold() == UNKNOWN]
    if taken:
        msg = f"{source}: {taken[0]!r} is kept for cells that fit no label; rename it, or leave these cells out."
        raise ValueError(msg)


def _counted(names: np.ndarray, counts: np.ndarray) -> str:
    return ", ".join(f"{name} ({count})" for name, count in zip(names[:10], counts[:10], strict=True))


def log_cp10k(log_values: sparse.csr_matrix, positions: np.ndarray) -> sparse.csr_matrix:
    """Turn `log1p` values into `log1p` of counts per 10,000 over the genes at ``positions``; (cells, positions)."""
    result = log_values[:, positions].tocsr().astype(np.float64)
    result.data = np.expm1(result.data)
    totals = np.asarray(result.sum(axis=1)).ravel()
    result.data = np.log1p(result.data * np.repeat(TOTAL / np.maximum(totals, 1e-12), np.diff(result.indptr)))
    return result.astype(np.float32)


def principal_components(
    reference: sparse.csr_matrix, query: sparse.csr_matrix, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Project both on the principal components of the reference, (cells, components) float64 each.

    Genes are centred on the reference and not scaled. The scores of both are divided by one number, which makes the
    mean variance of those of the reference one.
    """
    n_components = min(N_COMPONENTS, min(reference.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed)
    fitted = pca.fit_transform(reference)
    unit = max(float(fitted.std()), 1e-12)
    return fitted / unit, pca.transform(query) / unit


def tell_apart(reference: np.ndarray, query: np.ndarray, seed: int) -> float:
    """Measure how well a regression tells query from reference: area under the ROC curve, on cells left out in turn.

    0.5 means that both look like the same data (nothing differs, neither protocol nor composition); 1 that every cell
    can be attributed. Too few cells to find out count as 1.

    Parameters
    ----------
    reference, query
        (cells, components); of each, up to 5,000 cells are drawn.
    seed
        Decides which cells are drawn and which make a fold.
    """
    if min(len(reference), len(query)) < MIN_CELLS:
        return 1.0
    rng = np.random.default_rng(seed)
    drawn = [part[rng.permutation(len(part))[:MAX_COMPARED]] for part in (reference, query)]
    side = np.repeat([0, 1], [len(part) for part in drawn])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(MIN_CELLS, shuffle=True, random_state=seed)
    evidence = cross_val_predict(model, np.concatenate(drawn), side, cv=folds, method="decision_function")
    return float(roc_auc_score(side, evidence))


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, float32; 1 for a constant one."""
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1
    return features.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)


def label_probabilities(head: LabelHead, features: np.ndarray) -> np.ndarray:
    """Probability of each label of ``head`` for ``features`` (cells, features); (cells, labels) float64.

    Raises
    ------
    ValueError
        If the classifier was fitted to another number of features.
    """
    if features.shape[1] != head.weight.shape[1]:
        msg = f"The label head reads {head.weight.shape[1]} features of a cell; found {features.shape[1]}."
        raise ValueError(msg)
    scaled = (features.astype(np.float64) - head.feature_mean) / head.feature_scale
    return softmax((scaled @ head.weight.T + head.bias) / head.temperature, axis=1)


@dataclass(frozen=True)
class Names:
    """A name for every cell."""

    labels: np.ndarray
    """(cells,) text; "unknown" where nothing is probable enough."""
    score: np.ndarray
    """(cells,) probability that the most probable label is right, also where that is not given."""
    probabilities: np.ndarray
    """(cells, labels): of each label, given that one of them is right."""


def choose_names(
    probabilities: np.ndarray,
    names: Sequence[str],
    threshold: float,
    empty: np.ndarray | None = None,
    novelty: np.ndarray | None = None,
) -> Names:
    """Give each cell its most probable name, or "unknown" if that has a probability below ``threshold``.

    Cells that are ``empty`` (cells,) are unknown whatever the threshold, and every name is equally probable for them.
    ``novelty`` (cells,) is the probability that no name is right, and NaN for empty cells.
    """
    probabilities = probabilities.copy()
    if empty is not None:
        probabilities[empty] = 1 / len(names)
    score = probabilities.max(axis=1)
    if novelty is not None:
        score = score * (1 - np.nan_to_num(novelty))
    labels = np.asarray(names, dtype=object)[probabilities.argmax(axis=1)]
    is_unknown = score < threshold if empty is None else (score < threshold) | empty
    labels[is_unknown] = UNKNOWN
    return Names(labels, score, probabilities)


def score_markers(values: np.ndarray, markers: Mapping[str, Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Score cell types by their markers.

    Every gene is brought to mean 0 and standard deviation 1 over the cells, and the score of a type is the mean of its
    markers. The scores become shares by a softmax, in which whatever a cell has more of in all types cancels. "None of
    these" takes part with the score 0, that of a cell with as much of the markers as cells have on average. These are
    NOT calibrated probabilities.

    Parameters
    ----------
    values
        (cells, genes) expression.
    markers
        Columns of ``values`` that are the markers of each type.

    Returns
    -------
    Shares of the types among themselves, (cells, types), rows sum to one; and the share of none of them, (cells,).
    """
    mean, scale = standardisation(values)
    z_values = (values - mean) / scale
    scores = [z_values[:, list(columns)].mean(axis=1) for columns in markers.values()]
    scores = np.stack([np.zeros(len(values)), *scores], axis=1).astype(np.float64)
    none = softmax(MARKER_SHARPNESS * scores, axis=1)[:, 0]
    return softmax(MARKER_SHARPNESS * scores[:, 1:], axis=1), none
