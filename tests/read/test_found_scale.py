from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import iqr, linregress

from scanpy_sct.read.found_scale import (
    MAX_STEPS,
    _agreement,
    _are_fractions,
    _are_mostly_integers,
    _evidence_for_amounts,
    _spread,
    _ties,
    _to_integers,
    find_scale,
    read_scale,
)

N_CELLS, N_GENES = 200, 400


def panel(seed=0, detected=0.3):
    """Counts of a gene panel: gamma-Poisson, cells of different depth; below 20."""
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.7, detected / 0.7, N_GENES) * rng.lognormal(0, 0.5, (N_CELLS, 1))
    return np.minimum(rng.poisson(rng.gamma(1.5, means / 1.5)), 15).astype(float)


COUNTS = panel()
RNG = np.random.default_rng(1)
TOTALS = np.maximum(COUNTS.sum(axis=1, keepdims=True), 1)
PROFILE = COUNTS.sum(axis=0) / COUNTS.sum()
BETA = COUNTS * RNG.beta(30, 2, COUNTS.shape)
PARTS = RNG.beta(5, 1, COUNTS.shape)
DIVIDED = RNG.choice([1 / 2, 1 / 3, 1 / 7], COUNTS.shape) * (RNG.random(COUNTS.shape) < 0.1)
LENGTHS = RNG.lognormal(0, 0.8, N_GENES)


def means_of(n, fraction):
    return np.mean([RNG.binomial(COUNTS.astype(int), fraction) for _ in range(n)], axis=0)


def normalised(values, target=1e4):
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9) * target


def as_matrix(values):
    return sparse.csr_matrix(values.astype(np.float32))


def scale_of(values):
    found = read_scale(as_matrix(values))
    return found.scale, bool(found.finding)


WITHOUT_UNITS = {
    "beta": BETA,
    "beta, any part": COUNTS * RNG.beta(2, 2, COUNTS.shape),
    "SoupX": np.clip(COUNTS - 0.1 * TOTALS * PROFILE, 0, None),
    "a factor for each gene": COUNTS * RNG.uniform(0.3, 1, N_GENES),
    "shared with the next cell": COUNTS * PARTS + COUNTS[::-1] * (1 - PARTS),
    "means of 10 samples": means_of(10, 0.8),
    "reads of several genes": np.clip(COUNTS - DIVIDED, 0, None),
    # Two of these values are frequent, as after a transformation, but all are multiples of a quarter.
    "means of four": np.where(COUNTS > 0, COUNTS + RNG.choice([0.25, 0.5], COUNTS.shape), 0),
}
WITH_UNITS = {
    "downsampled": 0.9 * COUNTS,
    "a factor for each cell": COUNTS * RNG.uniform(0.5, 1, (N_CELLS, 1)),
    "CP10K of some genes": normalised(COUNTS, 100)[:, :300],
    "mean of cells": (COUNTS + COUNTS[::-1] + np.roll(COUNTS, 7, axis=0)) / 3,
}


@pytest.mark.parametrize("name", WITHOUT_UNITS)
def test_decimal_counts_are_amounts_with_a_warning(name):
    assert WITHOUT_UNITS[name].max() < 20
    assert scale_of(WITHOUT_UNITS[name]) == ("linear", True)


@pytest.mark.parametrize("name", WITH_UNITS)
def test_multiples_of_one_unit_are_amounts(name):
    assert WITH_UNITS[name].max() < 20
    assert scale_of(WITH_UNITS[name]) == ("linear", False)


@pytest.mark.parametrize("base", [np.e, 2, 10])
@pytest.mark.parametrize("genes", [slice(None), slice(0, 120)])
@pytest.mark.parametrize("target", [1e4, 1e6, "median", "no"])
def test_logarithms_of_counts_stay_logarithms(base, genes, target):
    target = np.median(TOTALS) if target == "median" else target
    values = COUNTS if target == "no" else normalised(COUNTS, target)
    assert scale_of((np.log1p(values) / np.log(base))[:, genes]) == ("log", False)


@pytest.mark.parametrize("genes", [slice(None), slice(0, 300)])
@pytest.mark.parametrize("target", [1e4, 1e6, 150])
@pytest.mark.parametrize("values", [BETA, WITHOUT_UNITS["SoupX"], COUNTS / LENGTHS])
def test_normalised_logarithms_without_units_stay_logarithms(values, target, genes):
    assert scale_of(np.log1p(normalised(values, target))[:, genes]) == ("log", False)


def test_logarithms_of_corrected_counts_that_were_not_normalised():
    assert scale_of(np.log1p(WITHOUT_UNITS["SoupX"])) == ("log", True)
    assert scale_of(np.log1p(BETA)) == ("log", True)


@pytest.mark.parametrize("function", [np.sqrt, lambda x: np.arcsinh(x / 5), lambda x: np.log1p(np.log1p(x)) + 0.3 * x])
def test_other_functions_of_counts_are_read_as_logarithms_with_a_warning(function):
    assert scale_of(function(COUNTS)) == ("log", True)


