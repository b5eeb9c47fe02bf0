"""Look up symbols, aliases and other spellings of gene names."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import pandas as pd

from scanpy_sct.read.gene_table import iterate_genes

# `var_names_make_unique` turns the second "TBCE" into "TBCE-1".
_MADE_UNIQUE = r"^(.+)-\d+$"


class Evidence(IntEnum):
    """How a name was matched; a smaller number is better evidence."""

    ID = -1  # an Ensembl id
    EXACT = 0  # the current symbol
    ALIAS = 1  # a former symbol or synonym
    SPELLING = 2  # C1ORF112 for C1orf112, HLA.A for HLA-A
    SUFFIX = 3  # TBCE-1 for a second TBCE
    UNKNOWN = 4


def find_genes(names: pd.Series, preferred: np.ndarray, *, one_data_set: bool = True) -> pd.DataFrame:
    """Look up names that are not Ensembl ids.

    Parameters
    ----------
    names
        Names as strings.
    preferred
        Ensembl ids to prefer where a name fits several genes equally well.
    one_data_set
        Whether no gene has two of the names, so that one name can decide on another.

    Returns
    -------
    One row per name, index as in `names`: `ensembl_id` (`""` if unknown or ambiguous), `evidence`, `ambiguous`.
    """
    genes = _genes_of(pd.Index(names.unique()), preferred, one_data_set)
    found = _rows_of(genes, names)
    # A name like "TBCE-1" is a second TBCE only where TBCE itself is among the names, and so in `genes`.
    unknown = names[(found["evidence"] == Evidence.UNKNOWN).to_numpy()]
    base = unknown.str.extract(_MADE_UNIQUE, expand=False).dropna()
    if len(base):
        second = _rows_of(genes, base)
        second["evidence"] = second["evidence"].where(second["evidence"] == Evidence.UNKNOWN, int(Evidence.SUFFIX))
        found.loc[base.index] = second
    return found


def genes_named(symbols: Sequence[str]) -> np.ndarray:
    """Return the Ensembl ids of all genes that have one of the current ``symbols``."""
    table = _name_table()
    _, entry = table.find(pd.Index(symbols))
    return table.ensembl_ids[table.gene[entry[table.evidence[entry] == Evidence.EXACT]]].astype(str)


@dataclass(frozen=True)
class _NameTable:
    """All names of all genes, as bytes: a fifth of the memory of strings, and found by bisection."""

    names: np.ndarray
    """(names,) in alphabetical order, UTF-8; a name of several genes is there several times."""
    gene: np.ndarray
    """(names,) index of its gene."""
    evidence: np.ndarray
    """(names,) the best evidence by which it names the gene."""
    ensembl_ids: np.ndarray
    """(genes,) bytes."""
    is_coding: np.ndarray
    """(genes,) bool."""

    def find(self, names: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of a name, increasing, and the number of an entry, for each name and each gene it fits."""
        wanted = np.array([name.encode() for name in names], dtype=bytes)
        first, last = (np.searchsorted(self.names, wanted, side) for side in ("left", "right"))
        number = np.repeat(np.arange(len(names)), last - first)
        starts = np.cumsum(last - first) - (last - first)
        return number, np.arange(len(number)) + (first - starts)[number]


@lru_cache(maxsize=1)
def _name_table() -> _NameTable:
    names: list[bytes] = []
    gene, evidence, is_coding = array("i"), array("B"), array("B")
    ensembl_ids: list[bytes] = []
    for number, (ensembl_id, symbol, aliases, biotype) in enumerate(iterate_genes()):
        ensembl_ids.append(ensembl_id.encode())
        is_coding.append(biotype == "protein_coding")
        if symbol == ensembl_id and not aliases:
            continue  # a gene without a name
        # Upper-casing tools turn C1orf112 into C1ORF112; R's make.names turns HLA-A into HLA.A.
        spellings = [*(name.upper() for name in (symbol, *aliases)), symbol.replace("-", ".")]
        of_gene: dict[str, Evidence] = {}
        for kind, found in ((Evidence.EXACT, [symbol]), (Evidence.ALIAS, aliases), (Evidence.SPELLING, spellings)):
            for name in found:
                of_gene.setdefault(name, kind)
        names += [name.encode() for name in of_gene]
        gene.extend([number] * len(of_gene))
        evidence.extend(of_gene.values())
    in_bytes = np.array(names)
    order = np.argsort(in_bytes, kind="stable")
    return _NameTable(
        in_bytes[order],
        np.array(gene)[order],
        np.array(evidence)[order],
        np.array(ensembl_ids),
        np.array(is_coding, dtype=bool),
    )


def _genes_of(names: pd.Index, preferred: np.ndarray, one_data_set: bool) -> pd.DataFrame:
    """Choose the gene of each of some different names: columns ensembl_id (`""` if ambiguous), evidence, ambiguous."""
    table = _name_table()
    name, gene, evidence = _candidates(names, preferred)
    is_clear = np.bincount(name, minlength=len(names))[name] == 1
    # In data with a column SARS2, the column SARS (alias of SARS1 and of SARS2) must be SARS1.
    is_left = ~is_clear & ~np.isin(gene, gene[is_clear]) if one_data_set else ~is_clear
    is_chosen = is_clear | (is_left & (np.bincount(name[is_left], minlength=len(names))[name] == 1))
    ids = np.full(len(names), "", dtype=object)
    kinds, ambiguous = np.full(len(names), int(Evidence.UNKNOWN)), np.zeros(len(names), dtype=bool)
    kinds[name] = evidence
    ambiguous[name] = True
    ambiguous[name[is_chosen]] = False
    ids[name[is_chosen]] = table.ensembl_ids[gene[is_chosen]].astype(str)
    return pd.DataFrame({"ensembl_id": ids, "evidence": kinds, "ambiguous": ambiguous}, index=names)


def _candidates(names: pd.Index, preferred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the genes that fit each name equally well: number of the name, number of the gene, and evidence."""
    table = _name_table()
    name, entry = table.find(names)
    gene, evidence = table.gene[entry], table.evidence[entry]
    preferred_ids = set(preferred.tolist())  # arrays of so many strings are searched more slowly
    ids = table.ensembl_ids[gene].astype(str).tolist()
    is_other = np.array([ensembl_id not in preferred_ids for ensembl_id in ids], dtype=bool)
    # Better evidence first, then a preferred gene, then a coding one.
    place = 3 * evidence.astype(int) + is_other + (is_other & ~table.is_coding[gene])
    best = np.full(len(names), 255)
    np.minimum.at(best, name, place)
    kept = place == best[name]
    return name[kept], gene[kept], evidence[kept]


def _rows_of(genes: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Return one row of `genes` for each name, also for unknown names."""
    row = genes.index.get_indexer(names)
    is_there = row >= 0
    return pd.DataFrame(
        {
            "ensembl_id": np.where(is_there, genes["ensembl_id"].to_numpy()[row], ""),
            "evidence": np.where(is_there, genes["evidence"].to_numpy()[row], int(Evidence.UNKNOWN)),
            "ambiguous": is_there & genes["ambiguous"].to_numpy()[row],
        },
        index=names.index,
    )
