"""Guarantees of an imputation as a whole: nothing leaks, and nothing depends on how it is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.impute import Imputer, ImputeSettings, impute_cells, neighbours
from scanpy_sct.run.options import ComputeOptions

PARTS = ImputeSettings(keep_parts=True)


@pytest.fixture(scope="module", autouse=True)
def with_neighbours():
    """Blend with the nearest cells, which else takes more cells than these tests have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "MIN_CELLS", 20)
        yield


@pytest.fixture(scope="module")
def cells(pbmc):
    return pbmc[:60].copy()


@pytest.fixture(scope="module")
def reader(cells, open_cells):
    return open_cells(cells)


@pytest.fixture(scope="module")
def whole(compact_checkpoint, reader):
    return impute_cells(compact_checkpoint, reader, settings=PARTS)


def impute(checkpoint, reader, settings=PARTS, **options):
    return impute_cells(checkpoint, reader, ComputeOptions(**options), settings)


@pytest.mark.parametrize(
    ("kind", "bags"),
    [("compact_checkpoint", "random"), ("compact_checkpoint", "similar"), ("released_checkpoint", "similar")],
)
def test_entries_that_the_user_hides_have_no_influence_on_anything(cells, open_cells, scrambled, kind, bags, request):
    model = request.getfixturevalue(kind)
    hidden = np.random.default_rng(0).random(cells.shape) < 0.1
    one, other = (impute(model, open_cells(each, hide=hidden), bags=bags) for each in (cells, scrambled(cells, hidden)))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.fit.blend.network_fraction, other.fit.blend.network_fraction)
    np.testing.assert_array_equal(one.moments.correlation(), other.moments.correlation())
    assert np.isfinite(one.values).all()


def test_no_value_takes_part_in_its_own_prediction(cells, open_cells, scrambled, compact_checkpoint):
    settings = ImputeSettings(calibrate=False)
    reader = open_cells(cells)
    one = impute(compact_checkpoint, reader, settings, bags="random")
    entry = np.zeros(cells.shape, dtype=bool)
    column = reader.genes.columns[reader.genes.gene_index == one.gene_index[40]]
    entry[17, column] = True
    other = impute(compact_checkpoint, open_cells(scrambled(cells, entry)), settings, bags="random")
    assert one.values[17, 40] == other.values[17, 40]
    assert not np.array_equal(one.values, other.values)


def test_everything_measured_is_predicted(reader, whole):
    assert whole.values.shape == (60, reader.measured.sum())
    np.testing.assert_array_equal(whole.gene_index, np.flatnonzero(reader.measured))
    assert np.isfinite(whole.values).all()
    assert ((whole.detection > 0) & (whole.detection < 1)).all()
    np.testing.assert_allclose(whole.values, whole.detection * whole.conditional_mean, rtol=1e-6)


def test_a_gene_gets_the_same_values_whatever_else_is_requested(reader, compact_checkpoint, whole):
    some = impute(compact_checkpoint, reader, replace(PARTS, genes=whole.gene_index[[3, 40, 41]]))
    np.testing.assert_array_equal(some.gene_index, whole.gene_index[[3, 40, 41]])
    np.testing.assert_allclose(some.values, whole.values[:, [3, 40, 41]], atol=2e-5)
    fractions = whole.fit.blend.network_fraction[[3, 40, 41]]
    np.testing.assert_allclose(some.fit.blend.network_fraction, fractions, atol=1e-4)


@pytest.mark.parametrize("kind", ["compact_checkpoint", "released_checkpoint"])
def test_batch_size_changes_nothing(reader, kind, request):
    model = request.getfixturevalue(kind)
    one, other = (impute(model, reader, batch_size=size, seed=3).values for size in (1, 5))
    np.testing.assert_allclose(one, other, atol=5e-5)


