"""The file `genes.tsv` of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

MAX_GENE_BYTES = 1_000
"""Largest line of the file."""
COLUMNS = ["position", "ensembl_id", "symbol"]


def write_genes(path: Path, genes: np.ndarray) -> None:
    """Write the Ensembl id and the symbol of each gene of a network, `genes` (n_genes,)."""
    from scanpy_sct.read.genes import load_gene_table

    symbols = load_gene_table()["symbol"].reindex(genes).fillna("")
    table = pd.DataFrame({"ensembl_id": genes, "symbol": symbols.to_numpy()})
    table.to_csv(path, sep="\t", index_label="position", lineterminator="\n")


def read_gene_ids(path: Path, n_genes: int) -> np.ndarray:
    """Read the Ensembl id of each gene, (n_genes,); a ValueError if the file does not have that many in order."""
    if path.stat().st_size > MAX_GENE_BYTES * (n_genes + 1):
        msg = f"{path} is too large for {n_genes} genes; copy or download the checkpoint again."
        raise ValueError(msg)
    # One list of all cells of the table; lists of lists, or a data frame, take several times as long.
    cells = path.read_text(encoding="utf-8").removesuffix("\n").replace("\n", "\t").split("\t")
    n_columns, positions = len(COLUMNS), [str(number) for number in range(n_genes)]
    if len(cells) % n_columns or cells[:n_columns] != COLUMNS or cells[n_columns::n_columns] != positions:
        msg = f"{path} must have the columns position (0 to {n_genes - 1}, in order), ensembl_id and symbol."
        raise ValueError(msg)
    return np.array(cells[n_columns + 1 :: n_columns], dtype=str)
