"""Baselines: what holds for all of them, and each beside the same thing written entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scanpy_sct.evaluate.observed as module
from scanpy_sct.evaluate.masking import mask_entries
from scanpy_sct.evaluate.methods.baselines import (
    bag_mean,
    cell_type_mean,
    gene_mean,
    knn_poisson,
    knn_vote,
    poisson_bag,
    poisson_dataset,
    predict_zero,
    spatial_mean,
    svd,
)
from scanpy_sct.evaluate.observed import complete
from scanpy_sct.evaluate.registry import find_method

METHODS = {
    each.__name__: each
    for each in (
        predict_zero,
        gene_mean,
        bag_mean,
        cell_type_mean,
        poisson_dataset,
        poisson_bag,
        knn_vote,
        knn_poisson,
        spatial_mean,
        svd,
    )
}


def predict(name, observed, **options):
    return complete(observed, METHODS[name](observed, **options))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_registered_by_its_name(name):
    assert find_method(name).function is METHODS[name]


def test_what_methods_need():
    needs = {name: find_method(name).needs for name in METHODS if find_method(name).needs}
    assert needs == {"cell_type_mean": ("labels",), "spatial_mean": ("coordinates",)}


@pytest.mark.parametrize("name", METHODS)
def test_guesses_are_probabilities_and_values_of_all_wanted_entries(observed, name, monkeypatch):
    whole = predict(name, observed)
    for part in whole:
        assert part.shape == (observed.masked.sum(),)
        assert part.dtype == np.float32
        assert part.min() >= 0
    assert whole.detection.max() <= 1
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", 9)
    for part, all_ in zip(predict(name, observed), whole, strict=True):
        np.testing.assert_allclose(part, all_, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_targets_may_be_some_of_the_masked_entries(observed, name):
    """Which entries are targets makes no difference to their predictions."""
    some = observed.masked & (np.random.default_rng(0).random(observed.masked.shape) < 0.5)
    whole, part = predict(name, observed), predict(name, replace(observed, targets=some))
    np.testing.assert_allclose(part.count, whole.count[some[observed.masked]], rtol=1e-5)


# Bags of these cells are a mix; spots of no place on the tissue and types drawn by chance tell nothing.
@pytest.mark.parametrize("name", ["poisson_dataset", "poisson_bag", "knn_vote", "knn_poisson", "svd"])
def test_guesses_know_more_than_the_gene(observed, counts, name):
    """Cells of one program and depth are alike, so that every method beats the constant guess."""
    from sklearn.metrics import average_precision_score

    detected = counts[observed.masked] > 0
    constant_ = average_precision_score(detected, predict("gene_mean", observed).detection)
    # 20 components would describe the noise of 70 cells.
    guess = predict(name, observed, **({"n_components": 3} if name == "svd" else {}))
    assert average_precision_score(detected, guess.detection) > constant_ + 0.01


@pytest.mark.parametrize("name", METHODS)
def test_cells_and_genes_without_anything_visible(observe, observed, counts, name):
    """An empty cell, a gene that is masked in all cells, and a gene that is detected in none."""
    counts, masked = counts.copy(), observed.masked.copy()
    counts[[3, 4, 5]], counts[:, 7], masked[:, 8] = 0, 0, True
    more = {"coordinates": observed.coordinates, "labels": observed.labels}
    guess = predict(name, observe(counts, masked, **more))
    for part in guess:
        assert np.isfinite(part).all()
    genes = np.nonzero(masked)[1]
    for part in guess:
        np.testing.assert_array_equal(part[np.isin(genes, [7, 8])], 0)


@pytest.mark.parametrize("name", ["poisson_dataset", "poisson_bag", "knn_poisson"])
def test_counts_of_thinned_data_come_at_the_depth_of_each_cell(thinned, counts, name):
    found = predict(name, thinned).count.reshape(counts.shape)
    np.testing.assert_allclose(found.sum(axis=1), counts.sum(axis=1), rtol=1e-3)


@pytest.mark.parametrize("name", ["gene_mean", "bag_mean", "knn_vote"])
def test_means_of_thinned_data_come_at_the_depth_of_the_data_set(thinned, counts, name):
    assert predict(name, thinned).count.sum() == pytest.approx(counts.sum(), rel=0.1)


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
    counts, masked = np.arange(24).reshape(8, 3), np.zeros((8, 3), dtype=bool)
    masked[[0, 4], 1] = True  # all of bag 0
    guess = bag_mean(observe(counts, masked))
    np.testing.assert_allclose(guess.count, np.full(2, counts[[1, 2, 3, 5, 6, 7], 1].mean()))
    np.testing.assert_allclose(guess.detection, 1)


@pytest.mark.parametrize("prior_cells", [0.5, 1.0])
def test_cell_type_mean(observed, pooled_oracle, prior_cells):
    def of_the_type(cell):
        return [c for c in np.flatnonzero(observed.labels == observed.labels[cell]) if c != cell]

    oracle = pooled_oracle(observed, of_the_type, prior_cells)
    np.testing.assert_allclose(cell_type_mean(observed, prior_cells), oracle, rtol=1e-5)


def test_of_thinned_counts_the_cell_itself_is_in_its_bag(thinned, mean_oracle, pooled_oracle):
    def bag(cell):
        return np.flatnonzero(thinned.bags == thinned.bags[cell])

    means_are(bag_mean(thinned), thinned, lambda values: mean_oracle(thinned, values, bag))
    types = replace(thinned, labels=thinned.bags.astype(str))
    np.testing.assert_allclose(cell_type_mean(types), pooled_oracle(thinned, bag, 1), rtol=1e-5)


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
    masked = np.zeros((8, 3), dtype=bool)
    masked[[0, 1], 0] = True
    nothing, something = poisson_bag(observe(counts, masked), 0)
    assert nothing == 0
    # One other cell of bag 1 shows the gene: 1 count at depth 3; the cell itself shows 2 counts.
    assert something == pytest.approx(2 / 3)


def test_expected_counts_do_not_depend_on_how_much_is_hidden(observe):
    rates = np.random.default_rng(0).gamma(1, 2, 500)
    counts = np.random.default_rng(1).poisson(rates, (400, 500))
    for fraction in (0.1, 0.8):
        masked = mask_entries(*counts.shape, fraction)
        guess = poisson_dataset(observe(counts, masked))
        # A cell that shows a gene is the deeper for it, which matters a little where few genes are seen.
        assert guess.sum() == pytest.approx(counts[masked].sum(), rel=0.03)


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


def test_of_thinned_counts_the_cell_itself_is_a_neighbour(thinned, mean_oracle, pooled_oracle):
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


def test_svd_fills_in_means_and_goes_back_to_counts(observed):
    counts, masked = observed.counts.toarray().astype(float), observed.masked
    depth = counts.sum(axis=1, keepdims=True)
    log = np.ma.array(np.log1p(counts / depth * 1e4), mask=masked)
    left, size, right = np.linalg.svd(log.filled(log.mean(axis=0)), full_matrices=False)
    rebuilt = (left[:, :5] * size[:5]) @ right[:5]
    expected = np.expm1(np.maximum(rebuilt, 0)) * depth / 1e4
    np.testing.assert_allclose(svd(observed, n_components=5), expected[masked], rtol=1e-3, atol=1e-5)


def test_svd_of_all_components_gives_visible_counts_back(thinned, counts):
    # One of 40 directions, the smallest, is left out.
    assert np.abs(svd(thinned, n_components=39).reshape(counts.shape) - counts).mean() < 0.05
