from __future__ import annotations

import numpy as np

from scanpy_sct.plan.draw import draw_per_label, rank_within_labels

LABELS = np.array(["a"] * 8 + ["b"] * 2 + ["c"] * 4)


def test_at_most_so_many_cells_of_each_label_are_drawn():
    usable = np.ones(14, dtype=bool)
    usable[-1] = False
    rows = draw_per_label(LABELS, 3, 0, usable)
    assert np.unique(LABELS[rows], return_counts=True)[1].tolist() == [3, 2, 3]
    assert (np.diff(rows) > 0).all()
    assert 13 not in rows
    assert draw_per_label(LABELS, 100, 0, usable).tolist() == list(range(13))


def test_all_cells_are_equally_probable():
    drawn = np.concatenate([draw_per_label(LABELS, 2, seed) for seed in range(300)])
    counts = np.bincount(drawn, minlength=14)
    np.testing.assert_allclose(counts[:8], 75, atol=30)
    assert counts[8:10].tolist() == [300, 300]


def test_ranks_number_the_cells_of_each_label():
    usable = np.arange(14) != 3
    ranks = rank_within_labels(LABELS, 0, usable)
    assert ranks[3] == -1
    assert sorted(ranks[:8]) == [-1, *range(7)]
    assert sorted(ranks[10:]) == [0, 1, 2, 3]
    assert (ranks == rank_within_labels(LABELS, 0, usable)).all()
    assert (ranks != rank_within_labels(LABELS, 1, usable)).any()
