"""Mask a part of the data, so that predictions can be compared with what was measured."""

from __future__ import annotations

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.scale import INTEGER_TOLERANCE
from scanpy_sct.sparse_tools import keep_entries, log_normalise, with_data

# Random numbers are drawn for this many rows at a time, so that the draw never needs more than a few hundred MB.
_ROWS_AT_ONCE = 1024


def mask_entries(
    n_cells: int,
    n_genes: int,
    fraction: float = 0.15,
    *,
    measured: np.ndarray | None = None,
    rng: int | np.random.Generator | None = 0,
) -> np.ndarray:
    """Choose the entries to mask, independently of their values; bool (n_cells, n_genes).

    Every entry of the genes in `measured`, bool (n_genes,) or None for all, is masked with probability `fraction`. One
    random number is drawn for every entry, measured or not: which entries of a gene are masked does not depend on which
    other genes are measured.
    """
    generator = np.random.default_rng(rng)
    masked = np.zeros((n_cells, n_genes), dtype=bool)
    for start in range(0, n_cells, _ROWS_AT_ONCE):
        rows = masked[start : start + _ROWS_AT_ONCE]
        rows[:] = generator.random(rows.shape, dtype=np.float32) < fraction
    return masked if measured is None else masked & measured


def choose_panel(counts: sparse.csr_matrix, n_genes: int) -> np.ndarray:
    """Choose the `n_genes` genes that vary most between cells, by scanpy's flavor "seurat"; bool (n_genes_in_all,)."""
    cells = AnnData(log_normalise(counts[counts.getnnz(axis=1) > 0].astype(np.float64)))
    cells.uns["log1p"] = {"base": None}  # as scanpy records it
    found = sc.pp.highly_variable_genes(cells, flavor="seurat", inplace=False)
    # By rank, so that there are as many genes as requested: scanpy leaves out genes that it cannot compare with others.
    order = np.argsort(-found["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")
    panel = np.zeros(counts.shape[1], dtype=bool)
    panel[order[:n_genes]] = True
    return panel


def thin_counts(
    counts: sparse.csr_matrix, fraction: float = 0.9, *, rng: int | np.random.Generator | None = 0
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split the molecules of every entry at random into two data sets.

    The two parts of Poisson counts are independent, so that one can evaluate what was learnt from the other (molecular
    cross-validation, Batson, Royer and Webber 2019).

    `fraction` of the molecules are in the first part. Returns two float32 matrices of the same shape, positive entries
    only, that add up to `counts`; raises a ValueError for values that are not counts.
    """
    whole = np.rint(counts.data).astype(np.int64)
    if (whole < 0).any() or not np.allclose(whole, counts.data, rtol=0, atol=INTEGER_TOLERANCE):
        msg = (
            "adata must hold counts (integers, not negative) in every cell to be thinned, and some values are not. "
            "Name the layer with counts with `layer=`, or leave the task 'thinning' out."
        )
        raise ValueError(msg)
    first = np.random.default_rng(rng).binomial(whole, fraction)
    parts = (with_data(counts, part.astype(np.float32)) for part in (first, whole - first))
    return tuple(keep_entries(part, part.data != 0) for part in parts)
