from __future__ import annotations

import numpy as np

from scanpy_sct.plan.passes import Passes


def test_every_entry_belongs_to_one_pass_in_equal_shares():
    passes = Passes(4, seed=0)
    assigned = passes.assigned(np.arange(50), 20_000)
    shares = np.bincount(assigned.ravel(), minlength=4) / assigned.size
    assert len(shares) == 4
    np.testing.assert_allclose(shares, 0.25, atol=0.002)
    np.testing.assert_allclose((assigned == 0).mean(0).mean(), 0.25, atol=0.002)


def test_assignment_depends_on_the_cell_not_on_its_company():
    passes = Passes(7, seed=3)
    whole = passes.assigned(np.arange(100), 500)
    np.testing.assert_array_equal(passes.assigned(np.array([42, 7]), 500), whole[[42, 7]])


def test_cells_genes_and_seeds_are_independent():
    first = Passes(2, 0).assigned(np.arange(200), 1000).astype(float)
    other_seed = Passes(2, 1).assigned(np.arange(200), 1000).astype(float)
    for one, two in [(first.ravel(), other_seed.ravel()), (first[0], first[1]), (first[:, 0], first[:, 1])]:
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.2
    assert abs(np.corrcoef(first.ravel(), other_seed.ravel())[0, 1]) < 0.01


def test_number_of_passes_follows_the_mask_fraction():
    assert Passes.for_fraction(0.15, 0).n == 7
    assert Passes.for_fraction(0.25, 0).n == 4
    assert Passes.for_fraction(0.9, 0).n == 2
