"""Mask a part of the data, so that predictions of it can be compared with what was measured."""

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

    Every measured entry, zero or not, is masked with probability `fraction`. One random number is drawn for every
    entry, measured or not: which entries of a gene are masked does not depend on which other genes are measured.

    Parameters
    ----------
    n_cells, n_genes
        Shape of the table of cells x genes.
    fraction
        Fraction of the measured entries to mask, between 0 and 1 (both excluded).
    measured
        bool array (n_genes,): genes that can be masked. None: all.
    rng
        Seed or generator.

    Raises
    ------
    ValueError
        `fraction` is not between 0 and 1, or `measured` has another length than `n_genes`.
    """
    if not 0 < fraction < 1:
        msg = f"`fraction` must lie between 0 and 1, found {fraction}; 0.15 masks 15 % of the entries."
        raise ValueError(msg)
    measured = np.ones(n_genes, dtype=bool) if measured is None else np.asarray(measured, dtype=bool)
    if measured.shape != (n_genes,):
        msg = f"`measured` must have one value for each of the {n_genes} genes, found shape {measured.shape}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    masked = np.zeros((n_cells, n_genes), dtype=bool)
    for start in range(0, n_cells, _ROWS_AT_ONCE):
        rows = masked[start : start + _ROWS_AT_ONCE]
        rows[:] = generator.random(rows.shape, dtype=np.float32) < fraction
    masked &= measured
    return masked


def choose_panel(counts: sparse.csr_matrix, n_genes: int) -> np.ndarray:
    """Choose the `n_genes` genes that vary most between cells, by scanpy's flavor "seurat"; bool (n_genes_in_all,).

    Raises
    ------
    ValueError
        There are not more genes than the panel is to have.
    """
    if not 0 < n_genes < counts.shape[1]:
        msg = f"A panel of {n_genes} genes leaves nothing to predict: there are {counts.shape[1]} genes."
        raise ValueError(msg)
    cells = AnnData(log_normalise(counts[counts.getnnz(axis=1) > 0].astype(np.float64)))
    cells.uns["log1p"] = {"base": None}  # as scanpy records it
    found = sc.pp.highly_variable_genes(cells, flavor="seurat", inplace=False)
    # Taken by rank, as many genes as requested: scanpy takes none that it could not compare with others.
    order = np.argsort(-found["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")
    panel = np.zeros(counts.shape[1], dtype=bool)
    panel[order[:n_genes]] = True
    return panel


def thin_counts(
    counts: sparse.csr_matrix, fraction: float = 0.9, *, rng: int | np.random.Generator | None = 0
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split the molecules of every entry at random into two data sets.

    Of Poisson counts the two parts are independent, so that one can be used to judge what was learnt from the other
    (molecular cross-validation, Batson, Royer and Webber 2019).

    Parameters
    ----------
    counts
        (n_cells, n_genes) integers, whatever their dtype.
    fraction
        Fraction of the molecules in the first part, between 0 and 1 (both excluded).
    rng
        Seed or generator.

    Returns
    -------
    Two float32 matrices of the same shape, positive entries only, that add up to `counts`.

    Raises
    ------
    ValueError
        `fraction` is not between 0 and 1, or `counts` holds values that are not counts.
    """
    if not 0 < fraction < 1:
        msg = f"`fraction` must lie between 0 and 1, found {fraction}; 0.9 puts 90 % into the first part."
        raise ValueError(msg)
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
