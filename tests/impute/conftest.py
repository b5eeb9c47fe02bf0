from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.settings import settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture(scope="session")
def scrambled():
    """Give an object other values at the hidden entries, zeros becoming detected and the reverse."""

    def changed(adata: ad.AnnData, hidden: np.ndarray) -> ad.AnnData:
        dense = adata.X.toarray()
        dense[hidden] = np.where(dense[hidden] > 0, 0, 3.21)
        result = adata.copy()
        result.X = sparse.csr_matrix(dense)
        return result

    return changed
