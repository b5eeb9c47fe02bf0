"""Gene names: from whatever a data set calls its genes to the positions of a network's vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scanpy_sct.read.gene_table import load_gene_table, released_vocabulary
from scanpy_sct.read.symbols import Evidence, find_genes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["GeneMatch", "GeneNames", "load_gene_table", "match_genes", "released_vocabulary", "to_ensembl"]

# Version suffixes (".12"), "_PAR_Y" and genome prefixes all fall away when only the id itself is taken.
_ENSEMBL_ID = r"(ENSG\d{11})"
# Cell Ranger puts the genome before the name where reads were aligned to several genomes.
_GENOME_PREFIX = r"^(?:GRCh3[78]|hg19|hg38)_+"


@dataclass(frozen=True)
class GeneNames:
    """What a list of gene names stands for.

    Parameters
    ----------
    ensembl_ids
        Ensembl id without version for each name, `""` where unknown or ambiguous, shape `(n_names,)`.
    id_type
        `"ensembl"` if at least half of the names hold an Ensembl id, else `"symbol"`.
    ambiguous
        Names that fit several genes equally well.
    evidence
        How each name was understood: 0 id or current symbol, 1 alias or former symbol, 2 other spelling
        (`C1ORF112`, `HLA.A`), 3 after dropping the `-1` of a name made unique, 4 not at all; shape `(n_names,)`.
    """

    ensembl_ids: np.ndarray
    id_type: Literal["ensembl", "symbol"]
    ambiguous: tuple[str, ...]
    evidence: np.ndarray


@dataclass(frozen=True)
class GeneMatch:
    """Which columns of a data set are which positions of a network.

    Parameters
    ----------
    columns
        Matched columns of the data set, increasing, shape `(n_matched,)`.
    positions
        Position in the vocabulary of each of these columns, each at most once, shape `(n_matched,)`.
    id_type
        `"ensembl"` or `"symbol"`, see :class:`GeneNames`.
    unmatched
        Names that stand for no gene of the vocabulary.
    ambiguous
        Names that fit several genes equally well and are left out.
    duplicates
        Names left out since another column of the same gene was taken.
    """

    columns: np.ndarray
    positions: np.ndarray
    id_type: Literal["ensembl", "symbol"]
    unmatched: tuple[str, ...]
    ambiguous: tuple[str, ...]
    duplicates: tuple[str, ...]


def to_ensembl(names: Sequence[str], *, vocabulary: np.ndarray | None = None) -> GeneNames:
    """Ensembl ids of gene names: ids (with or without version), symbols, aliases, also mixed.

    A name that contains an Ensembl id is that gene. Otherwise a current symbol wins over an alias, an alias over
    another spelling. Where several genes are left, genes of the vocabulary win over other protein-coding genes and
    these over the rest; a name that still fits several genes is ambiguous and left unknown.

    Parameters
    ----------
    names
        Gene names as found in the data, shape `(n_names,)`.
    vocabulary
        Ensembl ids to prefer; the released network's if None.
    """
    original = _as_text(names)
    cleaned = original.str.strip().str.replace(_GENOME_PREFIX, "", regex=True)
    ids = cleaned.str.extract(_ENSEMBL_ID, expand=False).fillna("")
    is_id = (ids != "").to_numpy()

    preferred = released_vocabulary() if vocabulary is None else np.asarray(vocabulary, dtype=str)
    found = find_genes(cleaned[~is_id], preferred)
    ids[~is_id] = found["ensembl_id"]
    evidence = np.full(len(original), int(Evidence.EXACT))
    evidence[~is_id] = found["evidence"]
    ambiguous = found.index[found["ambiguous"]]
    return GeneNames(
        ensembl_ids=ids.to_numpy(dtype=str),
        id_type="ensembl" if len(names) and is_id.mean() >= 0.5 else "symbol",
        ambiguous=tuple(original[ambiguous]),
        evidence=evidence,
    )


def match_genes(names: Sequence[str], vocabulary: np.ndarray, *, totals: np.ndarray | None = None) -> GeneMatch:
    """Find the columns of a data set that belong to a network's vocabulary.

    Where several columns stand for one gene, the better evidence wins (an id or current symbol over an alias, and so
    on), then the larger total, then the first column.

    Parameters
    ----------
    names
        Gene name of each column, shape `(n_vars,)`.
    vocabulary
        Ensembl id at each position of the network, `""` where there is none, shape `(n_positions,)`.
    totals
        Sum of each column, shape `(n_vars,)`; None takes the first column.
    """
    original = _as_text(names).to_numpy(dtype=str)
    vocabulary = np.asarray(vocabulary, dtype=str)
    genes = to_ensembl(names, vocabulary=vocabulary)
    named = np.flatnonzero(vocabulary != "")
    # -1 for ids that the vocabulary lacks; "" is never among the named positions.
    place = pd.Index(vocabulary[named]).get_indexer(genes.ensembl_ids)
    columns = np.flatnonzero(place >= 0)
    positions = named[place[columns]]

    totals = np.zeros(len(original)) if totals is None else np.asarray(totals, dtype=float)
    order = np.lexsort((columns, -totals[columns], genes.evidence[columns]))
    # unique() reports the first, hence best, column of each position.
    _, best = np.unique(positions[order], return_index=True)
    kept = np.sort(order[best])
    return GeneMatch(
        columns=columns[kept],
        positions=positions[kept],
        id_type=genes.id_type,
        unmatched=_without(original[place < 0], genes.ambiguous),
        ambiguous=genes.ambiguous,
        duplicates=tuple(np.delete(original[columns], kept).tolist()),
    )


def _as_text(names: Iterable[str]) -> pd.Series:
    """Names as a Series of strings numbered from 0, `""` for missing ones."""
    series = pd.Series(list(names), dtype=object)
    return series.where(series.notna(), "").astype(str).astype(object)


def _without(names: np.ndarray, left_out: tuple[str, ...]) -> tuple[str, ...]:
    """Names that are not among `left_out`, as a tuple."""
    return tuple(names[~np.isin(names, left_out)].tolist())
