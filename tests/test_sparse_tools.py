from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.sparse_tools import as_slice


@pytest.mark.parametrize("index", [[0, 1, 2, 3], [4, 5], [7]])
def test_consecutive_indices_become_a_slice(index):
    found = as_slice(np.array(index))
    assert isinstance(found, slice)
    np.testing.assert_array_equal(np.arange(10)[found], index)


@pytest.mark.parametrize("index", [[], [0, 2, 1, 3], [1, 3], [2, 1], [0, 0, 2]])
def test_other_indices_stay_as_they_are(index):
    index = np.array(index, dtype=int)
    assert as_slice(index) is index
