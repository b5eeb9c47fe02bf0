from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from scanpy_sct.impute import Imputer, ImputeSettings
from scanpy_sct.impute.apply import calibrated
from scanpy_sct.impute.low_rank import fit_low_rank
from scanpy_sct.impute.neighbours import NEAREST_FRACTION, PRIOR_CELLS, Neighbours
from scanpy_sct.plan.passes import BlockMasks, Passes
from scanpy_sct.run.options import ComputeOptions

N_CELLS, N_GENES, UNIT = 120, 80, 0.5


@pytest.fixture(scope="module")
def data():
    """Counts of two kinds of cells, masks of two passes, and the low-rank reconstruction."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.6, 3, (2, N_GENES))[np.arange(N_CELLS) % 2] * rng.lognormal(0, 0.3, (N_CELLS, 1))
    counts = rng.poisson(rates)
    masks = BlockMasks(Passes(2, 0), np.arange(N_CELLS), np.arange(N_GENES), np.ones(N_GENES, dtype=bool))
    values = log_values(counts)
    return counts, masks, values, *fit_low_rank(values, masks, 0)


def log_values(counts):
    return sparse.csr_matrix(np.log1p(UNIT * counts).astype(np.float32))


def test_conditional_mean_is_that_of_the_pooled_counts_of_other_cells(data):
    counts, masks, values, fits, scores = data
    pass_of = masks.pass_of()
    found = Neighbours.of(fits, scores, values).conditional_mean(pass_of)
    for number, (fit, cells) in enumerate(zip(fits, scores, strict=True)):
        points = cells.scores * fit.weights
        nearest = (
            NearestNeighbors(n_neighbors=int(NEAREST_FRACTION * N_CELLS)).fit(points).kneighbors(return_distance=False)
        )
        for cell in (0, 7, 119):
            weights = np.full(N_CELLS, PRIOR_CELLS / N_CELLS)
            weights[nearest[cell]] += 1
            weights[cell] = 0
            fraction = weights @ counts / (weights @ counts.sum(axis=1))
            expected = np.maximum(fraction * cells.total[cell] / UNIT / fit.visible_fraction, 1e-9)
            mean = np.log1p(UNIT * expected / -np.expm1(-expected))
            here = pass_of[cell] == number
            np.testing.assert_allclose(found[cell, here], mean[here], rtol=1e-4)


def test_a_value_has_no_influence_on_its_own_prediction(data):
    counts, masks, values, fits, scores = data
    pass_of = masks.pass_of()
    before = Neighbours.of(fits, scores, values).conditional_mean(pass_of)
    other = counts.copy()
    other[5, 3] += 40
    after = Neighbours.of(fits, scores, log_values(other)).conditional_mean(pass_of)
    np.testing.assert_allclose(after[5, 3], before[5, 3], rtol=1e-5)
    assert np.abs(after[:, 3] - before[:, 3]).max() > 0.1


def test_hidden_entries_are_no_zeros(data):
    """A gene that is hidden in most cells, or in one kind of cells, has the level of the cells where it is not."""
    counts, masks, _, fits, scores = data
    often = np.argsort(-counts.mean(axis=0))[3:6]
    hidden = np.zeros(counts.shape, dtype=bool)
    hidden[30:, often[0]] = hidden[::2, often[1]] = hidden[:, often[2]] = True
    pass_of, shown = masks.pass_of(), log_values(np.where(hidden, 0, counts))
    expected = Neighbours.of(fits, scores, log_values(counts)).conditional_mean(pass_of)
    as_zeros = Neighbours.of(fits, scores, shown).conditional_mean(pass_of)
    found = Neighbours.of(fits, scores, shown, hidden).conditional_mean(pass_of)
    assert np.isnan(found[:, often[2]]).all()
    for gene in often[:2]:
        assert np.isfinite(found[:, gene]).all()
        error, error_of_zeros = (abs((each - expected)[:, gene].mean()) for each in (found, as_zeros))
        assert error < 0.4 * error_of_zeros


def test_the_only_count_of_a_gene_says_nothing_about_itself(data):
    counts, masks, _, fits, scores = data
    alone = counts.copy()
    alone[:, 3] = 0
    pass_of = masks.pass_of()
    assert np.isnan(Neighbours.of(fits, scores, log_values(alone)).conditional_mean(pass_of)[:, 3]).all()
    alone[5, 3] = 4
    found = Neighbours.of(fits, scores, log_values(alone)).conditional_mean(pass_of)
    assert np.isnan(found[5, 3])
    assert np.isfinite(np.delete(found[:, 3], 5)).all()


def test_some_rows_and_genes_are_those_of_all(data):
    _, masks, values, fits, scores = data
    pass_of = masks.pass_of()
    neighbours = Neighbours.of(fits, scores, values)
    expected = neighbours.conditional_mean(pass_of)
    rows, genes = slice(16, 32), np.array([3, 50, 51])
    found = neighbours.at(genes).conditional_mean(pass_of[rows][:, genes], rows)
    np.testing.assert_allclose(found, expected[rows][:, genes], rtol=1e-6)
    assert neighbours.at(slice(0, N_GENES)) is neighbours
    assert neighbours.at(slice(0, 2)).counts.shape == (N_CELLS, 2)


def test_few_cells_have_none(data):
    *_, values, fits, scores = data
    few = [replace(each, scores=each.scores[:99], total=each.total[:99], unit=each.unit[:99]) for each in scores]
    assert Neighbours.of(fits, few, values[:99]) is None


def test_the_weight_is_found_from_the_data(compact_checkpoint, open_cells, pbmc):
    """Conditional means are moved by it, and come nearer to the measured values; detection stays."""
    cells = pbmc[:300].copy()
    cells.X = sparse.csr_matrix(cells.X.toarray() * (np.arange(cells.n_vars) % 9 > 0))  # some genes without a count
    imputer = Imputer(compact_checkpoint, open_cells(cells), ComputeOptions(), ImputeSettings())
    block = imputer.read(np.arange(300))
    fit, prediction = imputer.fit_block(block, None)
    weight = fit.blend.neighbour_weight
    assert (weight > 0.1).all()
    masks, rows = fit.plan.masks(block), slice(0, 300)
    unmoved = replace(fit, blend=replace(fit.blend, neighbour_weight=np.zeros_like(weight)))
    (log_odds, mean), (same_log_odds, before) = (calibrated(each, prediction, masks, rows) for each in (fit, unmoved))
    np.testing.assert_array_equal(log_odds, same_log_odds)
    pass_of = masks.pass_of(genes=fit.plan.columns)
    of_neighbours = prediction.neighbours.conditional_mean(pass_of)
    known = ~fit.plan.is_unmeasured & (prediction.neighbours.counts.getnnz(axis=0) > 1)
    moved = before + weight.take(pass_of, mode="clip") * (of_neighbours - before)
    assert 0 < known.sum() < len(known) - 10
    np.testing.assert_allclose(mean[:, known], moved[:, known], rtol=1e-5)
    without = fit.plan.is_unmeasured | (prediction.neighbours.counts.getnnz(axis=0) == 0)
    np.testing.assert_array_equal(mean[:, without], before[:, without])
    measured = block.log_values[:, fit.plan.columns].toarray()
    detected = measured > 0
    error_before, error = (np.mean((each[detected] - measured[detected]) ** 2) for each in (before, mean))
    assert error < 0.99 * error_before
