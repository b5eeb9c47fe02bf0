"""The table of human genes that ships with the package."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import pandas as pd

N_RELEASED_POSITIONS = 19_968
"""Positions of the released network: 19,965 genes, filled up to a multiple of 256."""


@lru_cache(maxsize=1)
def load_gene_table() -> pd.DataFrame:
    """Human genes as the package knows them (GENCODE 48; aliases from GENCODE 44 and NCBI Gene).

    Returns
    -------
    One row a gene, index `ensembl_id` without version; columns `symbol` (the id itself for nameless genes),
    `aliases` ('|'-joined, may be empty), `biotype`, `sct_position` (position in the released network, -1 for none).
    The table is shared: copy it before changing it.
    """
    with as_file(files("scanpy_sct.read") / "data" / "genes.tsv.gz") as path:
        table = pd.read_csv(
            path, sep="\t", index_col="ensembl_id", keep_default_na=False, dtype={"sct_position": np.int64}
        )
    table["symbol"] = table["symbol"].where(table["symbol"] != "", table.index)
    return table


def released_vocabulary() -> np.ndarray:
    """Ensembl id at each position of the released network.

    Returns
    -------
    Array of strings, shape `(19968,)`; `""` at the 28 positions without a usable id and the 3 filled up ones.
    """
    positions = load_gene_table()["sct_position"]
    positions = positions[positions >= 0]
    vocabulary = np.full(N_RELEASED_POSITIONS, "", dtype=object)
    vocabulary[positions.to_numpy()] = positions.index.to_numpy()
    return vocabulary.astype(str)