def test_the_warning_says_what_was_assumed_and_how_to_choose():
    found = read_scale(as_matrix(BETA), argument="reference_scale", source="reference.X")
    assert found.finding.startswith("reference.X holds decimals up to")
    assert "were read as counts (corrected or expected ones), since small values do not fall with" in found.finding
    assert "Pass reference_scale='log1p' if they are logarithms, or reference_scale='counts'" in found.finding
    few = read_scale(as_matrix(BETA[:10]))
    assert few.scale == "log"
    assert "read as logarithms, since there are too few cells" in few.finding
    assert "scale='counts' if they are counts" in few.finding


def first_entries(values, n):
    """Keep the first entries of each cell."""
    return values * ((values > 0).cumsum(axis=1) <= n)


@pytest.mark.parametrize(("n_cells", "n_entries", "is_enough"), [(20, 5, True), (19, 5, False), (20, 4, False)])
def test_too_few_cells_or_entries_say_nothing(n_cells, n_entries, is_enough):
    found = read_scale(as_matrix(first_entries(BETA[:n_cells], n_entries)))
    assert found.scale == ("linear" if is_enough else "log")
    assert ("too few cells" in found.finding) != is_enough


def test_cells_with_hardly_any_entries_do_not_decide():
    # The most frequent value of such a cell is all of it, as if the values were another function of counts.
    values = BETA.copy()
    values[::2] = first_entries(values[::2], 2)
    assert scale_of(values) == ("linear", True)


def test_corrected_counts_of_few_cells_are_amounts_by_their_integers():
    few = np.clip(COUNTS - RNG.choice([1 / 2, 1 / 3, 1 / 7], COUNTS.shape) * (RNG.random(COUNTS.shape) < 0.3), 0, None)
    for values in (few[:10], np.minimum(few[:10], 2)):
        found = read_scale(as_matrix(values))
        assert found.scale == "linear"
        assert "most are integers" in found.finding
    assert _are_mostly_integers(np.array([1.5, 1.5, 1.7, 2, 3]))  # a half is neither
    assert not _are_mostly_integers(np.array([1, 1, 1.7, 1.8, 2, 0.5]))
    assert not _are_mostly_integers(np.array([2, 2.5]))


def test_ties_are_counted_in_cells_of_five_entries():
    assert _ties(as_matrix(np.array([[1, 1, 1, 2, 3]]))) == pytest.approx(0.6)
    assert _ties(as_matrix(np.array([[1, 1, 1, 2]]))) == 0


def test_cells_of_one_value_each_may_be_logarithms():
    assert scale_of((COUNTS > 0) * RNG.uniform(0.5, 1, (N_CELLS, 1))) == ("log", False)


def test_multiples_of_a_unit_may_be_rounded():
    values = 0.9 * COUNTS * np.random.default_rng(5).uniform(0.995, 1.005, COUNTS.shape)
    assert scale_of(values) == ("linear", False)


@pytest.mark.parametrize(("n_multiples", "agreement"), [(4, 0.8), (3, 0)])
def test_four_of_five_values_that_can_show_a_unit_must_show_it(n_multiples, agreement):
    can_show = [2.0] * n_multiples + [2.5] * (5 - n_multiples)
    assert _agreement(as_matrix(np.array([[1.0] * 500 + can_show]))) == agreement
    assert _agreement(as_matrix(np.eye(3) * 0.7)) == 1  # no value can show it


def test_values_that_hardly_differ_in_a_cell_are_no_multiples_of_a_unit():
    values = (COUNTS > 0) * RNG.uniform(1, 1.01, COUNTS.shape)
    values[:, ::40] *= 1.37
    assert scale_of(values) == ("linear", True)


def test_logarithms_of_few_genes_whose_totals_differ():
    logs = np.log1p(normalised(BETA))[:, :40]
    assert scale_of(logs) == ("log", False)
    in_doubt = read_scale(as_matrix(np.log1p(normalised(COUNTS / LENGTHS))[:60, :40]))
    assert in_doubt.scale == "log"
    assert "small values depend on the depth of the cell, but not clearly" in in_doubt.finding


def test_small_amounts_without_zeros_are_told_by_their_totals():
    smooth = np.random.default_rng(4).gamma(9, 0.1, (60, 80)) * np.linspace(0.3, 1, 60)[:, None]
    assert smooth.max() < 2.5
    assert scale_of(smooth) == ("linear", True)
    assert scale_of(np.log1p(normalised(smooth, 80))) == ("log", False)


def test_means_of_many_counts_are_fractions():
    assert _are_fractions(np.arange(1, 200) / MAX_STEPS)
    assert not _are_fractions(np.arange(1, 200) / (MAX_STEPS + 1))
    assert MAX_STEPS == 64


def test_distance_to_integers_is_that_of_small_values():
    assert _to_integers(np.array([0.1, 0.5, 0.7, 3.4, 3.5, 4.3])) == pytest.approx(0.35)
    assert _to_integers(np.array([9.0])) == 0.25


