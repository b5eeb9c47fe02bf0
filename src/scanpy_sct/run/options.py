"""Options of a computation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from scanpy_sct.settings import Precision as Precision  # re-exported
from scanpy_sct.settings import settings

BagPolicy = Literal["auto", "spatial", "similar", "random"]


@dataclass(frozen=True)
class ComputeOptions:
    """Bags, device, precision, batches and seed of a computation."""

    bags: BagPolicy = "auto"
    """Policy of the bags."""
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | Literal["auto"] = "auto"
    """Bags computed at once."""
    seed: int = 0
    block_size: int = field(default_factory=lambda: settings.block_size)
    """Largest number of cells in a block, and of cells to which an imputation is fitted."""
    client: Any = field(default=None, repr=False, compare=False)
    """A `distributed.Client` on whose workers blocks are computed; None: the active one, if there is one."""

    def __post_init__(self) -> None:
        size = self.batch_size
        if size != "auto" and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
            msg = f"batch_size={size!r} must be a positive integer or 'auto'."
            raise ValueError(msg)


def as_seed(rng: int | np.random.Generator | None) -> int:
    """Return an integer seed for the argument ``rng`` of a public function; None: a new one each time.

    Raises
    ------
    TypeError
        It is neither an integer, nor a generator, nor None.
    ValueError
        It is negative or too large.
    """
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | np.random.Generator | None):
        msg = f"rng={rng!r} must be an integer, a numpy.random.Generator or None."
        raise TypeError(msg)
    if isinstance(rng, int | np.integer):
        if not 0 <= rng < 2**32:
            msg = f"rng={rng} must not be negative, and smaller than 2**32."
            raise ValueError(msg)
        return int(rng)
    return int((np.random.default_rng() if rng is None else rng).integers(2**31))
