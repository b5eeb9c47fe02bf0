from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.evaluate import hidden as module
from scanpy_sct.evaluate.hidden import hide_entries, visible


def test_the_share_is_right_in_every_gene_and_cell():
    hidden = hide_entries(2000, 400, 0.15)
    assert hidden.mean() == pytest.approx(0.15, abs=0.002)
    assert np.abs(hidden.mean(axis=0) - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)
    assert np.abs(hidden.mean(axis=1) - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 400)


def test_only_measured_genes_are_hidden_and_the_others_change_nothing():
    measured = np.arange(50) % 3 == 0
    some, all_ = hide_entries(100, 50, 0.3, measured=measured), hide_entries(100, 50, 0.3)
    assert not some[:, ~measured].any()
    np.testing.assert_array_equal(some[:, measured], all_[:, measured])


def test_the_seed_decides():
    first = hide_entries(60, 50, 0.15, rng=3)
    np.testing.assert_array_equal(first, hide_entries(60, 50, 0.15, rng=np.random.default_rng(3)))
    assert (first != hide_entries(60, 50, 0.15, rng=4)).any()


def test_drawing_in_parts_changes_nothing(monkeypatch):
    whole = hide_entries(100, 50, 0.15)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(hide_entries(100, 50, 0.15), whole)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 15])
def test_a_fraction_outside_0_and_1_is_refused(fraction):
    with pytest.raises(ValueError, match="`fraction`"):
        hide_entries(10, 10, fraction)


def test_measured_of_another_length_is_refused():
    with pytest.raises(ValueError, match="`measured`"):
        hide_entries(10, 10, 0.5, measured=np.ones(9, dtype=bool))


def test_visible_removes_the_hidden_entries_and_nothing_else():
    values = sparse.random(30, 20, 0.4, format="csr", dtype=np.float32, random_state=0)
    before = values.toarray()
    hidden = hide_entries(30, 20, 0.5)
    result = visible(values, hidden)
    np.testing.assert_array_equal(result.toarray(), np.where(hidden, 0, before))
    assert result.nnz == (before[~hidden] > 0).sum()
    np.testing.assert_array_equal(values.toarray(), before)


def test_visible_refuses_another_shape():
    with pytest.raises(ValueError, match="`hidden`"):
        visible(sparse.csr_matrix((3, 4)), np.zeros((4, 3), dtype=bool))
