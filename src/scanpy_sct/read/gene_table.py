"""The table of human genes that ships with the package."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import pandas as pd

N_RELEASED_GENES = 19_968
"""Genes of the released network: 19,965, padded to a multiple of 256."""

_FILE = files("scanpy_sct.read") / "data" / "genes.tsv.gz"


def iterate_genes() -> Iterator[tuple[str, str, list[str], str]]:
    """Yield Ensembl id, symbol, aliases and biotype of each gene of the table, without a table in memory."""
    with _FILE.open("rb") as stored, gzip.open(stored, "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            ensembl_id, symbol, aliases, biotype, _ = line.rstrip("\n").split("\t")
            yield ensembl_id, symbol or ensembl_id, aliases.split("|") if aliases else [], biotype


@lru_cache(maxsize=1)
def gene_ids() -> np.ndarray:
    """Return the Ensembl ids of all genes of the table, (genes,) bytes, which need a fifth of the memory of strings."""
    return np.array([ensembl_id.encode() for ensembl_id, *_ in iterate_genes()])


@lru_cache(maxsize=1)
def load_gene_table() -> pd.DataFrame:
    """Load the table of human genes (GENCODE 48; aliases from GENCODE 44 and NCBI Gene).

    Returns
    -------
    One row a gene, index `ensembl_id` without version; columns `symbol` (the id itself for nameless genes),
    `aliases` ('|'-joined, may be empty), `biotype`, `sct_position` (gene index in the released network, -1 for none).
    The table is cached: copy it before changing it.
    """
    with as_file(_FILE) as path:
        table = pd.read_csv(
            path, sep="\t", index_col="ensembl_id", keep_default_na=False, dtype={"sct_position": np.int64}
        )
    table["symbol"] = table["symbol"].where(table["symbol"] != "", table.index)
    return table


def released_vocabulary() -> np.ndarray:
    """Return the Ensembl id of each gene of the released network.

    Returns
    -------
    (19968,) strings; `""` for the 28 genes without a usable id and the 3 of the padding.
    """
    gene_index = load_gene_table()["sct_position"]
    gene_index = gene_index[gene_index >= 0]
    vocabulary = np.full(N_RELEASED_GENES, "", dtype=object)
    vocabulary[gene_index.to_numpy()] = gene_index.index.to_numpy()
    return vocabulary.astype(str)
