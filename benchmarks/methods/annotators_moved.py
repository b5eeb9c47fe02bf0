"""Annotation by other packages, to compare with: CellTypist, and the univariate linear model of decoupler.

Each takes labelled cells, cells to annotate, the column with the labels and a seed, and returns probabilities, cells to
annotate x labels. `ulm` finds its markers in `.uns["markers"]` of the cells to annotate, a table with the columns
`label` and `gene`, as methods that need markers do.
"""

from __future__ import annotations

import logging

import pandas as pd
from anndata import AnnData
from scipy.special import softmax

from scanpy_sct.evaluate.annotation_methods import log_values


def celltypist(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Train CellTypist in its two steps: the 300 strongest genes of each label, then the model that is used.

    Stochastic gradient descent replaces the default solver, which fails with recent scikit-learn.
    """
    import celltypist as package

    known, others = (_log_normalised(cells) for cells in (reference, query))
    known.obs["label"] = reference.obs[labels_key].astype(str).to_numpy()
    quiet = logging.getLogger("celltypist")
    level = quiet.level
    quiet.setLevel(logging.WARNING)
    try:
        options = {"labels": "label", "use_SGD": True, "feature_selection": True, "random_state": rng}
        model = package.train(known, check_expression=False, **options)
        result = package.annotate(others, model=model)
    finally:
        quiet.setLevel(level)
    return result.probability_matrix


def ulm(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Score types by decoupler's univariate linear model: the t-value of a type's markers among all genes."""
    import decoupler

    cells = _log_normalised(query)
    cells.var_names_make_unique()
    network = query.uns["markers"].rename(columns={"label": "source", "gene": "target"})
    decoupler.mt.ulm(cells, network, tmin=1, verbose=False)
    scores = cells.obsm["score_ulm"]
    return pd.DataFrame(softmax(scores.to_numpy(), axis=1), index=query.obs_names, columns=scores.columns)


def _log_normalised(cells: AnnData) -> AnnData:
    """Return the cells with nothing but normalised values and the names of cells and genes."""
    return AnnData(log_values(cells), obs=cells.obs[[]].copy(), var=cells.var[[]].copy())
