"""What is hidden when: every entry in exactly one of several passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _scramble(x: np.ndarray) -> np.ndarray:
    # The splitmix64 finaliser (Steele, Lea & Flood 2014): a well-mixed 64-bit number from a counter.
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


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
        return (entry_hash(cells, n_positions, self.seed) % np.uint64(self.n)).astype(np.uint8)


def entry_hash(cells: np.ndarray, n_positions: int, seed: int) -> np.ndarray:
    """Random 64-bit number for each entry (cell, position), (len(cells), n_positions) uint64."""
    with np.errstate(over="ignore"):
        start = _scramble(np.asarray(cells, dtype=np.uint64) * _GOLDEN + np.uint64(seed))
        return _scramble(start[:, None] + (np.arange(n_positions, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
