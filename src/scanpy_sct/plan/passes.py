"""Assign every entry to the one of several passes in which it is masked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import entry_rows, keep_entries

_SHIFTS = (np.uint32(16), np.uint32(15), np.uint32(16))
_FACTORS = (np.uint32(0x7FEB352D), np.uint32(0x846CA68B))
PROBE_PASSES = 12
"""The probe masks one visible entry in this many."""
MAX_PASSES = 250
"""The number of a pass is stored in 8 bits, beside two passes for hidden entries and `NOT_MASKED`."""
ROWS_AT_ONCE = 32
"""Cells that are hashed at a time: their numbers stay in the cache of a processor."""

ROWS_COUNTED = 255


def _scramble(x: np.ndarray) -> np.ndarray:
    """Hash 32-bit integers in place (the hash "lowbias32" of Wellons, 2018)."""
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        x ^= x >> shift
        x *= factor
    x ^= x >> _SHIFTS[-1]
    return x


NOT_MASKED = 255
"""Instead of a pass for entries of unmeasured genes, which belong to no pass."""


@dataclass(frozen=True)
class Passes:
    """Assignment of each entry (cell, gene) to the one pass in which it is masked.

    The assignment is a hash of cell, gene and seed: it needs no memory, and it is the same however the cells are
    divided into blocks, bags, batches or workers.
    """

    n: int
    """Number of passes."""
    seed: int

    @classmethod
    def for_fraction(cls, mask_fraction: float, seed: int) -> Passes:
        """Make as few passes as possible, up to 250, with at most ``mask_fraction`` of the entries masked in each."""
        return cls(int(np.clip(np.ceil(1 / mask_fraction - 1e-9), 2, MAX_PASSES)), seed)

    def assigned(self, cells: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Return the pass that masks each entry, (cells, genes) uint8, for rows and indices into the vocabulary."""
        result = np.empty((len(cells), len(genes)), dtype=np.uint8)
        for start in range(0, len(cells), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            result[rows] = entry_hash(cells[rows, None], genes, self.seed) % np.uint32(self.n)
        return result

    def of_entries(self, cells: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Return the pass that masks each of some entries, (entries,) uint8."""
        return (entry_hash(cells, genes, self.seed) % np.uint32(self.n)).astype(np.uint8)


@dataclass(frozen=True)
class BlockMasks:
    """The pass in which each entry of a block of cells is masked.

    Entries that the user hides are masked in all passes. If there are any, two passes are added: the *probe*, which
    masks few other entries, and a last pass, which masks and predicts the hidden entries only and learns from the
    probe.
    """

    pass_of: np.ndarray
    """(cells, genes) uint8, `NOT_MASKED` for unmeasured genes."""
    n_passes: int
    """Number of passes, those for hidden entries included."""
    hidden_pass: int | None = None
    """The last pass, if it is that of hidden entries; the probe is the pass before it."""

    @classmethod
    def of(
        cls, passes: Passes, cells: np.ndarray, genes: np.ndarray, measured: np.ndarray, hidden: np.ndarray | None
    ) -> BlockMasks:
        """Assign the entries of a block.

        Parameters
        ----------
        passes
            The passes.
        cells, genes
            Rows of the object, and indices into the vocabulary.
        measured
            (genes,) bool.
        hidden
            (cells, genes) bool: entries that the user hides; None: none in the whole object.
        """
        pass_of = passes.assigned(cells, genes)
        pass_of[:, ~measured] = NOT_MASKED
        if hidden is None:
            return cls(pass_of, passes.n)
        probe = Passes(PROBE_PASSES, passes.seed + 2)
        pass_of[(probe.assigned(cells, genes) == 0) & measured] = passes.n
        pass_of[hidden & measured] = passes.n + 1
        return cls(pass_of, passes.n + 2, passes.n + 1)

    @property
    def n_measured(self) -> int:
        """Number of measured genes."""
        return int((self.pass_of[:1] != NOT_MASKED).sum())

    @property
    def is_known(self) -> np.ndarray:
        """(passes,) bool: whether the values of the entries of each pass may be used; False for hidden entries."""
        return np.arange(self.n_passes) != self.hidden_pass

    @property
    def learns_from(self) -> np.ndarray:
        """(passes, passes) bool: which passes (second axis) the weights of each pass are estimated on.

        No pass learns from its own entries. The pass of hidden entries learns from the probe, which masks nearly as few
        entries; all others learn from the passes that are neither.
        """
        n = self.n_passes
        if self.hidden_pass is None:
            return ~np.eye(n, dtype=bool)
        result = np.zeros((n, n), dtype=bool)
        result[:-1, :-2] = ~np.eye(n - 1, n - 2, dtype=bool)
        result[-1, -2] = True
        return result

    def targets(self, number: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which entries are predicted in a pass, (rows, genes) bool."""
        return self.pass_of[rows] == number

    def masked(self, number: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which entries are masked in a pass, (rows, genes) bool."""
        return self._is_masked(self.pass_of[rows], number)

    def n_masked(self, number: int) -> np.ndarray:
        """Count the cells in which each gene is masked in a pass, (genes,) int64."""
        total = np.zeros(self.pass_of.shape[1], dtype=np.int64)
        for start in range(0, len(self.pass_of), ROWS_COUNTED):
            # 8 bits hold the count of these rows, and are added much faster.
            total += self.masked(number, slice(start, start + ROWS_COUNTED)).sum(axis=0, dtype=np.uint8)
        return total

    def visible(self, values: sparse.csr_matrix, number: int, rows: slice = slice(None)) -> sparse.csr_matrix:
        """Return the entries of ``values`` (rows, genes) that are visible in a pass."""
        pass_of = self.pass_of[rows]
        return keep_entries(values, ~self._is_masked(pass_of[entry_rows(values), values.indices], number))

    def _is_masked(self, pass_of: np.ndarray, number: int) -> np.ndarray:
        if self.hidden_pass is None:
            return pass_of == number
        return (pass_of == number) | (pass_of == self.hidden_pass)


def entry_hash(cells: np.ndarray, genes: np.ndarray, seed: int) -> np.ndarray:
    """Return a pseudo-random 32-bit number for each entry, uint32 of the common shape of ``cells`` and ``genes``."""
    offsets = np.random.SeedSequence(seed).generate_state(2)
    of_cells = _scramble(np.asarray(cells).astype(np.uint32) + offsets[0])
    of_genes = _scramble(np.asarray(genes).astype(np.uint32) + offsets[1])
    return _scramble(of_cells + of_genes)