def test_seed_matters_and_repeats(reader, compact_checkpoint):
    one, again, other = (impute(compact_checkpoint, reader, seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_calibration_meets_visible_rates(reader, compact_checkpoint, whole):
    seen = (reader.block().log_values > 0).toarray().mean(0)[whole.gene_index]
    plain = impute(compact_checkpoint, reader, replace(PARTS, calibrate=False))
    calibrated = impute(compact_checkpoint, reader, replace(PARTS, blend=False))
    errors = [np.abs(each.detection.mean(0) - seen).mean() for each in (plain, calibrated, whole)]
    assert errors[1] < errors[0] / 3
    assert max(errors[1:]) < 0.02


def test_a_blend_with_an_untrained_network_follows_the_data(pbmc, open_cells, compact_checkpoint):
    cells = pbmc[:300].copy()
    hidden = np.random.default_rng(0).random(cells.shape) < 0.2
    reader = open_cells(cells, hide=hidden)
    truth = open_cells(cells).block().log_values.toarray()
    network, blend = (impute(compact_checkpoint, reader, replace(PARTS, blend=each)) for each in (False, True))
    judged = reader.block().hidden.toarray()[:, blend.gene_index]
    detected = truth[:, blend.gene_index][judged] > 0

    def log_loss(found):
        p = np.clip(found.detection[judged], 1e-6, 1 - 1e-6)
        return -np.log(np.where(detected, p, 1 - p)).mean()

    assert log_loss(blend) < log_loss(network) - 0.01
    assert np.median(blend.fit.blend.network_fraction) < 0.5
    assert blend.fit.blend.shared_mean_weight.max() < 0.4
    assert network.fit.blend is None


def test_genes_that_were_not_measured_come_from_the_network_alone(cells, open_cells, compact_checkpoint, whole):
    reader = open_cells(cells[:, cells.var_names != "CD79A"].copy())
    gene = np.setdiff1d(whole.gene_index, np.flatnonzero(reader.measured))
    plain, blend = (
        impute(compact_checkpoint, reader, replace(PARTS, genes=gene, blend=each)) for each in (False, True)
    )
    np.testing.assert_allclose(plain.values, blend.values, rtol=1e-4)
    assert blend.fit.blend.network_fraction == 1


def test_too_few_cells_are_left_to_the_network(cells, open_cells, compact_checkpoint):
    assert impute(compact_checkpoint, open_cells(cells[:10])).fit.blend is None


def test_cells_of_several_blocks(pbmc, open_cells, compact_checkpoint):
    """What is learnt from some of the cells and applied block by block is close to what all cells give."""
    cells = pbmc[:240].copy()
    cells.obs["sample"] = np.repeat(["a", "b", "c"], [150, 60, 30])
    reader = open_cells(cells, library_key="sample")
    one = impute_cells(compact_checkpoint, reader, ComputeOptions(bags="random"))
    options = ComputeOptions(bags="random", block_size=100)
    imputer = Imputer(compact_checkpoint, reader, options, ImputeSettings())
    rows, values = [], np.full_like(one.values, np.nan)
    fit = imputer.fit()
    assert len(imputer.cells.fit_cells.rows) <= 100
    for block in imputer.blocks(fit):
        assert len(block.rows) <= 100
        rows.append(block.rows)
        values[block.rows] = block.values
    assert len(rows) > 2
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(240))
    assert np.corrcoef(values.ravel(), one.values.ravel())[0, 1] > 0.96
    again = impute_cells(compact_checkpoint, reader, options)
    np.testing.assert_array_equal(again.values, values)


def test_hidden_entries_do_not_count_across_blocks(pbmc, open_cells, scrambled, compact_checkpoint):
    cells = pbmc[:120].copy()
    hidden = np.random.default_rng(0).random(cells.shape) < 0.1
    one, other = (
        impute_cells(compact_checkpoint, open_cells(each, hide=hidden), ComputeOptions(block_size=50))
        for each in (cells, scrambled(cells, hidden))
    )
    np.testing.assert_array_equal(one.values, other.values)


def test_spatial_bags_of_several_blocks(pbmc, open_cells, compact_checkpoint):
    cells = pbmc[:120].copy()
    cells.obsm["spatial"] = cells.obsm["X_umap"]
    found = impute_cells(compact_checkpoint, open_cells(cells), ComputeOptions(block_size=50))
    assert found.fit.plan.policy == "spatial"
    assert np.isfinite(found.values).all()


def test_entries_hidden_only_in_cells_that_were_not_drawn_for_the_fit(pbmc, open_cells, compact_checkpoint):
    """Their pass is empty in the cells of the fit, so that nothing can be estimated on it."""
    cells = pbmc[:200].copy()
    drawn = Imputer(compact_checkpoint, open_cells(cells), ComputeOptions(block_size=80), PARTS).cells.fit_cells.rows
    hidden = np.zeros(cells.shape, dtype=bool)
    hidden[np.ix_(np.setdiff1d(np.arange(200), drawn)[:20], np.arange(0, cells.n_vars, 3))] = True
    reader = open_cells(cells, hide=hidden)
    found = impute_cells(compact_checkpoint, reader, ComputeOptions(block_size=80), PARTS)
    is_hidden = reader.block().hidden.toarray()[:, found.gene_index]
    assert found.values.max() < 10
    assert abs(found.detection[is_hidden].mean() - found.detection[~is_hidden].mean()) < 0.1


def test_predictions_made_for_a_fit_serve_no_other_fit(reader, compact_checkpoint):
    imputer = Imputer(compact_checkpoint, reader, ComputeOptions(), ImputeSettings())
    fit = imputer.fit()
    other = replace(fit, cell_weight=1.0 if fit.cell_weight == 0 else 0.0)
    first, second = (next(imputer.blocks(other)).values for _ in range(2))
    np.testing.assert_array_equal(first, second)
