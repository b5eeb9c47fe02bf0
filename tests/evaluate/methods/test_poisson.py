"""Rates times depth beside the same thing written entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.evaluate.masking import mask_entries
from scanpy_sct.evaluate.methods.poisson import poisson_bag, poisson_dataset
from scanpy_sct.evaluate.observed import complete


def test_poisson_dataset(observed, pooled_oracle):
    oracle = pooled_oracle(observed, lambda cell: range(len(observed.bags)), 0)
    np.testing.assert_allclose(poisson_dataset(observed), oracle, rtol=1e-5)


@pytest.mark.parametrize("prior_cells", [1.0, 4.0])
def test_poisson_bag_and_the_cell_itself_makes_no_difference(observed, pooled_oracle, prior_cells):
    def bag_without_the_cell(cell):
        return [c for c in np.flatnonzero(observed.bags == observed.bags[cell]) if c != cell]

    oracle = pooled_oracle(observed, bag_without_the_cell, prior_cells)
    np.testing.assert_allclose(poisson_bag(observed, prior_cells), oracle, rtol=1e-5)


def test_poisson_bag_without_a_prior_says_never_where_the_bag_has_none(observe):
    counts = np.ones((8, 3), dtype=int)
    counts[::4, 0] = 0  # gene 0 is missing from bag 0
    hidden = np.zeros((8, 3), dtype=bool)
    hidden[[0, 1], 0] = True
    nothing, something = poisson_bag(observe(counts, hidden), 0)
    assert nothing == 0
    # One other cell of bag 1 shows the gene: 1 count at depth 3; the cell itself shows 2 counts.
    assert something == pytest.approx(2 / 3)


def test_expected_counts_do_not_depend_on_how_much_is_hidden(observe):
    rates = np.random.default_rng(0).gamma(1, 2, 500)
    counts = np.random.default_rng(1).poisson(rates, (400, 500))
    for fraction in (0.1, 0.8):
        hidden = mask_entries(*counts.shape, fraction)
        guess = poisson_dataset(observe(counts, hidden))
        # A cell that shows a gene is the deeper for it, which matters a little where few genes are seen.
        assert guess.sum() == pytest.approx(counts[hidden].sum(), rel=0.03)


def test_values_come_on_the_log_scale_of_the_input(observe):
    """Mean of log1p(unit x count) over many draws of a Poisson count."""
    rates = np.append([0.05, 1.0, 5.0, 20.0], np.full(96, 3.0))
    counts = np.random.default_rng(0).poisson(rates, (2000, 100))
    hidden = mask_entries(*counts.shape, 0.2)
    for unit in (1.0, 8.0):
        data = observe(counts, hidden, unit)
        guess = complete(data, poisson_dataset(data))
        genes = np.nonzero(hidden)[1]
        means = np.bincount(genes, guess.value) / np.bincount(genes)
        np.testing.assert_allclose(means, np.log1p(unit * counts).mean(axis=0), rtol=0.1)
