from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.annotate.features import normalised_genes
from scanpy_sct.annotate.views import Views, fit_projection


@pytest.fixture(scope="module")
def values():
    counts = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(1, 2, size=300), size=(60, 300))
    return normalised_genes(sparse.csr_matrix(np.log1p(counts.astype(np.float32))), np.arange(300))


def test_members_read_two_halves_twice(values):
    scores, projection = fit_projection(values, 0)
    genes = [part for part, _ in projection.parts]
    assert len(scores) == len(genes) == 4
    for first, second in (genes[:2], genes[2:]):
        assert sorted([*first, *second]) == list(range(300))  # with so few genes, all of them are variable
    assert set(genes[0]) != set(genes[2])
    for found, again in zip(scores, projection.scores(values), strict=True):
        assert found.shape == (60, 50)
        np.testing.assert_allclose(found, again, atol=1e-4)


def test_the_embedding_is_beside_each_view():
    views = Views([np.ones((3, 2)), np.zeros((3, 1))], np.zeros(3, int), np.zeros(3, bool))
    assert [found.shape for found in views.rows()] == [(3, 2), (3, 1)]
    views = Views(views.components, views.samples, views.empty, np.full((3, 4), 7.0))
    found = views.rows(slice(1, 3))
    assert found[0].tolist() == [[1, 1, 7, 7, 7, 7]] * 2
    assert found[1].tolist() == [[0, 7, 7, 7, 7]] * 2


def test_relative_to_samples():
    components = [np.array([[2.0], [4.0], [10.0], [90.0]], np.float32)]
    views = Views(components, np.array([0, 0, 1, 1]), np.array([False, False, False, True]), np.ones((4, 1)))
    found = views.relative_to_samples()
    assert found.components[0][:3, 0].tolist() == [0.5, 2.5, 5.0]
    assert found.embedding is views.embedding
    given = views.relative_to_samples([np.array([[0.0], [2.0]])])
    assert given.components[0][:, 0].tolist() == [2, 4, 9, 89]
    assert components[0][:, 0].tolist() == [2, 4, 10, 90]
