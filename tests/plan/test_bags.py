from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist

from scanpy_sct.plan.bags import CellsToPlan, bag_points, choose_policy, in_spacings, plan_bags, similarity_points


def targets(bags) -> np.ndarray:
    return np.concatenate([bag.rows[: bag.n_targets] for bag in bags])


@pytest.mark.parametrize("with_points", [True, False])
def test_every_cell_is_a_target_once_and_bags_never_mix_samples(with_points):
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 3, 401)
    points = rng.normal(size=(401, 2)) if with_points else None
    bags = plan_bags(samples, 50, np.random.default_rng(1), points)
    np.testing.assert_array_equal(np.sort(targets(bags)), np.arange(401))
    for bag in bags:
        assert len(np.unique(samples[bag.rows])) == 1
        assert len(bag.rows) == len(np.unique(bag.rows)) == 50


def test_small_sample_is_one_small_bag():
    (bag,) = plan_bags(np.zeros(7, int), 50, np.random.default_rng(0))
    assert bag.n_targets == len(bag.rows) == 7


def test_spatial_bags_are_compact():
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(50)), -1).reshape(-1, 2).astype(float)
    samples = np.zeros(len(grid), int)
    spread = [
        np.mean([pdist(grid[bag.rows]).mean() for bag in plan_bags(samples, 50, np.random.default_rng(0), points)])
        for points in (grid, None)
    ]
    # A square of 50 spots has a mean distance of about 3.7; random spots of this tissue, of about 23.
    assert spread[0] < 5
    assert spread[1] > 20


def test_same_seed_same_bags():
    samples = np.zeros(130, int)
    first, second = (plan_bags(samples, 50, np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def test_similar_cells_share_a_bag():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1], 100)
    rate = np.where(kind[:, None] == (np.arange(60) % 2), 3.0, 0.1)
    points = similarity_points(sparse.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32)), seed=0)
    order = rng.permutation(200)
    bags = plan_bags(np.zeros(200, int), 50, rng, points[order])
    for bag in bags:
        assert len(np.unique(kind[order][bag.rows[: bag.n_targets]])) == 1


def test_similarity_ignores_depth():
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, (20, 30))
    deep = np.vstack([counts, counts * 4])
    points = similarity_points(sparse.csr_matrix(np.log1p(deep).astype(np.float32)), seed=0, n_components=5)
    np.testing.assert_allclose(points[:20], points[20:], atol=1e-3)


def test_cells_without_any_values_are_all_alike(recwarn):
    assert not similarity_points(sparse.csr_matrix((6, 9), dtype=np.float32), seed=0).any()
    assert not recwarn.list


def test_points_of_cells_without_coordinates():
    coordinates = np.array([[0.0, 1], [np.nan, 2]])
    cells = CellsToPlan(coordinates, lambda: sparse.csr_matrix((2, 9), dtype=np.float32), 0)
    with pytest.raises(ValueError, match="NaN or infinite for 1 of 2 cells"):
        bag_points("auto", cells)
    assert bag_points("random", cells) is None


def test_places_in_spacings_are_alike_in_any_unit():
    grid = np.stack(np.divmod(np.arange(12), 4), axis=1).astype(float)
    points = np.concatenate([grid * 200 + 1234, grid * 0.5 - [3, 9], [[7, 7], [7, 7]]])
    samples = np.repeat([0, 1, 2], [12, 12, 2])
    found = in_spacings(points, samples)
    np.testing.assert_allclose(found[:12], grid - np.median(grid, axis=0))
    np.testing.assert_allclose(found[12:24], found[:12])
    np.testing.assert_array_equal(found[24:], np.zeros((2, 2)))  # one place has no distance
    assert points[1, 1] == 1434


def test_a_spacing_is_the_distance_to_the_nearest_place():
    rows = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], dtype=float)
    found = in_spacings(7 * rows, np.zeros(4, dtype=int))
    np.testing.assert_allclose(np.diff(found[:, 0]), 1)


def test_few_cells_have_few_components():
    values = sparse.csr_matrix(np.random.default_rng(0).poisson(1, (3, 40)).astype(np.float32))
    assert similarity_points(values, 0).shape == (3, 2)
    assert similarity_points(values[:2], 0).shape == (2, 1)


def test_policies():
    assert [choose_policy("auto", has_coordinates=each) for each in (True, False)] == ["spatial", "similar"]
    for policy in ("similar", "random"):
        assert choose_policy(policy, has_coordinates=False) == policy
    assert choose_policy("spatial", has_coordinates=True) == "spatial"
    with pytest.raises(ValueError, match="needs coordinates"):
        choose_policy("spatial", has_coordinates=False)
    with pytest.raises(ValueError, match="bags='near' is not known; use one of 'auto'"):
        choose_policy("near", has_coordinates=True)
