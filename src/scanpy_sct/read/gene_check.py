"""Check that the gene names of an object are those of the model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.read.columns import as_frame, index_of
from scanpy_sct.read.genes import GeneMatch, match_genes
from scanpy_sct.read.not_genes import has_types
from scanpy_sct.read.options import argument_of

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

MAX_SYMBOLS_AMONG_IDS = 0.2
"""Fraction of the genes."""


def check_match(
    match: GeneMatch,
    names: pd.Series,
    vocabulary: np.ndarray,
    adata: AnnData,
    gene_names: str | None,
    min_genes: int,
    owner: str = "adata",
) -> None:
    """Raise an error that says how to fix it for mouse genes and for fewer than ``min_genes`` matched genes.

    ``names`` and ``gene_names`` are the names that were matched, and the column that holds them. Messages name the
    object ``owner``.
    """
    n_matched = len(match.columns)
    used = f"{owner}.var_names" if gene_names is None else f"{owner}.var[{gene_names!r}]"
    other = _looks_like_mouse(names, vocabulary, n_matched, owner)
    if n_matched >= min_genes and not other:
        logger.debug("%d of %d genes matched by %s.", n_matched, len(names), match.id_type)
        return
    examples = ", ".join(map(repr, names.dropna().head(5)))
    found = f"{n_matched} of {len(names)} names in {used} ({examples}, ...; read as {match.id_type}s)"
    if other:
        msg = f"Only {found} are human genes of the model. {other}"
    else:
        n_needed = max(min_genes, n_matched + 1)
        msg = (
            f"Only {found} are genes of the model, and at least {min_genes} are needed. Human gene symbols or Ensembl "
            f"gene ids (ENSG...) are understood. {_better_names(adata, vocabulary, gene_names, n_needed, owner)}"
        )
    raise ValueError(msg.strip())


def symbols_among_ids(genes: GeneMatch, var: Any, owner: str = "adata") -> str:
    """Return a warning if, among Ensembl ids, some columns are taken for genes by symbols alone; else "".

    Where `.var` says of what type the columns are, these are genes; and many symbols are no sign of antibodies.
    """
    names = genes.symbols_among_ids
    if not names or has_types(var) or len(names) > MAX_SYMBOLS_AMONG_IDS * len(genes.columns):
        return ""
    examples = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
    return (
        f"Most columns of {owner} have Ensembl ids, but {len(names)} have symbols ({examples}) and are read as these "
        f"genes. If they are antibodies or the like, remove them, or say so in {owner}.var['feature_types'] ('Antibody "
        "Capture')."
    )


def _looks_like_mouse(names: pd.Series, vocabulary: np.ndarray, n_matched: int, owner: str) -> str:
    """Return why the genes seem to be of mouse, and how to fix it; "" for human genes.

    A few dozen mouse symbols are also human ones (C3, F2), so that the number of matches alone is not enough.
    """
    text = names.fillna("").astype(str)
    if text.str.contains(r"ENSMUSG\d", regex=True).mean() > 0.5 and n_matched < len(text) / 10:
        return "They are mouse Ensembl ids (ENSMUSG...): map them to human orthologues first."
    if n_matched > len(text) / 2:
        return ""
    n_upper = len(match_genes(text.str.upper(), vocabulary).columns)
    if n_upper <= 2 * max(n_matched, 5):
        return ""
    return (
        f"In upper case {n_upper} names would match, so these look like genes of mouse or another species: map them to "
        "human orthologues first (human genes written in lower case: "
        f"`{owner}.var_names = {owner}.var_names.str.upper()`)."
    )


def _better_names(adata: AnnData, vocabulary: np.ndarray, gene_names: str | None, n_needed: int, owner: str) -> str:
    """Return where enough gene names are: in another column of `.var`, or in the other dimension of the matrix."""
    candidates = {
        column: values
        for column, values in as_frame(adata.var).items()
        if column != gene_names and isinstance(column, str) and not pd.api.types.is_numeric_dtype(values)
    }
    if gene_names is not None:
        candidates[None] = pd.Series(index_of(adata.var).astype(str))
    n_by_column = {
        column: len(match_genes(values.astype(object), vocabulary).columns) for column, values in candidates.items()
    }
    best = max(n_by_column, key=n_by_column.get, default=None)
    if n_by_column and n_by_column[best] >= n_needed:
        where = f"{owner}.var_names" if best is None else f"{owner}.var[{best!r}]"
        argument = argument_of(owner, "gene_names")
        return f"{n_by_column[best]} names in {where} would match: use {argument}={best!r}."
    n_rows = len(match_genes(index_of(adata.obs).astype(str), vocabulary).columns)
    if n_rows >= n_needed:
        return f"{n_rows} names in {owner}.obs_names would match: the object looks transposed, use {owner}.T."
    return ""
