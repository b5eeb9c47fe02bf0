from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate import novelty as novel


def cells(counts: list[int], seed: int, n_features: int = 10):
    """Points around centres that are the same for every seed, and the number of the centre of each."""
    codes = np.repeat(np.arange(len(counts)), counts)
    centres = 4 * np.random.default_rng(99).normal(size=(len(counts), n_features))
    return centres[codes] + np.random.default_rng(seed).normal(size=(len(codes), n_features)), codes


def test_a_new_type_is_isolated_and_known_ones_are_not():
    reference, _ = cells([200, 200, 0], 0)
    query, codes = cells([100, 100, 30], 1)
    values = novel.isolation(reference, query, novel.Neighborhoods(query, 0))
    assert np.median(values[codes == 2]) > 0.5
    assert abs(np.median(values[codes < 2])) < 0.2


def test_depth_and_units_do_not_isolate():
    reference, _ = cells([200, 200], 0)
    query, _ = cells([200, 200], 1)
    values = [novel.isolation(k * reference, k * query, novel.Neighborhoods(k * query, 0)) for k in (1, 1000)]
    np.testing.assert_allclose(*values, atol=1e-6)
    assert abs(values[0].mean()) < 0.05


def test_a_cell_is_not_its_own_neighbour():
    query = np.arange(40, dtype=float)[:, None]
    neighborhoods = novel.Neighborhoods(query, 0)
    # The five nearest are 1, 1, 2, 2 and 3 away, the ten nearest 15 to 25.
    assert neighborhoods.distance[20] == pytest.approx(9 / 5)
    assert neighborhoods.smooth(query[:, 0])[20] == pytest.approx(20)
    one = np.zeros(40)
    one[20] = 11
    assert neighborhoods.smooth(one)[20] == pytest.approx(1)


def test_neighbours_in_a_large_query_are_searched_among_some_of_its_cells(monkeypatch):
    query, _ = cells([300, 300], 0)
    full = novel.Neighborhoods(query, 0).distance
    monkeypatch.setattr(novel, "MAX_QUERY", 200)
    part = novel.Neighborhoods(query, 0)
    assert part.distance.shape == (600,)
    assert (part.distance > full).mean() > 0.95  # fewer cells lie farther apart
    assert part.smooth(np.ones(600)).tolist() == [1.0] * 600


def test_standardised_ignores_units_and_survives_a_constant():
    values = np.random.default_rng(0).normal(size=500)
    np.testing.assert_allclose(novel.standardised(values), novel.standardised(7 + 1e3 * values), atol=1e-9)
    assert novel.standardised(np.ones(50)).tolist() == [0.0] * 50
    assert novel.standardised(values, floor=1e6).max() < 1e-4


def test_standardised_holds_when_most_cells_are_new():
    rng = np.random.default_rng(0)
    known, new = rng.normal(size=300), 8 + rng.normal(size=500)
    result = novel.standardised(np.concatenate([known, new]))
    assert np.median(result[:300]) < 0.5
    assert np.median(result[300:]) > 3 * np.median(result[:300])


def test_draw_balanced_keeps_every_label_and_does_not_outnumber_the_query():
    labels = np.repeat(["many", "some", "few"], [3000, 400, 8])
    rows = novel.draw_balanced(labels, 300, 0)
    assert (np.diff(rows) > 0).all()
    kept = dict(zip(*np.unique(labels[rows], return_counts=True), strict=True))
    assert kept == {"many": 200, "some": 200, "few": 8}
    assert len(novel.draw_balanced(labels, 10**6, 0)) == novel.MAX_PER_LABEL + 408


def distance_from_labels(reference, codes, query):
    means = np.stack([reference[codes == code].mean(0) for code in np.unique(codes)])
    return np.linalg.norm(query[:, None] - means, axis=2).min(1)


def test_novelty_is_high_for_the_new_and_low_for_the_known():
    reference, known = cells([200, 200, 200, 0], 0)
    query, codes = cells([120, 120, 120, 60], 1)
    probability = novel.novelty(reference, query, distance_from_labels(reference, known, query), 0)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert np.median(probability[codes == 3]) > 0.8
    assert probability[codes < 3].mean() < 0.15


def test_without_new_types_nothing_is_novel():
    reference, known = cells([200, 200, 200], 0)
    query, _ = cells([150, 150, 150], 1)
    assert novel.novelty(reference, query, distance_from_labels(reference, known, query), 0).mean() < 0.05


def test_empty_cells_have_no_novelty_and_few_cells_none_at_all():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 60)
    values = np.log1p(rng.poisson(np.where(np.arange(40) < 20, 5, 1) * (1 + 4 * codes[:, None]), size=(120, 40)))
    values[7] = 0
    reference, query = (sparse.csr_matrix(values[part].astype(np.float32)) for part in (slice(60), slice(120)))
    labels, empty = np.repeat(["a", "b"], 30), np.arange(120) == 7
    result = novel.estimate_novelty(reference, query.__getitem__, labels, np.zeros(120), empty, 0)
    assert np.flatnonzero(np.isnan(result)).tolist() == [7]
    assert result[60:].mean() > np.nanmean(result[:60])  # of codes 1, which the reference lacks
    assert novel.estimate_novelty(reference, query[:40].__getitem__, labels, np.zeros(40), empty[:40], 0) is None
