from __future__ import annotations

import numpy as np

from scanpy_sct.datasets import pbmc68k
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.read.reader import CellReader


def test_log_normalised_values_and_labels():
    adata = pbmc68k()
    assert adata.shape == (700, 765)
    assert adata.raw is None
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert adata.X.data.min() > 0
    assert adata.obs["bulk_labels"].nunique() == 10
    assert set(adata.obsm) == {"X_umap", "X_pca"}
    # a marker of monocytes and dendritic cells, so that rows and labels belong together
    lyz = adata[:, "LYZ"].X.toarray().ravel()
    is_monocyte = adata.obs["bulk_labels"].isin(["CD14+ Monocyte", "Dendritic"]).to_numpy()
    assert lyz[is_monocyte].mean() > 2 * lyz[~is_monocyte].mean()


def test_it_can_be_read():
    reader = CellReader(pbmc68k(), released_vocabulary(), "log1p_counts")
    assert reader.scale == "log"
    assert reader.measured.sum() > 700
    # the counts behind the values come back
    counts = np.expm1(reader.block().token_values.data)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)


def test_it_can_be_written(tmp_path):
    pbmc68k().write_h5ad(tmp_path / "a.h5ad")
