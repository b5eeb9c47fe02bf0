"""What holds for every method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scanpy_sct.evaluate.observed as module
from scanpy_sct.evaluate.methods import constant, low_rank, neighbors, poisson
from scanpy_sct.evaluate.observed import complete
from scanpy_sct.evaluate.registry import find_method

METHODS = {
    "predict_zero": constant.predict_zero,
    "gene_mean": constant.gene_mean,
    "bag_mean": constant.bag_mean,
    "cell_type_mean": constant.cell_type_mean,
    "poisson_dataset": poisson.poisson_dataset,
    "poisson_bag": poisson.poisson_bag,
    "knn_vote": neighbors.knn_vote,
    "knn_poisson": neighbors.knn_poisson,
    "spatial_mean": neighbors.spatial_mean,
    "svd": low_rank.svd,
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

    expressed = counts[observed.masked] > 0
    constant_ = average_precision_score(expressed, predict("gene_mean", observed).detection)
    # 20 components would describe the noise of 70 cells.
    guess = predict(name, observed, **({"n_components": 3} if name == "svd" else {}))
    assert average_precision_score(expressed, guess.detection) > constant_ + 0.01


@pytest.mark.parametrize("name", METHODS)
def test_cells_and_genes_without_anything_visible(observe, observed, counts, name):
    """An empty cell, a gene that nobody shows, and a gene that nobody expresses."""
    counts, hidden = counts.copy(), observed.masked.copy()
    counts[[3, 4, 5]], counts[:, 7], hidden[:, 8] = 0, 0, True
    more = {"coordinates": observed.coordinates, "labels": observed.labels}
    guess = predict(name, observe(counts, hidden, **more))
    for part in guess:
        assert np.isfinite(part).all()
    genes = np.nonzero(hidden)[1]
    for part in guess:
        np.testing.assert_array_equal(part[np.isin(genes, [7, 8])], 0)


@pytest.mark.parametrize("name", ["poisson_dataset", "poisson_bag", "knn_poisson"])
def test_counts_of_thinned_data_come_at_the_depth_of_each_cell(thinned, counts, name):
    found = predict(name, thinned).count.reshape(counts.shape)
    np.testing.assert_allclose(found.sum(axis=1), counts.sum(axis=1), rtol=1e-3)


@pytest.mark.parametrize("name", ["gene_mean", "bag_mean", "knn_vote"])
def test_means_of_thinned_data_come_at_the_depth_of_the_data_set(thinned, counts, name):
    assert predict(name, thinned).count.sum() == pytest.approx(counts.sum(), rel=0.1)
