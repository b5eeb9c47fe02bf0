from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate.tissue import centred, has_coordinates, mean_of_nearest, sample_means, with_nearest


def test_all_cells_need_coordinates():
    assert has_coordinates(np.zeros((2, 2)))
    assert not has_coordinates(None)
    assert not has_coordinates(np.array([[0, 1], [0, np.nan]]))
    assert not has_coordinates(np.array([[0, 1], [np.inf, 0]]))


def test_the_nearest_cells_are_of_the_same_sample(monkeypatch):
    monkeypatch.setattr("scanpy_sct.annotate.tissue.N_NEAREST", 2)
    along = np.array([0, 1, 3, 7, 0, 1, 3, 7])
    samples = np.repeat([0, 1], 4)
    found = mean_of_nearest(np.column_stack([along, 0 * along]), samples, np.zeros(8, bool)).toarray()
    one = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0]]) / 2
    np.testing.assert_array_equal(found, np.kron(np.eye(2), one))


def test_twelve_cells_are_averaged():
    points = np.random.default_rng(0).normal(size=(50, 2))
    found = mean_of_nearest(points, np.zeros(50, int), np.zeros(50, bool))
    assert (np.diff(found.indptr) == 12).all()
    assert not found.diagonal().any()
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    expected = np.sort(distance, axis=1)[:, 1:13].mean(1)
    np.testing.assert_allclose(np.asarray(found.multiply(distance).sum(axis=1)).ravel(), expected)


def test_empty_cells_are_nobodys_neighbours_and_single_cells_their_own():
    points = np.arange(10.0).reshape(5, 2)
    found = mean_of_nearest(points, np.array([0, 0, 0, 1, 2]), np.array([False, True, False, False, True])).toarray()
    expected = np.eye(5)
    expected[[0, 2]] = np.eye(5)[[2, 0]]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_means_of_samples_leave_out_empty_cells(kind):
    values = kind(np.array([[1.0, 2], [3, 4], [9, 9], [5, 6]]))
    found = sample_means(values, np.array([1, 1, 1, 0]), np.array([False, False, True, False]))
    np.testing.assert_allclose(found.toarray() if sparse.issparse(found) else found, [[5, 6], [2, 3]])


def test_a_sample_of_empty_cells_has_no_mean():
    assert sample_means(np.ones((2, 3)), np.array([0, 1]), np.array([False, True])).tolist() == [[1] * 3, [0] * 3]


def test_half_of_the_mean_is_subtracted():
    found = centred(np.array([[4, 8]], np.float32), np.array([[2.0, 4.0]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 6]]


def test_probabilities_are_multiplied():
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    nearest = sparse.csr_matrix(np.array([[0, 0.5, 0.5], [1, 0, 0], [0, 1, 0]]))
    found = np.exp(with_nearest(np.log(probabilities), nearest))
    np.testing.assert_allclose(found, probabilities * [[0.55, 0.45], [0.5, 0.5], [0.9, 0.1]], rtol=1e-6)


def test_an_impossible_label_stays_finite():
    probabilities = np.array([[1.0, 1e-9], [1.0, 0.0]])
    nearest = sparse.csr_matrix(np.array([[0.0, 1], [1, 0]]))
    assert np.isfinite(with_nearest(np.log(np.maximum(probabilities, 1e-9)), nearest)).all()
