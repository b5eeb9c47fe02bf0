"""The univariate linear model of decoupler, from marker genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import softmax

from methods.celltypist import normalised
from scanpy_sct.evaluate import method


@method("ulm", task="annotation", needs=("markers", "package:decoupler"), replace=True)
def ulm(reference: AnnData, query: AnnData, labels_key: str, seed: int) -> pd.DataFrame:
    """Score each type by the t-value of its markers among all genes; the scores only rank cells.

    The markers are the table `query.uns["markers"]`, with the columns `label` and `gene` (symbols).
    """
    import decoupler

    cells = normalised(query)
    symbols = query.var["gene_symbol"] if "gene_symbol" in query.var else query.var_names
    cells.var_names = pd.Index(np.asarray(symbols, dtype=str))
    cells.var_names_make_unique()
    markers = query.uns["markers"].rename(columns={"label": "source", "gene": "target"})
    decoupler.mt.ulm(cells, markers, tmin=1, verbose=False)
    scores = cells.obsm["score_ulm"]
    return pd.DataFrame(softmax(scores.to_numpy(), axis=1), index=query.obs_names, columns=scores.columns)
