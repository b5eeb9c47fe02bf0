"""What is hidden when: every entry in exactly one of several passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SHIFTS = (np.uint32(16), np.uint32(15), np.uint32(16))
_FACTORS = (np.uint32(0x7FEB352D), np.uint32(0x846CA68B))


def _scramble(x: np.ndarray) -> np.ndarray:
    """Turn a counter into a well-mixed 32-bit number, in place (the hash "lowbias32" of Wellons, 2018)."""
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        x ^= x >> shift
        x *= factor
    x ^= x >> _SHIFTS[-1]
    return x


@dataclass(frozen=True)
class Passes:
    """Assigns each entry (cell, gene) to the one pass in which it is hidden.

    The assignment is a hash of cell, gene and seed: it needs no memory, and it is the same however the cells are
    divided into bags, batches or workers.
    """

    n: int
    """Number of passes."""
    seed: int

    @classmethod
    def for_fraction(cls, mask_fraction: float, seed: int) -> Passes:
        """Make as few passes as possible with no more than ``mask_fraction`` of the entries hidden in each."""
        return cls(max(2, int(np.ceil(1 / mask_fraction - 1e-9))), seed)

    def assigned(self, cells: np.ndarray, n_positions: int) -> np.ndarray:
        """Pass in which each entry is hidden, (len(cells), n_positions) uint8; ``cells`` are row numbers."""
        return (entry_hash(cells, n_positions, self.seed) % np.uint32(self.n)).astype(np.uint8)


def entry_hash(cells: np.ndarray, n_positions: int, seed: int) -> np.ndarray:
    """Random 32-bit number for each entry (cell, position), (len(cells), n_positions) uint32."""
    offsets = np.random.SeedSequence(seed).generate_state(2)
    starts = _scramble(np.asarray(cells).astype(np.uint32) + offsets[0])
    places = _scramble(np.arange(n_positions, dtype=np.uint32) + offsets[1])
    return _scramble(starts[:, None] + places)
