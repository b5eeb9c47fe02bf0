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
ENTRIES_AT_ONCE = 2**17
"""Entries that are hashed at a time: their numbers stay in the cache of a processor."""
CELLS_AT_ONCE = 256
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
        of_cells, of_genes = _hashes(cells, genes, self.seed)
        result = np.empty((len(cells), len(genes)), dtype=np.uint8)
        # Two tables that stay in the cache, used again and again.
        size = max(1, ENTRIES_AT_ONCE // max(1, len(genes)))
        numbers, more = np.empty((2, min(size, len(cells)), len(genes)), dtype=np.uint32)
        for start in range(0, len(cells), size):
            some = of_cells[start : start + size, None]
            hashed, free = numbers[: len(some)], more[: len(some)]
            _scramble(np.add(some, of_genes, out=hashed), free)
            result[start : start + size] = self._number(hashed, free)
        return result

    def of_entries(self, cells: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Return the pass that masks each of some entries, (entries,) uint8."""
        of_cells, of_genes = _hashes(cells, genes, self.seed)
        hashed, free = of_cells + of_genes, np.empty_like(of_cells)
        return self._number(_scramble(hashed, free), free).astype(np.uint8)

    def _number(self, hashed: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Return the remainder by the number of passes, in place; ``free`` is overwritten."""
        # Several times as fast as the operator.
        np.floor_divide(hashed, np.uint32(self.n), out=free)
        free *= np.uint32(self.n)
        hashed -= free
        return hashed


def _scramble(x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Hash 32-bit integers in place (the hash "lowbias32" of Wellons, 2018); ``free`` is overwritten."""
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        x ^= np.right_shift(x, shift, out=free)
        x *= factor
    x ^= np.right_shift(x, _SHIFTS[-1], out=free)
    return x


def _hashes(cells: np.ndarray, genes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pseudo-random 32-bit integers for cells and for genes; the hash of their sum is that of an entry."""
    numbers = [np.asarray(each).astype(np.uint32) for each in (cells, genes)]
    offsets = np.random.SeedSequence(seed).generate_state(2)
    of_cells, of_genes = (
        _scramble(each + offset, np.empty_like(each)) for each, offset in zip(numbers, offsets, strict=True)
    )
    return of_cells, of_genes


@dataclass(frozen=True)
class BlockMasks:
    """The pass in which each entry of a block of cells is masked.

    Entries that the user hides are masked in all passes. If there are any, two passes are added: the *probe*, which
    masks few other entries, and a last pass, which masks and predicts the hidden entries only and learns from the
    probe.

    The passes are computed where they are asked for: a table of them would be as large as a quarter of the result.
    """

    passes: Passes
    cells: np.ndarray
    """(cells,) rows of the object."""
    genes: np.ndarray
    """(genes,) indices into the vocabulary."""
    measured: np.ndarray
    """(genes,) bool."""
    hidden: np.ndarray | None = None
    """(cells, genes) bool: entries that the user hides; None: none in the whole object."""

    @property
    def n_passes(self) -> int:
        """Number of passes, those for hidden entries included."""
        return self.passes.n if self.hidden is None else self.passes.n + 2

    @property
    def hidden_pass(self) -> int | None:
        """The last pass, if it is that of hidden entries; the probe is the pass before it."""
        return None if self.hidden is None else self.passes.n + 1

    @property
    def n_measured(self) -> int:
        """Number of measured genes."""
        return int(self.measured.sum())

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

    def pass_of(self, rows: np.ndarray | slice = slice(None), genes: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the pass in which each entry is masked, (rows, genes) uint8; `NOT_MASKED` for unmeasured genes."""
        cells, of_genes, measured = self.cells[rows], self.genes[genes], self.measured[genes]
        result = self.passes.assigned(cells, of_genes)
        if self.hidden is not None:
            result[self._probe.assigned(cells, of_genes) == 0] = self.passes.n
            result[self.hidden[rows][:, genes]] = self.hidden_pass
        if not measured.all():
            result[:, ~measured] = NOT_MASKED
        return result

    def targets(self, number: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which entries are predicted in a pass, (rows, genes) bool."""
        return self.pass_of(rows) == number

    def masked(self, number: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which entries are masked in a pass, (rows, genes) bool."""
        return self._is_masked(self.pass_of(rows), number)

    def visible(self, values: sparse.csr_matrix, number: int, rows: slice = slice(None)) -> sparse.csr_matrix:
        """Return the entries of ``values`` (rows, genes) that are visible in a pass."""
        rows = np.arange(len(self.cells))[rows]
        keep = np.empty(values.nnz, dtype=bool)
        for start in range(0, len(rows), CELLS_AT_ONCE):
            some = values[start : start + CELLS_AT_ONCE]
            first = values.indptr[start]
            pass_of = self._pass_of_entries(some, rows[start : start + CELLS_AT_ONCE])
            keep[first : first + some.nnz] = ~self._is_masked(pass_of, number)
        return keep_entries(values, keep)

    def _pass_of_entries(self, values: sparse.csr_matrix, rows: np.ndarray) -> np.ndarray:
        """Return the pass in which each stored entry of ``values`` (rows, genes) is masked, (entries,) uint8."""
        cell, gene = rows[entry_rows(values)], values.indices
        result = self.passes.of_entries(self.cells[cell], self.genes[gene])
        if self.hidden is not None:
            result[self._probe.of_entries(self.cells[cell], self.genes[gene]) == 0] = self.passes.n
            result[self.hidden[cell, gene]] = self.hidden_pass
        result[~self.measured[gene]] = NOT_MASKED
        return result

    def _is_masked(self, pass_of: np.ndarray, number: int) -> np.ndarray:
        if self.hidden_pass is None:
            return pass_of == number
        return (pass_of == number) | (pass_of == self.hidden_pass)

    @property
    def _probe(self) -> Passes:
        """Passes of which the first one is the probe."""
        return Passes(PROBE_PASSES, self.passes.seed + 2)
