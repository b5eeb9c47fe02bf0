from __future__ import annotations

import numpy as np

from scanpy_sct.impute.groups import Groups, PassOrder


def test_sums_of_groups_equal_a_loop():
    rng = np.random.default_rng(0)
    pass_of = rng.integers(0, 3, (40, 5)).astype(np.uint8)
    pass_of[:, 2] = 1  # empty groups, also at the end of a gene
    table = rng.normal(size=(40, 5)).astype(np.float32)
    order = PassOrder(pass_of, 4)
    found = order.groups.sum(order.of(table))
    expected = [[table[pass_of[:, gene] == number, gene].sum(dtype=float) for number in range(4)] for gene in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(order.groups.sizes.sum(1), 40)


def test_a_number_of_each_group_is_spread_over_its_entries():
    groups = Groups(np.array([[2, 0], [1, 3]]))
    np.testing.assert_array_equal(groups.spread(np.array([[7, 8], [9, 10]])), [7, 7, 9, 10, 10, 10])
    np.testing.assert_array_equal(groups.sum(np.ones(6)), [[2, 0], [1, 3]])


def test_without_entries():
    groups = Groups(np.zeros((2, 3), dtype=int))
    np.testing.assert_array_equal(groups.sum(np.zeros(0)), np.zeros((2, 3)))
