"""Hide a part of the data, so that predictions of it can be compared with what was measured."""

from __future__ import annotations

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.scale import INTEGER_TOLERANCE

# Random numbers are drawn for this many rows at a time: the draw never needs more than a few hundred MB.
_ROWS_AT_ONCE = 1024


def hide_entries(
    n_cells: int,
    n_genes: int,
    fraction: float = 0.15,
    *,
    measured: np.ndarray | None = None,
    rng: int | np.random.Generator | None = 0,
) -> np.ndarray:
    """Choose the entries to hide, independently of what they hold.

    Every measured entry, zero or not, is hidden with probability `fraction`. One random number is drawn for every
    entry, measured or not: which entries of a gene are hidden does not depend on which other genes are measured.

    Parameters
    ----------
    n_cells, n_genes
        Shape of the table of cells by genes.
    fraction
        Share of the measured entries to hide, between 0 and 1 (both excluded).
    measured
        bool array (n_genes,): genes that can be hidden. None: all.
    rng
        Seed or generator.

    Returns
    -------
    bool array (n_cells, n_genes), True where hidden.

    Raises
    ------
    ValueError
        `fraction` is not between 0 and 1, or `measured` has another length than `n_genes`.
    """
    if not 0 < fraction < 1:
        msg = f"`fraction` must lie between 0 and 1, found {fraction}; 0.15 hides 15 % of the entries."
        raise ValueError(msg)
    measured = np.ones(n_genes, dtype=bool) if measured is None else np.asarray(measured, dtype=bool)
    if measured.shape != (n_genes,):
        msg = f"`measured` must have one value for each of the {n_genes} genes, found shape {measured.shape}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    hidden = np.zeros((n_cells, n_genes), dtype=bool)
    for start in range(0, n_cells, _ROWS_AT_ONCE):
        rows = hidden[start : start + _ROWS_AT_ONCE]
        rows[:] = generator.random(rows.shape, dtype=np.float32) < fraction
    hidden &= measured
    return hidden


def visible(values: sparse.csr_matrix, hidden: np.ndarray) -> sparse.csr_matrix:
    """Remove the hidden entries.

    Parameters
    ----------
    values
        (n_cells, n_genes), any scale; left as it is.
    hidden
        bool array of the same shape.

    Returns
    -------
    A new matrix of the same shape that stores the entries of `values` that are not hidden.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if values.shape != hidden.shape:
        msg = f"`hidden` must have the shape of `values`, {values.shape}, found {hidden.shape}."
        raise ValueError(msg)
    rows = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    keep = ~hidden[rows, values.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[values.indptr]
    return sparse.csr_matrix((values.data[keep], values.indices[keep], indptr), shape=values.shape)


def hide_genes(
    n_genes: int,
    share: float = 0.1,
    *,
    candidates: np.ndarray | None = None,
    rng: int | np.random.Generator | None = 0,
) -> np.ndarray:
    """Choose the genes to hide in every cell.

    Every candidate is hidden with probability `share`. One random number is drawn for every gene, candidate or not:
    whether a gene is hidden does not depend on which others can be.

    Parameters
    ----------
    n_genes
        Number of genes.
    share
        Share of the candidates to hide, between 0 and 1 (both excluded).
    candidates
        bool array (n_genes,): genes that can be hidden. None: all.
    rng
        Seed or generator.

    Returns
    -------
    bool array (n_genes,), True where hidden.

    Raises
    ------
    ValueError
        `share` is not between 0 and 1, or `candidates` has another length than `n_genes`.
    """
    return hide_entries(1, n_genes, share, measured=candidates, rng=rng)[0]


def without_columns(matrix: sparse.csr_matrix, removed: np.ndarray) -> sparse.csr_matrix:
    """Empty the columns of a matrix that are marked in `removed`, bool (n_columns,)."""
    result = (matrix @ sparse.diags((~removed).astype(matrix.dtype))).tocsr()
    result.eliminate_zeros()
    return sparse.csr_matrix(result)


def choose_panel(counts: sparse.csr_matrix, n_genes: int) -> np.ndarray:
    """Choose the genes of a panel: those that vary most between cells.

    They are found by scanpy (flavor "seurat") on the logarithm of 1 + counts scaled to 10,000 a cell.

    Parameters
    ----------
    counts
        (n_cells, n_genes), linear scale.
    n_genes
        Size of the panel.

    Returns
    -------
    bool array (n_genes,), True for the genes of the panel; `n_genes` of them.

    Raises
    ------
    ValueError
        There are not more genes than the panel shall hold.
    """
    if not 0 < n_genes < counts.shape[1]:
        msg = f"A panel of {n_genes} genes leaves nothing to predict: there are {counts.shape[1]} genes."
        raise ValueError(msg)
    cells = AnnData(counts[counts.getnnz(axis=1) > 0].astype(np.float64))
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    found = sc.pp.highly_variable_genes(cells, flavor="seurat", inplace=False)
    # Taken by rank, as many genes as wanted: scanpy takes none that it could not compare with others.
    order = np.argsort(-found["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")
    panel = np.zeros(counts.shape[1], dtype=bool)
    panel[order[:n_genes]] = True
    return panel


def thin_counts(
    counts: sparse.csr_matrix, share: float = 0.9, *, rng: int | np.random.Generator | None = 0
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Deal the molecules of every entry to two data sets, independently of one another.

    Of Poisson counts the two parts are independent, so that one can be used to judge what was learnt from the other
    (molecular cross-validation, Batson, Royer and Webber 2019).

    Parameters
    ----------
    counts
        (n_cells, n_genes) integers, whatever their dtype.
    share
        Share of the molecules in the first part, between 0 and 1 (both excluded).
    rng
        Seed or generator.

    Returns
    -------
    Two float32 matrices of the same shape, positive entries only, that add up to `counts`.

    Raises
    ------
    ValueError
        `share` is not between 0 and 1, or `counts` holds values that are no counts.
    """
    if not 0 < share < 1:
        msg = f"`share` must lie between 0 and 1, found {share}; 0.9 leaves 90 % of the molecules in the first part."
        raise ValueError(msg)
    whole = np.rint(counts.data).astype(np.int64)
    if (whole < 0).any() or not np.allclose(whole, counts.data, rtol=0, atol=INTEGER_TOLERANCE):
        msg = (
            "adata must hold counts (whole numbers, not negative) in every cell to be thinned, and some values are "
            "none. Name the layer with counts with `layer=`, or leave the task 'thinning' out."
        )
        raise ValueError(msg)
    first = np.random.default_rng(rng).binomial(whole, share)
    return _with_values(counts, first), _with_values(counts, whole - first)


def _with_values(matrix: sparse.csr_matrix, values: np.ndarray) -> sparse.csr_matrix:
    """Put other values at the entries of a matrix, without those that became zero."""
    result = sparse.csr_matrix((values.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape, copy=True)
    result.eliminate_zeros()
    return result
