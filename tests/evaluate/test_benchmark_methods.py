"""Methods of other people that the benchmarks register; those whose package is absent are skipped."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scanpy_sct.evaluate import embedding, registry
from scanpy_sct.evaluate.methods.baselines import poisson_dataset
from scanpy_sct.evaluate.observed import complete

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NEEDS = {
    ("imputation", "alra"): (),
    ("imputation", "no_imputation"): (),
    ("imputation", "magic"): ("package:magic-impute",),
    ("imputation", "magic_reversed"): ("package:magic-impute",),
    ("imputation", "scvi"): ("package:scvi-tools",),
    ("embedding", "scvi"): ("counts", "package:scvi-tools"),
    ("annotation", "logistic_regression_on_tissue"): ("reference",),
    ("annotation", "celltypist"): ("reference", "package:celltypist"),
    ("annotation", "ulm"): ("markers", "package:decoupler"),
}
METRICS = ["leiden_nmi", "leiden_ari", "graph_connectivity", "silhouette_label", "isolated_labels", "bras"]
METRICS += ["ilisi", "kbet"]


@pytest.fixture(scope="module")
def benchmarks():
    """Register the methods, for the tests of this file only."""
    if not BENCHMARKS.is_dir():
        pytest.skip(f"{BENCHMARKS} is not there")
    before = dict(registry._registered)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import methods

        yield methods
    finally:
        sys.path.remove(str(BENCHMARKS))
        registry._registered.clear()
        registry._registered.update(before)


@pytest.fixture
def function(benchmarks):
    """Find a registered function; the test is skipped where its package is absent."""

    def find(kind, name):
        found = registry.find_method(name, kind)
        missing = found.missing(lambda need: True)
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed")
        return found.function

    return find


def test_they_are_registered_as_any_third_party_would(benchmarks):
    assert {key: registry._registered[key].needs for key in NEEDS} == NEEDS
    assert set(METRICS) <= set(registry.registered("embedding metric"))


@pytest.mark.parametrize("name", ["alra", "magic", "magic_reversed"])
def test_cells_and_genes_without_anything_visible(function, observe, counts, masked, name):
    """An empty cell, a gene that is visible nowhere, and a gene that is detected nowhere."""
    counts, masked = counts.copy(), masked.copy()
    counts[3], counts[:, 7], masked[:, 8] = 0, 0, True
    observed = observe(counts, masked)
    found = complete(observed, function("imputation", name)(observed))
    genes = np.nonzero(masked)[1]
    for part in found:
        assert np.isfinite(part).all()
        np.testing.assert_array_equal(part[np.isin(genes, [7, 8])], 0)


@pytest.mark.parametrize("name", ["alra", "magic", "magic_reversed", "no_imputation"])
def test_counts_of_thinned_data_come_at_the_depth_of_each_cell(function, thinned, counts, name):
    found = function("imputation", name)(thinned).reshape(counts.shape)
    np.testing.assert_allclose(found.sum(axis=1), counts.sum(axis=1), rtol=1e-3)


@pytest.mark.parametrize("rank", [3, 8])
def test_alra_finds_the_rank_of_a_planted_matrix(benchmarks, rank):
    noise = np.linspace(10, 5, 100 - rank) + np.random.default_rng(rank).uniform(-0.01, 0.01, 100 - rank)
    assert benchmarks.alra.choose_rank(np.append(np.linspace(100, 20, rank), noise)) == rank


def test_alra_keeps_true_zeros_and_what_was_measured(benchmarks):
    """Measured with dropout; the approximation is off by symmetric errors."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random((500, 6)) < 0.5, 0, rng.gamma(20, 0.1, (500, 6)))
    measured = np.where(rng.random(truth.shape) < 0.4, 0, truth)
    rebuilt = 0.6 * truth + rng.normal(0, 0.05, truth.shape)
    completed = benchmarks.alra.keep_what_stands_out(rebuilt, measured)
    assert (completed[truth == 0] == 0).mean() > 0.99
    assert (completed[truth > 0] > 0).all()
    assert np.corrcoef(completed[truth > 0], truth[truth > 0])[0, 1] > 0.9
    # Masked entries lower an approximation by one factor, which makes no difference.
    np.testing.assert_allclose(benchmarks.alra.keep_what_stands_out(rebuilt * 0.3, measured), completed)