def test_evidence_is_the_slope_of_small_values_and_the_ratio_of_spreads_of_totals():
    rng = np.random.default_rng(0)
    cells = [rng.gamma(2, 1, n_genes) for n_genes in range(20, 80, 2)]
    dense = np.array([np.pad(values, (0, 80 - len(values))) for values in cells])
    found, highest = _evidence_for_amounts(as_matrix(dense), as_matrix(np.exp2(dense) - 1))
    depth = np.log([len(values) for values in cells])
    line = linregress(depth, np.log(np.expm1([np.quantile(values, 0.25) for values in cells])))
    totals = (np.log([values.sum() for values in each]) for each in ([np.exp2(v) - 1 for v in cells], cells))
    assert found == pytest.approx(line.slope + np.divide(*map(iqr, totals)), rel=1e-4)
    assert highest - found == pytest.approx(2 * line.stderr, rel=1e-4)


def test_spread_is_that_of_a_normal_distribution():
    assert _spread(np.random.default_rng(0).normal(5, 2, 100_000)) == pytest.approx(2, rel=0.01)


def test_large_values_are_amounts_whatever_else_they_are():
    assert scale_of(BETA * 5) == ("linear", False)
    assert scale_of(normalised(BETA, 0.5)) == ("linear", False)


def test_what_is_given_holds():
    for values in (BETA, np.log1p(normalised(COUNTS)), COUNTS * 0.9):
        assert find_scale(as_matrix(values), "counts") == "linear"
        assert find_scale(as_matrix(values), "log1p") == "log"
    assert find_scale(as_matrix(COUNTS), "counts") == "counts"
    assert find_scale(sparse.csr_matrix((3, 4), dtype=np.float32), "log1p") == "log"
    for values in (COUNTS, BETA * 5):
        found = "integers only" if values is COUNTS else "values up to 7"
        with pytest.raises(ValueError, match=f"scale='log1p' was given, but the matrix holds {found}"):
            find_scale(as_matrix(values), "log1p")


def test_the_largest_logarithm():
    logs = np.log1p(normalised(BETA))
    logs[0, 0] = 20
    assert scale_of(logs) == ("log", False)
    assert find_scale(as_matrix(logs), "log1p") == "log"
    assert "look like logarithms" in read_scale(as_matrix(logs), "counts").finding
    counts = COUNTS.copy()
    counts[0, 0] = 20
    with pytest.raises(ValueError, match="holds integers only"):
        find_scale(as_matrix(counts), "log1p")


def test_a_single_one_is_a_count():
    assert find_scale(as_matrix(np.eye(1))) == "counts"
    assert find_scale(as_matrix(np.eye(1) * 0.7)) != "counts"


def test_a_claim_against_clear_evidence_is_followed_with_a_warning():
    logs, amounts = as_matrix(np.log1p(normalised(COUNTS))), as_matrix(COUNTS * 0.9)
    assert "the values of the matrix look like logarithms" in read_scale(logs, "counts").finding
    assert "look like counts or other amounts" in read_scale(amounts, "log1p").finding
    assert read_scale(logs, "log1p").finding == read_scale(amounts, "counts").finding == ""
    assert read_scale(as_matrix(BETA), "log1p").finding == read_scale(as_matrix(BETA), "counts").finding == ""


def test_counts_and_logarithms_in_one_matrix_are_refused():
    counts, logs = panel(2)[:50], np.log1p(normalised(panel(3)))[:150]
    for values in (np.vstack([counts, logs]), np.vstack([counts * 10, logs])):
        with pytest.raises(ValueError, match=r"adata.X holds integers in 50 of the cells.*in 150: .*scale='counts'"):
            read_scale(as_matrix(values), source="adata.X")
        assert find_scale(as_matrix(values), "counts") == "linear"
    assert scale_of(np.vstack([counts, BETA[:150]])) == ("linear", False)
    odd = np.vstack([counts[:2], logs])
    assert scale_of(odd)[0] == "log"


@pytest.mark.parametrize(
    ("n_counts", "n_logs", "n_entries", "highest", "is_refused"),
    [
        (4, 196, 5, 3, True),
        (3, 197, 5, 3, False),  # less than 2 % of the cells
        (4, 196, 4, 3, False),
        (4, 196, 5, 2, False),
        (3, 30, 5, 3, True),
        (2, 30, 5, 3, False),
        (30, 3, 5, 3, True),
        (30, 2, 5, 3, False),
    ],
)
def test_some_odd_cells_are_no_second_kind(n_counts, n_logs, n_entries, highest, is_refused):
    counts = np.zeros((n_counts, N_GENES))
    counts[:, :n_entries] = 1
    counts[:, 1] = highest
    logs = np.log1p(normalised(BETA))[:n_logs]
    values = as_matrix(np.vstack([counts, logs]))
    if is_refused:
        with pytest.raises(ValueError, match="one kind of values"):
            find_scale(values)
    else:
        find_scale(values)
