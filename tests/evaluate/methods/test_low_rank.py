"""SVD beside numpy's own."""

from __future__ import annotations

import numpy as np

from scanpy_sct.evaluate.methods.low_rank import svd


def test_svd_fills_in_means_and_goes_back_to_counts(observed):
    counts, hidden = observed.counts.toarray().astype(float), observed.masked
    depth = counts.sum(axis=1, keepdims=True)
    log = np.ma.array(np.log1p(counts / depth * 1e4), mask=hidden)
    left, size, right = np.linalg.svd(log.filled(log.mean(axis=0)), full_matrices=False)
    rebuilt = (left[:, :5] * size[:5]) @ right[:5]
    expected = np.expm1(np.maximum(rebuilt, 0)) * depth / 1e4
    np.testing.assert_allclose(svd(observed, n_components=5), expected[hidden], rtol=1e-3, atol=1e-5)


def test_svd_of_all_components_gives_visible_counts_back(thinned, counts):
    # One of 40 directions, the smallest, is left out.
    assert np.abs(svd(thinned, n_components=39).reshape(counts.shape) - counts).mean() < 0.05
