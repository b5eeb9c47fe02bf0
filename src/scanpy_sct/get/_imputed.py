from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.get.find import find_imputed
from scanpy_sct.keys import ImputationKeys
from scanpy_sct.read.columns import as_series


def imputed(adata: AnnData, genes: str | Sequence[str], *, key: str = "sct") -> AnnData:
    """Return the imputed expression of some genes, measured or not, as a new AnnData.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    genes
        Names in `.var_names`, symbols or Ensembl ids; duplicates are dropped.
    key
        The `key_added` of :func:`scanpy_sct.tl.impute`.

    Returns
    -------
    A new object, cells x requested genes, in the requested order:

    `.X` : float32
        Expected expression, as :func:`scanpy_sct.tl.impute` wrote it.
    `.var_names`
        The names as they were requested.
    `.var["measured"]` : bool
        Whether the gene was measured.
    `.var["recovery"]` : float64
        Correlation of measured and predicted values, see :func:`scanpy_sct.tl.impute`; NaN for unmeasured genes.
    `.var["trust"]` : float64
        For unmeasured genes that were imputed with a reference: the estimated correlation; else NaN.
    `.obs`, `.obsm`, `.obsp`, `.uns`
        Copies, with coordinates and images, so that scanpy and squidpy can plot the object.

    Raises
    ------
    KeyError
        There is no such result, or one of the genes was not imputed.

    Examples
    --------
    >>> import scanpy as sc, scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata, genes=["CD3E", "CD14"])  # CD14 is not measured
    >>> sc.pl.umap(sct.get.imputed(adata, ["CD3E", "CD14"]), color=["CD3E", "CD14"], show=False)
    """
    keys = ImputationKeys.of(key)
    found = find_imputed(adata, genes, key)
    measured = found.columns >= 0
    values = np.empty((adata.n_obs, len(found.names)), dtype=np.float32)
    values[:, measured] = _dense(adata.layers[keys.values][:, found.columns[measured]])
    if not measured.all():
        table = adata.obsm[keys.unmeasured]
        names = [list(table)[number] for number in found.table_columns[~measured]]
        values[:, ~measured] = np.stack([as_series(table[name]) for name in names], axis=1)
    recovery = np.full(len(found.names), np.nan)
    recovery[measured] = as_series(adata.var[keys.recovery]).to_numpy()[found.columns[measured]]

    trust = np.full(len(found.names), np.nan)
    of_genes = adata.uns[key].get("unmeasured")
    if of_genes is not None and not measured.all():
        trust[~measured] = as_series(of_genes["trust"]).to_numpy()[found.table_columns[~measured]]

    # An object without genes has all fields of the cells and no matrices.
    cells = adata[:, :0].to_memory().copy()
    obsm = {name: value for name, value in cells.obsm.items() if name != keys.unmeasured}
    columns = {"measured": measured, "recovery": recovery, "trust": trust}
    var = pd.DataFrame(columns, index=pd.Index(found.names, dtype=object))
    return AnnData(X=values, obs=cells.obs, var=var, obsm=obsm, obsp=dict(cells.obsp), uns=cells.uns)


def _dense(block: Any) -> np.ndarray:
    """Convert a dense, sparse or dask matrix to an array."""
    block = block.compute() if hasattr(block, "compute") else block
    return np.asarray(block.toarray() if sparse.issparse(block) else block)
