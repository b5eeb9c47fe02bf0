from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.plan.blocks import plan_blocks, plan_fit, rows_of_samples


def test_few_cells_are_one_block_in_their_order():
    samples = np.repeat([1, 0], 40)
    (block,) = plan_blocks(samples, None, 0, max_cells=80)
    np.testing.assert_array_equal(block.rows, np.arange(80))
    np.testing.assert_array_equal(plan_fit(samples, None, 10, 0, max_cells=80).rows, np.arange(80))


@pytest.mark.parametrize("has_points", [True, False])
def test_every_cell_is_in_one_block_and_no_block_is_too_large(has_points):
    rng = np.random.default_rng(0)
    samples = rng.permutation(np.repeat([0, 1, 2, 3, 4], [30, 250, 60, 20, 140]))
    points = rng.random((500, 2)) if has_points else None
    blocks = plan_blocks(samples, points, 0, max_cells=100)
    np.testing.assert_array_equal(np.sort(np.concatenate([block.rows for block in blocks])), np.arange(500))
    assert max(len(block.rows) for block in blocks) <= 100
    for small in (0, 2, 3):
        assert sum((samples[block.rows] == small).any() for block in blocks) == 1
    for block in blocks:
        assert (np.diff(block.rows) > 0).all()
    again = plan_blocks(samples, points, 0, max_cells=100)
    assert all(np.array_equal(one.rows, two.rows) for one, two in zip(blocks, again, strict=True))


def test_parts_of_a_section_are_compact():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    for block in plan_blocks(np.zeros(400, int), grid, 0, max_cells=100):
        assert np.ptp(grid[block.rows], axis=0).max() <= 10


@pytest.mark.parametrize("has_points", [True, False])
def test_the_fit_rests_on_whole_bags(has_points):
    rng = np.random.default_rng(0)
    samples, points = np.repeat([0, 1], [700, 300]), rng.random((1000, 2))
    planned = plan_fit(samples, points if has_points else None, 10, 0, max_cells=200)
    assert 150 < len(planned.rows) <= 200
    assert (np.diff(planned.rows) > 0).all()
    assert {0, 1} == set(samples[planned.rows])
    assert (planned.bags is not None) == has_points
    for bag in planned.bags or ():
        rows = planned.rows[bag.rows]
        assert len(set(samples[rows])) == 1
        assert np.ptp(points[rows], axis=0).max() < 0.5
    assert not np.array_equal(planned.rows, plan_fit(samples, None, 10, 1, max_cells=200).rows)


def test_parts_without_coordinates_are_runs_from_all_over_a_sample():
    blocks = plan_blocks(np.zeros(6400, int), None, 0, max_cells=640)
    assert len(blocks) == 10
    for block in blocks:
        n_runs = 1 + (np.diff(block.rows) > 1).sum()
        assert n_runs <= 640 / 20 + 2  # 20 cells a run, of which the first and the last may be cut
        assert block.rows[0] < 1500
        assert block.rows[-1] > 4900
    (other, *_) = plan_blocks(np.zeros(6400, int), None, 1, max_cells=640)
    assert not np.array_equal(other.rows, blocks[0].rows)


def test_small_samples_that_follow_one_another_share_a_block():
    """Also where their numbers are in another order than the object."""
    samples = np.repeat(np.random.default_rng(0).permutation(300), 10)
    for block in plan_blocks(samples, None, 0, max_cells=100):
        np.testing.assert_array_equal(np.diff(block.rows), 1)


def test_samples_of_one_cell():
    samples = np.arange(30)[::-1].copy()
    blocks = plan_blocks(samples, None, 0, 12)
    np.testing.assert_array_equal(np.concatenate([each.rows for each in blocks]), np.arange(30))


def test_rows_of_samples():
    rows = rows_of_samples(np.array([2, 0, 2, 5, 0]))
    assert [each.tolist() for each in rows] == [[1, 4], [0, 2], [3]]
    assert rows_of_samples(np.array([], dtype=int)) == []