def test_magic_is_what_is_published_but_for_the_total_of_each_cell(function, pbmc, observe):
    magic = function("imputation", "magic")
    from magic import MAGIC

    values = sparse.csr_matrix(pbmc.raw.X if pbmc.raw is not None else pbmc.X)[:200].expm1()
    values = values[:, values.getnnz(axis=0) > 0].tocsr()
    nothing = np.zeros(values.shape, dtype=bool)
    found = magic(observe(values.toarray(), nothing, targets=~nothing)).reshape(values.shape)
    depth = np.asarray(values.sum(axis=1))
    roots = values.multiply(1 / depth).sqrt().tocsr()
    operator = MAGIC(solver="exact", decay=1, t=3, verbose=False, random_state=0)
    published = np.square(operator.fit_transform(roots, genes="all_genes")) * depth
    assert (published.sum(axis=1) < 0.95 * depth.ravel()).all()
    published *= depth / published.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, published, rtol=1e-3, atol=1e-6)


def test_magic_does_not_draw_from_the_global_generator(function, observed):
    before = np.random.get_state()[1].copy()
    magic = function("imputation", "magic")
    np.testing.assert_array_equal(magic(observed), magic(observed))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.slow
def test_scvi_learns_kinds_of_cells_and_leaves_generators_alone(function, observe):
    scvi = function("imputation", "scvi")
    rng = np.random.default_rng(0)
    kinds = np.repeat([[8.0, 0.2], [0.2, 8.0]], 15, axis=1)
    counts = rng.poisson(kinds[np.arange(130) % 2] * rng.lognormal(0, 0.3, (130, 1)))
    masked = rng.random(counts.shape) < 0.2
    data = observe(counts, masked)
    generators = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    found = scvi(data, max_epochs=60)
    assert random.getstate() == generators[0]
    np.testing.assert_array_equal(np.random.get_state()[1], generators[1])
    assert torch.equal(torch.get_rng_state(), generators[2])
    truth, plain = counts[masked], poisson_dataset(data)
    assert ((found - truth) ** 2).mean() < 0.6 * ((plain - truth) ** 2).mean()
    assert found.sum() == pytest.approx(truth.sum(), rel=0.15)


@pytest.fixture
def types() -> ad.AnnData:
    """60 cells of three types in two batches, with their own genes."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3
    counts = rng.poisson(np.where(np.arange(30) // 10 == label[:, None], 6.0, 0.5))
    cells = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    cells.var_names = [f"gene {number}" for number in range(30)]
    cells.obs["label"] = np.array(list("abc"))[label]
    cells.obs["batch"] = np.where(np.arange(60) % 2, "x", "y")
    cells.obsm["apart"] = np.eye(3)[label] * 10 + rng.normal(0, 1, (60, 3))
    cells.uns["markers"] = pd.DataFrame({"label": np.repeat(list("abc"), 10), "gene": cells.var_names})
    return cells


@pytest.mark.parametrize("name", ["celltypist", "ulm"])
def test_cells_are_annotated(function, types, name):
    found = function("annotation", name)(types, types, "label", 0)
    assert found.shape == (60, 3)
    assert (found.idxmax(axis=1).to_numpy() == types.obs["label"].to_numpy()).mean() > 0.9
    assert found.to_numpy().min() >= 0
    assert found.to_numpy().max() <= 1


@pytest.mark.slow  # compiles for most of a minute
def test_scib_metrics_on_data_that_are_clear(benchmarks, types):
    pytest.importorskip("scib_metrics")
    keys = {"labels_key": "label", "batch_key": "batch", "metrics": METRICS}
    found = embedding(types, methods="apart", **keys).set_index("metric")["value"]
    assert found[["leiden_nmi", "leiden_ari", "graph_connectivity"]].min() > 0.9
    assert found["silhouette_label"] > 0.8
    assert found["ilisi"] > 0.8
