from __future__ import annotations

from anndata import AnnData


def pbmc68k() -> AnnData:
    """Return 700 blood cells (10x Genomics) x 765 genes, log-normalised; works offline.

    This is `scanpy.datasets.pbmc68k_reduced()` with the log-normalised values of `.raw` instead of the scaled `.X`.

    Returns
    -------
    Cells x genes:

    `.X`
        Log-normalised values, CSR float32.
    `.obs`
        Among others `bulk_labels` (cell type by correlation with sorted cells) and `louvain` (clusters), categorical.
    `.obsm["X_umap"]`, `.obsm["X_pca"]`
        As in scanpy's object.
    `.uns`
        Colours of the categories only.

    Notes
    -----
    Zheng et al., Massively parallel digital transcriptional profiling of single cells, Nature Communications 8, 14049
    (2017), CC BY 4.0.
    """
    import scanpy as sc

    reduced = sc.datasets.pbmc68k_reduced()
    adata = AnnData(
        X=reduced.raw.X.tocsr().astype("float32"),
        obs=reduced.obs.copy(),
        var=reduced.raw.var.copy(),
        obsm={key: reduced.obsm[key].copy() for key in ("X_umap", "X_pca")},
    )
    adata.uns = {key: value for key, value in reduced.uns.items() if key.endswith("_colors")}
    return adata
