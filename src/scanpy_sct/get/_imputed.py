from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.get._find import find_imputed
from scanpy_sct.write import ImputationKeys


def imputed(adata: AnnData, genes: str | Sequence[str], *, key: str = "sct") -> AnnData:
    """Imputed expression of some genes, measured or not, as an object of its own.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    genes
        Genes by the names the object uses, or by symbol or Ensembl id.
    key
        Name of the result, the `key_added` of :func:`scanpy_sct.tl.impute`.

    Returns
    -------
    A new object, cells x the genes asked for, in their order:

    `.X`
        Expected expression on the log scale of the input, float32.
    `.var_names`
        The names as they were asked for.
    `.var["measured"]`
        Whether the gene was measured, bool.
    `.var["recovery"]`
        How well hidden observed values of the gene were predicted; NaN for genes that were not measured.
    `.obs`, `.obsm`, `.obsp`, `.uns`
        Copies, with coordinates and images, so that scanpy and squidpy plot it.

    Raises
    ------
    KeyError
        If there is no such result, or it does not have one of the genes.

    Examples
    --------
    >>> import scanpy as sc, scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata, genes=["CD3E", "CD14"])  # CD14 was not measured
    >>> sc.pl.umap(sct.get.imputed(adata, ["CD3E", "CD14"]), color=["CD3E", "CD14"])
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

    # An object without genes is a cheap way to copy everything that belongs to cells.
    cells = adata[:, :0].to_memory().copy()
    obsm = {name: value for name, value in cells.obsm.items() if name != keys.unmeasured}
    var = pd.DataFrame({"measured": measured, "recovery": recovery}, index=pd.Index(found.names, dtype=object))
    return AnnData(X=values, obs=cells.obs, var=var, obsm=obsm, obsp=dict(cells.obsp), uns=cells.uns)


def _dense(block: np.ndarray | sparse.spmatrix) -> np.ndarray:
    block = block.compute() if hasattr(block, "compute") else block
    return block.toarray() if sparse.issparse(block) else np.asarray(block)
