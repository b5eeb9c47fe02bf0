"""CellTypist, trained on the labelled cells."""

from __future__ import annotations

import logging

import pandas as pd
from anndata import AnnData

from scanpy_sct.evaluate import method
from scanpy_sct.read.found_scale import find_scale
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import to_log
from scanpy_sct.sparse_tools import log_normalise

TOP_GENES = 300


@method("celltypist", task="annotation", needs=("reference", "package:celltypist"), replace=True)
def celltypist(reference: AnnData, query: AnnData, labels_key: str, seed: int) -> pd.DataFrame:
    """Train CellTypist in its two steps: the 300 strongest genes of each label, then the model that is used.

    Stochastic gradient descent replaces the default solver, which fails with recent scikit-learn.
    """
    import celltypist as package

    reference, query = _shared_genes(reference, query)
    known, others = (normalised(cells) for cells in (reference, query))
    known.obs["label"] = reference.obs[labels_key].astype(str).to_numpy()
    quiet = logging.getLogger("celltypist")
    level = quiet.level
    quiet.setLevel(logging.WARNING)
    try:
        model = package.train(
            known,
            labels="label",
            check_expression=False,
            use_SGD=True,
            feature_selection=known.n_vars > TOP_GENES,
            top_genes=TOP_GENES,
            random_state=seed,
        )
        answer = package.annotate(others, model=model)
    finally:
        quiet.setLevel(level)
    return answer.probability_matrix


def normalised(cells: AnnData) -> AnnData:
    """Log-normalised values, whatever the scale of `X`, with the names of cells and genes and nothing else."""
    matrix = read_matrix(cells)
    linear = to_log(matrix, find_scale(matrix)).expm1()
    return AnnData(log_normalise(linear), obs=cells.obs[[]].copy(), var=cells.var[[]].copy())


def _shared_genes(reference: AnnData, query: AnnData) -> tuple[AnnData, AnnData]:
    """Both objects on the genes that both have; of columns with one name the first."""
    reference, query = (cells[:, ~cells.var_names.duplicated()] for cells in (reference, query))
    names = reference.var_names.intersection(query.var_names)
    names = names[names != ""]
    return reference[:, names], query[:, names]
