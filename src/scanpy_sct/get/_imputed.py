from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.get.find import find_imputed
from scanpy_sct.write import ImputationKeys


def imputed(adata: AnnData, genes: str | Sequence[str], *, key: str = "sct") -> AnnData:
    """Return the imputed expression of some genes, measured or not, as a new object.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    genes
        Genes by the names that the object uses, or by symbol or Ensembl id.
    key
        Name of the result, the `key_added` of :func:`scanpy_sct.tl.impute`.

    Returns
    -------
    A new object, cells x requested genes, in the requested order:

    `.X`
        Expected expression on the log scale of the input, float32.
    `.var_names`
        The names as they were requested.
    `.var["measured"]`
        Whether the gene was measured, bool.
    `.var["recovery"]`
        How well masked values of the gene were predicted; NaN for unmeasured genes.
    `.obs`, `.obsm`, `.obsp`, `.uns`
        Copies, with coordinates and images, so that scanpy and squidpy plot it.

    Raises
    ------
    KeyError
        There is no such result, or it lacks one of the genes.

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
        values[:, ~measured] = adata.obsm[keys.unmeasured].iloc[:, found.table_columns[~measured]]
    recovery = np.full(len(found.names), np.nan)
    recovery[measured] = adata.var[keys.recovery].to_numpy()[found.columns[measured]]

    # Copying an object without genes copies all that belongs to cells, and no matrix.
    cells = adata[:, :0].to_memory().copy()
    obsm = {name: value for name, value in cells.obsm.items() if name != keys.unmeasured}
    var = pd.DataFrame({"measured": measured, "recovery": recovery}, index=pd.Index(found.names, dtype=object))
    return AnnData(X=values, obs=cells.obs, var=var, obsm=obsm, obsp=dict(cells.obsp), uns=cells.uns)


def _dense(block: Any) -> np.ndarray:
    """Turn a dense, sparse or dask block into an array."""
    block = block.compute() if hasattr(block, "compute") else block
    return np.asarray(block.toarray() if sparse.issparse(block) else block)
