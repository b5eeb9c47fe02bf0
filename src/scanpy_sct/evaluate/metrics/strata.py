"""Parts of the entries that are judged on their own."""

from __future__ import annotations

import numpy as np

ALL, ZERO, NON_ZERO = "all", "zero", "non-zero"
"""All entries, those measured as zero, and the others."""

GENE_STRATA = ("gene < 1 %", "gene 1-10 %", "gene 10-50 %", "gene > 50 %")
"""Entries of genes by the share of all cells that express them."""


def gene_strata(rates: np.ndarray) -> np.ndarray:
    """Find the place in `GENE_STRATA` of each gene, int (n_genes,).

    Parameters
    ----------
    rates
        (n_genes,): share of all cells that express the gene.
    """
    return np.select([rates < 0.01, rates < 0.1, rates <= 0.5], [0, 1, 2], 3)
