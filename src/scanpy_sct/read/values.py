"""Convert expression to the log scale on which it is predicted, and back to counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.read.scale import Scale, TokenValues, to_log
from scanpy_sct.sparse_tools import keep_entries, row_totals, with_data


@dataclass(frozen=True)
class LogValues:
    """Conversion of stored values to a log scale: that of the input, or `log1p` of counts per 10,000."""

    scale: Scale
    """Of the stored values."""
    normalised: TokenValues | None = None
    """Conversion to `log1p` of counts per 10,000; None: the log scale of the input is kept."""
    counts: TokenValues | None = None
    """Conversion to `log1p` of counts, beside `normalised`."""

    @classmethod
    def found_in(cls, sample: sparse.csr_matrix, scale: Scale, *, normalise: bool) -> LogValues:
        """Find the conversion on some cells, (cells, all genes of the data)."""
        if not normalise:
            return cls(scale)
        return cls(
            scale,
            TokenValues.found_in(sample, scale, "log1p_cp10k"),
            TokenValues.found_in(sample, scale, "log1p_counts"),
        )

    def of(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Convert some cells, (cells, all genes of the data)."""
        return to_log(matrix, self.scale) if self.normalised is None else self.normalised.of(matrix)

    def counts_of(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Convert some cells to counts; only where the data hold counts."""
        log_counts = self.counts.of(matrix)
        return with_data(log_counts, np.expm1(log_counts.data.astype(np.float64)).astype(np.float32))

    def columns_of(self, matrix: sparse.csr_matrix, not_genes: np.ndarray | None, *, counts: bool) -> sparse.csr_matrix:
        """Convert some cells with all columns of the data, of which ``not_genes`` (n_columns,) are none; None: all are.

        The latter are converted as the input is: to `log1p` of their values, negative ones unchanged.
        """
        convert = self.counts_of if counts else self.of
        if not_genes is None:
            return convert(matrix)
        is_other = not_genes[matrix.indices]
        others = keep_entries(matrix, is_other)
        positive = to_log(with_data(others, np.maximum(others.data, 0)), self.scale)
        others = with_data(others, positive.data + np.minimum(others.data, 0))
        return sparse.csr_matrix(convert(keep_entries(matrix, ~is_other)) + others)

    def units(self, matrix: sparse.csr_matrix) -> np.ndarray | None:
        """Return the value of a single count in each cell on the linear scale of :meth:`of`; None: not normalised."""
        if self.normalised is None:
            return None
        log_values = self.of(matrix)
        totals = row_totals(with_data(log_values, np.expm1(log_values.data.astype(np.float64))))
        counts = row_totals(self.counts_of(matrix))
        return np.divide(totals, counts, out=np.ones_like(totals), where=counts > 0)
