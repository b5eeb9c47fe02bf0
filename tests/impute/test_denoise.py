from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.impute.denoise import SHAPES, denoise, fit_noise, fit_shape

ONES = np.ones(3000)


@pytest.fixture(scope="module")
def rates():
    """3,000 cells x 3 genes: rates that vary little, much, and not at all around what is expected."""
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.2, 3, (3000, 3))
    true = expected * np.column_stack([rng.gamma(10, 1 / 10, 3000), rng.gamma(0.3, 1 / 0.3, 3000), np.ones(3000)])
    return expected, true, rng.poisson(true).astype(float)


def combined(count, expected, unit=ONES):
    value = np.log1p(expected * unit[:, None])
    return denoise(fit_noise(count, value, unit), count, value, unit)


def test_the_spread_of_each_gene_is_found(rates):
    expected, _, count = rates
    np.testing.assert_allclose(fit_shape(count, expected), [10, 0.3, 100])
    assert SHAPES[-1] == 100


def test_counts_that_must_not_be_used_are_not(rates):
    expected, _, count = rates
    hidden = np.random.default_rng(1).random(count.shape) < 0.5
    one, other = (fit_noise(np.where(hidden, fill, count), np.log1p(expected), ONES, ~hidden) for fill in (7, 0))
    np.testing.assert_array_equal(one.scale, other.scale)
    np.testing.assert_array_equal(one.shape, other.shape)


def test_the_expected_counts_are_scaled_to_those_measured(rates):
    expected, _, count = rates
    noise = fit_noise(count, np.log1p(expected / 2), ONES)
    np.testing.assert_allclose(noise.scale, 2 * count.sum(0) / expected.sum(0), rtol=1e-6)


def test_the_result_is_nearer_to_new_measurements_than_either_part(rates):
    expected, true, count = rates
    again = np.log1p(np.random.default_rng(2).poisson(true))
    found = combined(count, expected)

    def error(guess, gene):
        return ((guess - again)[:, gene] ** 2).mean()

    for gene in (0, 1):
        assert error(found, gene) < error(np.log1p(count), gene)
        assert error(found, gene) < error(np.log1p(expected), gene)


def test_where_predictions_are_precise_counts_hardly_matter_and_the_reverse(rates):
    expected, _, count = rates
    found = combined(count, expected)
    same = np.abs(expected - 1) < 0.1
    by_gene = [np.corrcoef(found[same[:, gene], gene], count[same[:, gene], gene])[0, 1] for gene in range(2)]
    spread = [found[same[:, gene], gene].std() for gene in range(2)]
    assert by_gene[1] > 0.9
    assert spread[1] > 2 * spread[0]


def test_units_of_the_input_carry_through(rates):
    """The same counts as log-normalised values: the result agrees once both are taken back to counts."""
    expected, _, count = rates
    unit = np.random.default_rng(3).uniform(2, 8, 3000)
    large = combined(count * 50, expected * 50)
    scaled = combined(count * 50, expected * 50, unit)
    back = np.expm1(scaled) / unit[:, None]
    # Far from zero the logarithm is nearly straight, so that the scale on which means are taken does not matter.
    np.testing.assert_allclose(back[count > 0], np.expm1(large)[count > 0], rtol=0.1)


def test_cells_and_genes_without_counts():
    found = combined(np.zeros((5, 2)), np.full((5, 2), 0.2), np.ones(5))
    assert np.isfinite(found).all()
    assert (found < 0.25).all()
