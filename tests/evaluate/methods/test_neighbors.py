"""Neighbours beside the same thing written entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.evaluate.methods.neighbors import knn_poisson, knn_vote, spatial_mean
from scanpy_sct.evaluate.methods.poisson import poisson_dataset


def near(data, cell):
    return np.flatnonzero(data.neighbors[[cell]].toarray()[0])


def test_neighbors_are_fifteen_others(observed):
    nearest = observed.neighbors.toarray()
    np.testing.assert_array_equal(nearest.sum(axis=1), 15)
    assert not nearest.diagonal().any()


def test_knn_vote(observed, mean_oracle):
    counts, log = observed.counts.toarray(), observed.log_values.toarray()
    for found, values in zip(knn_vote(observed), (counts, counts > 0, log), strict=True):
        oracle = mean_oracle(observed, values, lambda cell: near(observed, cell))
        np.testing.assert_allclose(found, oracle, rtol=1e-5)


@pytest.mark.parametrize("prior_cells", [5.0, 1.0])
def test_knn_poisson(observed, pooled_oracle, prior_cells):
    oracle = pooled_oracle(observed, lambda cell: near(observed, cell), prior_cells)
    np.testing.assert_allclose(knn_poisson(observed, prior_cells), oracle, rtol=1e-5)


def test_of_thinned_counts_the_cell_itself_counts_too(thinned, mean_oracle, pooled_oracle):
    def with_the_cell(cell):
        return [*near(thinned, cell), cell]

    np.testing.assert_allclose(knn_poisson(thinned), pooled_oracle(thinned, with_the_cell, 5), rtol=1e-5)
    oracle = mean_oracle(thinned, thinned.counts.toarray(), with_the_cell)
    np.testing.assert_allclose(knn_vote(thinned).count, oracle, rtol=1e-5)


@pytest.mark.parametrize("n_neighbors", [15, 6])
def test_spatial_mean_asks_the_nearest_of_the_same_sample(observed, pooled_oracle, n_neighbors):
    def nearest(cell):
        others = [c for c in np.flatnonzero(observed.samples == observed.samples[cell]) if c != cell]
        distance = np.linalg.norm(observed.coordinates[others] - observed.coordinates[cell], axis=1)
        return np.array(others)[np.argsort(distance)[:n_neighbors]]

    oracle = pooled_oracle(observed, nearest, 5)
    np.testing.assert_allclose(spatial_mean(observed, n_neighbors), oracle, rtol=1e-5)


def test_spatial_mean_of_a_cell_alone_is_that_of_the_data_set(observed):
    alone = replace(observed, samples=np.arange(len(observed.samples)))
    np.testing.assert_allclose(spatial_mean(alone), poisson_dataset(alone), rtol=1e-5)


def test_spatial_mean_in_a_small_sample(observed, pooled_oracle):
    few = replace(observed, samples=np.arange(len(observed.samples)) // 3)

    def sample(cell):
        return [c for c in np.flatnonzero(few.samples == few.samples[cell]) if c != cell]

    np.testing.assert_allclose(spatial_mean(few), pooled_oracle(few, sample, 5), rtol=1e-5)
