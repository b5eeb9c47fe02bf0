"""Groups of entries that are measured separately."""

from __future__ import annotations

import numpy as np

ALL, ZERO, NON_ZERO = "all", "zero", "non-zero"
"""All entries, those measured as zero, and the others."""

GENE_STRATA = ("gene < 1 %", "gene 1-10 %", "gene 10-50 %", "gene > 50 %")
"""Entries of genes by their detection rate over all cells."""


def gene_strata(rates: np.ndarray) -> np.ndarray:
    """Turn the detection rate of each gene into the number of its stratum in `GENE_STRATA`, int (n_genes,)."""
    return np.select([rates < 0.01, rates < 0.1, rates <= 0.5], [0, 1, 2], 3)
