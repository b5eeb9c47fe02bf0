"""Match the gene names of a data set to the vocabulary of a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from scipy import sparse

from scanpy_sct.read.columns import as_series, index_of
from scanpy_sct.read.gene_table import load_gene_table, released_vocabulary
from scanpy_sct.read.symbols import Evidence, find_genes
from scanpy_sct.sparse_tools import keep_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "GeneMatch",
    "GeneNames",
    "load_gene_table",
    "match_genes",
    "pick_genes",
    "released_vocabulary",
    "to_ensembl",
]

# Without version suffix (".12"), "_PAR_Y" and genome prefix.
_ENSEMBL_ID = re.compile(r"ENSG\d{11}")
# Cell Ranger adds the genome where reads were aligned to several genomes.
_GENOME_PREFIX = re.compile(r"(?:GRCh3[78]|hg19|hg38)_+")


@dataclass(frozen=True)
class GeneNames:
    """Ensembl ids of a list of gene names."""

    ensembl_ids: np.ndarray
    """(n_names,) Ensembl ids without version, `""` where unknown or ambiguous."""
    id_type: Literal["ensembl", "symbol"]
    """`"ensembl"` if at least half of the names contain an Ensembl id."""
    ambiguous: tuple[str, ...]
    """Names that fit several genes equally well."""
    evidence: np.ndarray
    """(n_names,) integers, see :class:`scanpy_sct.read.symbols.Evidence`."""


@dataclass(frozen=True)
class GeneMatch:
    """Columns of a data set that are genes of a vocabulary."""

    columns: np.ndarray
    """(n_matched,) columns of the data set, increasing."""
    gene_index: np.ndarray
    """(n_matched,) index into the vocabulary of each of these columns, all different."""
    id_type: Literal["ensembl", "symbol"]
    """See :class:`GeneNames`."""
    unmatched: tuple[str, ...]
    """Names without a gene of the vocabulary."""
    ambiguous: tuple[str, ...]
    """Names that fit several genes equally well; not used."""
    duplicates: tuple[str, ...]
    """Names that are not used because another column of the same gene is."""
    kept: tuple[str, ...]
    """For each of these, the name of the column that is used; its position where the names are equal."""
    not_genes: tuple[str, ...]
    """Names of columns that are not genes."""
    symbols_among_ids: tuple[str, ...]
    """Names that are used though they are not Ensembl ids, in data whose other names are."""


def to_ensembl(names: Sequence[str], *, vocabulary: np.ndarray | None = None, one_data_set: bool = True) -> GeneNames:
    """Find the Ensembl ids of gene names: ids (with or without version), symbols, aliases, also mixed.

    A name that contains an Ensembl id is that gene. Otherwise a current symbol is preferred to an alias, and an alias
    to another spelling; among equal ones, genes of the vocabulary are preferred to other protein-coding genes, and
    these to the rest. A name that still fits several genes is ambiguous, and its id is `""`.

    Parameters
    ----------
    names
        (n_names,) gene names as found in the data.
    vocabulary
        Ensembl ids to prefer; None: those of the released network.
    one_data_set
        Whether no gene has two of the names, as in a data set: then one name can decide what another means.
    """
    original = _as_strings(names)
    cleaned = pd.Series([_without_prefix(name.strip()) for name in original], dtype=object)
    ids = np.array([_id_in(name) for name in cleaned], dtype=object)
    is_id = ids != ""

    preferred = released_vocabulary() if vocabulary is None else np.asarray(vocabulary, dtype=str)
    found = find_genes(cleaned[~is_id], preferred, one_data_set=one_data_set)
    ids[~is_id] = found["ensembl_id"]
    evidence = np.full(len(original), int(Evidence.ID))
    evidence[~is_id] = found["evidence"]
    return GeneNames(
        ensembl_ids=ids.astype(str),
        id_type="ensembl" if len(original) and is_id.mean() >= 0.5 else "symbol",
        ambiguous=tuple(original[row] for row in found.index[found["ambiguous"]]),
        evidence=evidence,
    )


def match_genes(
    names: Sequence[str],
    vocabulary: np.ndarray,
    *,
    totals: np.ndarray | None = None,
    is_gene: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    preferred: np.ndarray | None = None,
) -> GeneMatch:
    """Find the columns of a data set that belong to a network's vocabulary.

    Of several columns of one gene, the one with the better evidence is used (an id rather than a current symbol, and
    that rather than an alias), then that with the larger total, then the first.

    Parameters
    ----------
    names
        (n_vars,) gene name of each column.
    vocabulary
        (n_genes,) Ensembl id of each gene of the network, `""` where there is none.
    totals
        (n_vars,) sum of each column; None: the first column is used.
    is_gene
        (n_vars,) bool, False for columns that are no genes whatever their names, see
        :func:`scanpy_sct.read.not_genes.find_not_genes`; None: all may be genes.
    ids
        (n_vars,) Ensembl id of each column from elsewhere, "" where there is none: of several columns of one gene, the
        one with its id is used.
    preferred
        Ensembl ids to prefer where a name fits several genes; None: those of the vocabulary.
    """
    original = np.array(_as_strings(names), dtype=str)
    usable = np.arange(len(original)) if is_gene is None else np.flatnonzero(is_gene)
    vocabulary = np.asarray(vocabulary, dtype=str)
    genes = to_ensembl(original[usable], vocabulary=vocabulary if preferred is None else preferred)
    named = np.flatnonzero(vocabulary != "")
    # -1 for ids that the vocabulary lacks; "" is never among those that are named.
    found = pd.Index(vocabulary[named]).get_indexer(genes.ensembl_ids)
    columns, evidence = usable[found >= 0], genes.evidence[found >= 0]
    gene_index = named[found[found >= 0]]
    if ids is not None:
        evidence = np.where(ids[columns] == vocabulary[gene_index], int(Evidence.ID), evidence)

    ambiguous = set(genes.ambiguous)
    totals = np.zeros(len(original)) if totals is None else np.asarray(totals, dtype=float)
    order = np.lexsort((columns, -totals[columns], evidence))
    # unique() returns the first, hence best, column of each gene.
    unique, best = np.unique(gene_index[order], return_index=True)
    kept = np.sort(order[best])
    duplicates = np.delete(columns, kept)
    used = columns[order[best]][np.searchsorted(unique, np.delete(gene_index, kept))]
    is_symbol = evidence[kept] != Evidence.ID
    return GeneMatch(
        columns=columns[kept],
        gene_index=gene_index[kept],
        id_type=genes.id_type,
        unmatched=tuple(name for name in original[usable[found < 0]].tolist() if name not in ambiguous),
        ambiguous=genes.ambiguous,
        duplicates=tuple(original[duplicates].tolist()),
        kept=tuple(_name_of(column, original, other) for column, other in zip(used, duplicates, strict=True)),
        not_genes=tuple(np.delete(original, usable).tolist()),
        symbols_among_ids=tuple(original[columns[kept][is_symbol]].tolist()) if genes.id_type == "ensembl" else (),
    )


def _name_of(column: int, names: np.ndarray, other: int) -> str:
    """Return the name of a column, or its position if another column has the same name."""
    return f"column {column}" if names[column] == names[other] else str(names[column])


def ids_beside(var: Any) -> np.ndarray | None:
    """Return the Ensembl id of each row of `.var` from its index, or from the first column that has ids for most rows.

    (n_vars,) strings without version, "" where there is none; None if no column has any.
    """
    texts = (as_series(var[name]) for name in var)
    for values in (pd.Series(index_of(var)), *(text for text in texts if not is_numeric_dtype(text))):
        ids = np.array([_id_in(text) for text in _as_strings(values)], dtype=str)
        if (ids != "").mean() >= 0.5:
            return ids
    return None


def pick_genes(matrix: sparse.csr_matrix, genes: GeneMatch, n_genes: int) -> sparse.csr_matrix:
    """Reorder the columns of the data as the genes of the vocabulary, (n_rows, n_genes)."""
    gene_of_column = np.full(matrix.shape[1], -1, dtype=np.int32)
    gene_of_column[genes.columns] = genes.gene_index
    kept = keep_entries(matrix, gene_of_column[matrix.indices] >= 0)
    picked = sparse.csr_matrix((kept.data, gene_of_column[kept.indices], kept.indptr), shape=(matrix.shape[0], n_genes))
    picked.sort_indices()
    return picked


def _as_strings(names: Iterable[str]) -> list[str]:
    """Convert names to strings, `""` for missing ones."""
    listed = list(names)
    if all(isinstance(name, str) for name in listed):
        return [str(name) for name in listed]
    is_missing = pd.Series(listed, dtype=object).isna()
    return ["" if missing else str(name) for name, missing in zip(listed, is_missing, strict=True)]


def _without_prefix(name: str) -> str:
    prefix = _GENOME_PREFIX.match(name)
    return name[prefix.end() :] if prefix else name


def _id_in(name: str) -> str:
    """Return the Ensembl id in a name, "" if there is none."""
    found = _ENSEMBL_ID.search(name)
    return found[0] if found else ""
