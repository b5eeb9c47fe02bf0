"""Make the tokens of cells, and the expression value of each bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bins import Binning, assign_bins, bin_edges, bin_values, count_bin_values
from scanpy_sct.sparse_tools import entry_rows, keep_entries


@dataclass(frozen=True)
class TokenRules:
    """How the expression of a cell is written as tokens."""

    vocabulary: np.ndarray
    """Ensembl id of each gene of the network, "" where there is none."""
    mask: int
    """Token of a masked or unmeasured gene."""
    pad: int
    """Token behind the last gene."""
    binning: Binning = "uniform"

    @property
    def n_bins(self) -> int:
        """Number of bins, zero included: all tokens below the mask token."""
        return self.mask

    def empty_cell(self, measured: np.ndarray) -> np.ndarray:
        """Return the tokens of a cell in which nothing was detected, (genes,) uint8.

        ``measured`` is (genes,) bool.
        """
        has_gene = self.vocabulary != ""
        n_used = np.flatnonzero(has_gene)[-1] + 1 if has_gene.any() else 0
        tokens = np.zeros(len(self.vocabulary), dtype=np.uint8)
        tokens[has_gene & ~measured] = self.mask
        tokens[n_used:] = self.pad
        return tokens

    def visible_genes(self, measured: np.ndarray) -> np.ndarray:
        """Return the indices of genes that can be visible; all others are masked, or padding, in all cells."""
        return np.flatnonzero(measured | (self.empty_cell(measured) < self.n_bins))


@dataclass(frozen=True)
class BagTokens:
    """Tokens (cells, genes) uint8, and the value of each bin but zero in each cell (cells, n_bins - 1) float32."""

    tokens: np.ndarray
    values: np.ndarray


def make_tokens(
    binned: sparse.csr_matrix, values: sparse.csr_matrix, masked: np.ndarray, measured: np.ndarray, rules: TokenRules
) -> BagTokens:
    """Write the visible entries of some cells as tokens.

    Parameters
    ----------
    binned
        (cells, genes) values that are binned, explicit entries positive.
    values
        The same entries on the scale of the predictions.
    masked
        (cells, genes) bool: entries that become the mask token, and do not influence edges and bin values.
    measured
        (genes,) bool.
    rules
        Token rules of the checkpoint.
    """
    # Flat positions and arithmetic on bytes are several times as fast as pairs of indices and boolean masks.
    position = entry_rows(binned) * binned.shape[1] + binned.indices
    is_visible = ~masked.ravel().take(position)
    visible = keep_entries(binned, is_visible)
    bins = assign_bins(visible, bin_edges(visible, rules.n_bins, rules.binning))
    is_masked = masked & measured
    # In bytes -1 has all bits: this is the mask token where an entry is masked, else 0.
    tokens = np.negative(is_masked.view(np.uint8)) & np.uint8(rules.mask)
    tokens |= rules.empty_cell(measured)
    tokens.ravel()[position[is_visible]] = bins
    visible_values = visible if values is binned else keep_entries(values, is_visible)
    typical = count_bin_values(visible, visible_values, rules.n_bins) if rules.binning == "counts" else None
    return BagTokens(tokens, bin_values(visible_values, bins, rules.n_bins, typical=typical))
