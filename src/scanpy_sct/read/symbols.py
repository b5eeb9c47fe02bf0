"""Look up symbols, aliases and other spellings of gene names."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
import pandas as pd

from scanpy_sct.read.gene_table import load_gene_table

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


@lru_cache(maxsize=1)
def _name_table() -> pd.DataFrame:
    """All names of all genes: columns name, ensembl_id, evidence, coding; one row per name and gene."""
    table = load_gene_table()
    symbols = table["symbol"]
    aliases = table["aliases"].str.split("|").explode()
    aliases = aliases[aliases != ""]
    # Upper-casing tools turn C1orf112 into C1ORF112; R's make.names turns HLA-A into HLA.A.
    known = pd.concat([symbols, aliases])
    spellings = pd.concat([known.str.upper(), symbols.str.replace("-", ".", regex=False)])
    parts = {Evidence.EXACT: symbols, Evidence.ALIAS: aliases, Evidence.SPELLING: spellings}
    lookup = pd.concat(
        [pd.DataFrame({"name": part, "evidence": int(evidence)}) for evidence, part in parts.items()]
    ).reset_index(names="ensembl_id")
    # Rows are sorted by evidence, so that the first of equal name and gene is kept.
    lookup = lookup.drop_duplicates(["name", "ensembl_id"])
    lookup["coding"] = lookup["ensembl_id"].map(table["biotype"] == "protein_coding")
    return lookup


def _candidates(names: np.ndarray, preferred: np.ndarray) -> pd.DataFrame:
    """Find the genes that fit each name equally well: columns name, ensembl_id, evidence."""
    lookup = _name_table()
    candidates = lookup[lookup["name"].isin(names)].copy()
    is_preferred = candidates["ensembl_id"].isin(preferred)
    candidates["rank"] = np.where(is_preferred, 0, np.where(candidates["coding"], 1, 2))
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
