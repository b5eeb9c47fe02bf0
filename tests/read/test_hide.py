from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.hide import HiddenEntries


class Stored(sparse.csr_matrix):
    """A matrix in memory, which reads rows as one on disk does."""

    def rows(self, rows):
        return self if rows is None else self[rows]


BY_USER = Stored(sparse.csr_matrix(np.array([[0, 1], [0, 0], [1, 0]], dtype=np.float32)))
LACKING = sparse.csr_matrix(np.array([[False, False], [False, True]]))
SAMPLES = np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("by_user", "lacking", "expected"),
    [
        (None, None, None),
        (BY_USER, None, [[0, 1], [0, 0], [1, 0]]),
        (None, LACKING, [[0, 0], [0, 1], [0, 1]]),
        (BY_USER, LACKING, [[0, 1], [0, 1], [1, 1]]),
    ],
)
def test_hidden_by_user_or_lacking_in_a_sample(by_user, lacking, expected):
    hidden = HiddenEntries(by_user, SAMPLES, lacking)
    assert hidden.exist == (expected is not None)
    if expected is None:
        assert hidden.rows() is None
        return
    np.testing.assert_array_equal(hidden.rows().toarray(), expected)
    np.testing.assert_array_equal(hidden.rows(np.array([2, 0])).toarray(), np.array(expected)[[2, 0]])
