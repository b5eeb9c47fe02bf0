"""The tokens of one bag: what the network sees, and what its answers are worth in units of expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.plan.bins import Binning, assign_bins, bin_edges, bin_values, count_bin_values, entry_rows


@dataclass(frozen=True)
class TokenRules:
    """How a checkpoint writes expression as tokens."""

    vocabulary: np.ndarray
    """Ensembl id at each position, "" where there is no gene."""
    mask: int
    """Token of a hidden or unmeasured gene."""
    pad: int
    """Token of the positions behind the last gene."""
    n_bins: int = 4
    binning: Binning = "uniform"
    unmeasured: str = "mask"
    """``"mask"``: a gene that was not measured is unknown; ``"zero"``: it is not expressed."""

    def background(self, measured: np.ndarray) -> np.ndarray:
        """Token of each position in a cell without any expression, (n_positions,) uint8."""
        has_gene = self.vocabulary != ""
        n_used = np.flatnonzero(has_gene)[-1] + 1 if has_gene.any() else 0
        tokens = np.zeros(len(self.vocabulary), dtype=np.uint8)
        if self.unmeasured == "mask":
            tokens[has_gene & ~measured] = self.mask
        tokens[n_used:] = self.pad
        return tokens


@dataclass(frozen=True)
class BagTokens:
    """Tokens (cells, positions) uint8, and the value of each bin in each cell (cells, n_bins) float32."""

    tokens: np.ndarray
    values: np.ndarray


def make_tokens(
    binned: sparse.csr_matrix, wanted: sparse.csr_matrix, hidden: np.ndarray, measured: np.ndarray, rules: TokenRules
) -> BagTokens:
    """Write the visible entries of some cells as tokens.

    Parameters
    ----------
    binned
        (cells, positions) values that are binned, explicit entries positive.
    wanted
        The same entries on the scale on which predictions are wanted.
    hidden
        (cells, positions) bool: replaced by the mask token, and without influence on edges and bin values.
    measured
        (positions,) bool.
    rules
        Token rules of the checkpoint.
    """
    rows = entry_rows(binned)
    visible = ~hidden[rows, binned.indices]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[visible], minlength=binned.shape[0]))])
    seen = sparse.csr_matrix((binned.data[visible], binned.indices[visible], indptr), shape=binned.shape)
    bins = assign_bins(seen, bin_edges(seen, rules.n_bins, rules.binning))
    tokens = np.tile(rules.background(measured), (binned.shape[0], 1))
    tokens[rows[visible], seen.indices] = bins
    tokens[hidden & measured] = rules.mask
    values = sparse.csr_matrix((wanted.data[visible], seen.indices, indptr), shape=binned.shape)
    typical = count_bin_values(seen, values, rules.n_bins) if rules.binning == "counts" else None
    return BagTokens(tokens, bin_values(values, bins, rules.n_bins, typical=typical))
