"""Groups of entries: those of one gene that are masked in one pass, on which calibration and blend are estimated."""

from __future__ import annotations

import numpy as np


class Groups:
    """Groups of consecutive entries, ordered by gene and, within a gene, by pass.

    Parameters
    ----------
    sizes
        (genes, passes) integers: entries of each group.
    """

    def __init__(self, sizes: np.ndarray) -> None:
        self.sizes = sizes
        flat = sizes.ravel()
        self._filled = flat > 0
        self._starts = (np.cumsum(flat) - flat)[self._filled]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum ``values`` (entries,) over each group, (genes, passes) float64."""
        result = np.zeros(self._filled.shape)
        if len(self._starts):
            result[self._filled] = np.add.reduceat(values, self._starts, dtype=np.float64)
        return result.reshape(self.sizes.shape)

    def spread(self, table: np.ndarray) -> np.ndarray:
        """Repeat the value of each group, (genes, passes), for all its entries, (entries,)."""
        return np.repeat(table.ravel(), self.sizes.ravel())


class PassOrder:
    """Order of all entries of some genes by gene and pass.

    Parameters
    ----------
    pass_of
        (cells, genes) uint8: pass in which each entry is masked, below ``n_passes``.
    n_passes
        Number of passes.
    """

    def __init__(self, pass_of: np.ndarray, n_passes: int) -> None:
        by_gene = np.ascontiguousarray(pass_of.T)
        n_genes = len(by_gene)
        cells = np.argsort(by_gene, axis=1, kind="stable")
        cells *= n_genes
        cells += np.arange(n_genes)[:, None]
        self._order = cells.ravel()
        self.groups = Groups(np.stack([np.count_nonzero(by_gene == number, axis=1) for number in range(n_passes)], 1))

    def of(self, table: np.ndarray) -> np.ndarray:
        """Return a table (cells, genes) in the order of the groups, (entries,)."""
        return table.ravel().take(self._order)
