from __future__ import annotations

import numpy as np

from scanpy_sct.run.smallest import smallest_of_rows


def test_the_smallest_of_each_row():
    table = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    table[:, 7] = np.inf
    found = np.sort(smallest_of_rows(table, 5), axis=1)
    np.testing.assert_array_equal(found, np.sort(np.argsort(table, axis=1)[:, :5], axis=1))
