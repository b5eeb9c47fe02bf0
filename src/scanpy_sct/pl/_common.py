"""Observed values on the scale of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import sparse

from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import to_log

if TYPE_CHECKING:
    from anndata import AnnData


def read_observed(adata: AnnData, key: str) -> sparse.csr_matrix:
    """Read the values that were imputed, on the log scale of the result; (cells, genes) CSR float32."""
    details = adata.uns.get(key, {})
    layer = details.get("params", {}).get("layer", "none")
    return to_log(read_matrix(adata, None if layer == "none" else layer), details.get("scale", "log"))
