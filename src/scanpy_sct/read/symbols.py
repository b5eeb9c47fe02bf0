"""Look up symbols, aliases and other spellings of gene names."""

from __future__ import annotations

from array import array
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
    genes = _choose(_candidates(names.unique(), preferred), one_data_set)
    found = _rows_of(genes, names)
    # A name like "TBCE-1" is a second TBCE only where TBCE itself is among the names, and so in `genes`.
    unknown = names[(found["evidence"] == Evidence.UNKNOWN).to_numpy()]
    base = unknown.str.extract(_MADE_UNIQUE, expand=False).dropna()
    second = _rows_of(genes, base)
    second["evidence"] = second["evidence"].where(second["evidence"] == Evidence.UNKNOWN, int(Evidence.SUFFIX))
    found.loc[base.index] = second
    return found


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

    def find(self, names: np.ndarray) -> pd.DataFrame:
        """Return one row for each of some names and each gene it fits: name, ensembl_id, evidence, coding."""
        wanted = np.array([name.encode() for name in names], dtype=bytes)
        first, last = (np.searchsorted(self.names, wanted, side) for side in ("left", "right"))
        found = np.concatenate([np.arange(*ends) for ends in zip(first, last, strict=True)] or [first])
        gene = self.gene[found]
        return pd.DataFrame(
            {
                "name": np.repeat(names, last - first),
                "ensembl_id": self.ensembl_ids[gene].astype(str).astype(object),
                "evidence": self.evidence[found].astype(int),
                "coding": self.is_coding[gene],
            }
        )


@lru_cache(maxsize=1)
def _name_table() -> _NameTable:
    names: list[bytes] = []
    gene, evidence, is_coding = array("i"), array("B"), array("B")
    ensembl_ids: list[bytes] = []
    for number, (ensembl_id, symbol, aliases, biotype) in enumerate(iterate_genes()):
        # Upper-casing tools turn C1orf112 into C1ORF112; R's make.names turns HLA-A into HLA.A.
        spellings = [*(name.upper() for name in (symbol, *aliases)), symbol.replace("-", ".")]
        of_gene: dict[str, Evidence] = {}
        for kind, found in ((Evidence.EXACT, [symbol]), (Evidence.ALIAS, aliases), (Evidence.SPELLING, spellings)):
            for name in found:
                of_gene.setdefault(name, kind)
        names += [name.encode() for name in of_gene]
        gene.extend([number] * len(of_gene))
        evidence.extend(of_gene.values())
        ensembl_ids.append(ensembl_id.encode())
        is_coding.append(biotype == "protein_coding")
    in_bytes = np.array(names)
    order = np.argsort(in_bytes, kind="stable")
    return _NameTable(
        in_bytes[order],
        np.array(gene)[order],
        np.array(evidence)[order],
        np.array(ensembl_ids),
        np.array(is_coding, dtype=bool),
    )


def _candidates(names: np.ndarray, preferred: np.ndarray) -> pd.DataFrame:
    """Find the genes that fit each name equally well: columns name, ensembl_id, evidence."""
    candidates = _name_table().find(names)
    is_other = ~candidates["ensembl_id"].isin(preferred)
    candidates["rank"] = is_other.astype(int) + (is_other & ~candidates["coding"])
    for column in ("evidence", "rank"):
        best = candidates.groupby("name")[column].transform("min")
        candidates = candidates[candidates[column] == best]
    return candidates[["name", "ensembl_id", "evidence"]]


def _choose(candidates: pd.DataFrame, one_data_set: bool) -> pd.DataFrame:
    """Choose the gene of each name: columns ensembl_id (`""` if ambiguous), evidence, ambiguous; index name."""
    clear = candidates[~candidates["name"].duplicated(keep=False)]
    unclear = candidates.drop(index=clear.index)
    # In data with a column SARS2, the column SARS (alias of SARS1 and of SARS2) must be SARS1.
    left = unclear[~unclear["ensembl_id"].isin(clear["ensembl_id"])] if one_data_set else unclear
    left = left[~left["name"].duplicated(keep=False)]
    unclear = unclear[~unclear["name"].isin(left["name"])].drop_duplicates("name").assign(ensembl_id="")
    genes = pd.concat([clear, left, unclear]).set_index("name")
    genes["ambiguous"] = genes["ensembl_id"] == ""
    return genes


def _rows_of(genes: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Return one row of `genes` for each name, also for unknown names."""
    rows = genes.reindex(names)
    return pd.DataFrame(
        {
            "ensembl_id": rows["ensembl_id"].fillna("").to_numpy(dtype=object),
            "evidence": rows["evidence"].fillna(int(Evidence.UNKNOWN)).to_numpy(dtype=int),
            "ambiguous": rows["ambiguous"].eq(True).to_numpy(),
        },
        index=names.index,
    )
