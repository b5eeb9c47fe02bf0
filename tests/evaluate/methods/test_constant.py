"""Means beside the same thing written entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.evaluate.methods.constant import bag_mean, cell_type_mean, gene_mean, predict_zero


def test_predict_zero(observed):
    for part in predict_zero(observed):
        np.testing.assert_array_equal(part, np.zeros(observed.n_targets))


def means_are(guess, observed, oracle):
    counts, log = observed.counts.toarray(), observed.log_values.toarray()
    for found, values in zip(guess, (counts, counts > 0, log), strict=True):
        np.testing.assert_allclose(found, oracle(values), rtol=1e-5)


def test_gene_mean(observed, mean_oracle):
    everyone = range(len(observed.bags))
    means_are(gene_mean(observed), observed, lambda values: mean_oracle(observed, values, lambda cell: everyone))


def test_bag_mean(observed, mean_oracle):
    def bag(cell):
        return np.flatnonzero(observed.bags == observed.bags[cell])

    means_are(bag_mean(observed), observed, lambda values: mean_oracle(observed, values, bag))


def test_bag_mean_of_a_gene_that_no_cell_of_the_bag_shows_is_that_of_all(observe):
    counts, hidden = np.arange(24).reshape(8, 3), np.zeros((8, 3), dtype=bool)
    hidden[[0, 4], 1] = True  # all of bag 0
    guess = bag_mean(observe(counts, hidden))
    np.testing.assert_allclose(guess.count, np.full(2, counts[[1, 2, 3, 5, 6, 7], 1].mean()))
    np.testing.assert_allclose(guess.detection, 1)


@pytest.mark.parametrize("prior_cells", [0.5, 1.0])
def test_cell_type_mean(observed, pooled_oracle, prior_cells):
    def of_the_type(cell):
        return [c for c in np.flatnonzero(observed.labels == observed.labels[cell]) if c != cell]

    oracle = pooled_oracle(observed, of_the_type, prior_cells)
    np.testing.assert_allclose(cell_type_mean(observed, prior_cells), oracle, rtol=1e-5)


def test_of_thinned_counts_the_cell_itself_counts_too(thinned, mean_oracle, pooled_oracle):
    def bag(cell):
        return np.flatnonzero(thinned.bags == thinned.bags[cell])

    means_are(bag_mean(thinned), thinned, lambda values: mean_oracle(thinned, values, bag))
    types = replace(thinned, labels=thinned.bags.astype(str))
    np.testing.assert_allclose(cell_type_mean(types), pooled_oracle(thinned, bag, 1), rtol=1e-5)
