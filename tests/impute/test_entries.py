from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.embed.cells import predict_embedding
from scanpy_sct.impute.entries import predict_entries, predict_hidden
from scanpy_sct.read.expression import read_expression
from scanpy_sct.settings import settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture(scope="module")
def expression(pbmc, tiny_checkpoint):
    return read_expression(pbmc[:60], tiny_checkpoint.genes, token_scale="log1p_counts")


def scrambled(expression, hidden):
    """Return the same data with other values at the hidden entries, zeros becoming expressed and the reverse."""
    from dataclasses import replace

    def change(values):
        dense = values.toarray()
        dense[hidden] = np.where(dense[hidden] > 0, 0, 3.21)
        return sparse.csr_matrix(dense)

    return replace(expression, log_values=change(expression.log_values), token_values=change(expression.token_values))


@pytest.mark.parametrize("bags", ["random", "similar"])
def test_hidden_truth_has_no_influence(expression, tiny_checkpoint, bags):
    hidden = (np.random.default_rng(0).random(expression.log_values.shape) < 0.2) & expression.measured
    one = predict_hidden(tiny_checkpoint, expression, hidden, bags=bags)
    other = predict_hidden(tiny_checkpoint, scrambled(expression, hidden), hidden, bags=bags)
    predicted = hidden[:, one.positions]
    assert np.isfinite(one.value[predicted]).all()
    np.testing.assert_array_equal(one.value[predicted], other.value[predicted])


def test_entries_hidden_by_the_user_have_no_influence_on_anything(expression, tiny_checkpoint):
    hidden = (np.random.default_rng(0).random(expression.log_values.shape) < 0.1) & expression.measured
    hide = sparse.csr_matrix(hidden)
    one = predict_entries(tiny_checkpoint, expression, hide=hide)
    other = predict_entries(tiny_checkpoint, scrambled(expression, hidden), hide=hide)
    np.testing.assert_array_equal(one.value, other.value)


def test_no_value_takes_part_in_its_own_prediction(expression, tiny_checkpoint):
    one = predict_entries(tiny_checkpoint, expression, calibrate=False, bags="random")
    entry = np.zeros(expression.log_values.shape, dtype=bool)
    entry[17, one.positions[40]] = True
    other = predict_entries(tiny_checkpoint, scrambled(expression, entry), calibrate=False, bags="random")
    assert one.value[17, 40] == other.value[17, 40]
    assert not np.array_equal(one.value, other.value)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_genes_come_back_in_the_order_asked_for(expression, tiny_checkpoint, order):
    asked = np.flatnonzero(expression.measured)[[3, 40]][order]
    whole = predict_entries(tiny_checkpoint, expression, calibrate=False)
    some = predict_entries(tiny_checkpoint, expression, positions=asked, calibrate=False)
    np.testing.assert_array_equal(some.positions, asked)
    np.testing.assert_allclose(some.value, whole.value[:, np.searchsorted(whole.positions, asked)], atol=1e-5)


def test_everything_measured_is_predicted(expression, tiny_checkpoint):
    prediction = predict_entries(tiny_checkpoint, expression, keep_bins=True)
    assert prediction.value.shape == (60, expression.measured.sum())
    assert np.isfinite(prediction.value).all()
    assert ((prediction.detection > 0) & (prediction.detection < 1)).all()
    assert prediction.bins.max() <= 4


def test_batch_size_changes_nothing(expression, tiny_checkpoint):
    one, other = (predict_entries(tiny_checkpoint, expression, batch_size=size, rng=3).value for size in (1, 5))
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_seed_matters_and_repeats(expression, tiny_checkpoint):
    one, again, other = (predict_entries(tiny_checkpoint, expression, rng=seed).value for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_calibration_meets_visible_rates(expression, tiny_checkpoint):
    seen = (expression.log_values > 0).toarray().mean(0)
    errors = []
    for calibrate in (False, True):
        prediction = predict_entries(tiny_checkpoint, expression, calibrate=calibrate)
        errors.append(np.abs(prediction.detection.mean(0) - seen[prediction.positions]).mean())
    assert errors[1] < errors[0] / 3
    assert errors[1] < 0.02


def test_out_of_memory_halves_the_batch(expression, tiny_checkpoint, monkeypatch):
    import torch

    from scanpy_sct.run.runner import Runner

    whole = Runner._probabilities

    def small_device(self, batch, path):
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return whole(self, batch, path)

    expected = predict_entries(tiny_checkpoint, expression, batch_size=8).value
    monkeypatch.setattr(Runner, "_probabilities", small_device)
    np.testing.assert_allclose(predict_entries(tiny_checkpoint, expression, batch_size=8).value, expected, atol=2e-5)


def test_order_of_cells_in_embedding(expression, tiny_checkpoint):
    # A bag of one sample holds all eight of its cells: shuffled rows give the same bags, and so the same vectors.
    from dataclasses import replace

    order = np.random.default_rng(0).permutation(8)
    small = {
        name: replace(
            expression,
            log_values=expression.log_values[rows],
            token_values=expression.token_values[rows],
            samples=np.zeros(8, int),
        )
        for name, rows in {"given": np.arange(8), "shuffled": order}.items()
    }
    vectors = {name: predict_embedding(tiny_checkpoint, part, bags="random") for name, part in small.items()}
    np.testing.assert_allclose(vectors["shuffled"], vectors["given"][order], atol=1e-5)


def test_a_blend_knows_nothing_of_what_is_hidden(expression, tiny_checkpoint):
    hidden = (np.random.default_rng(0).random(expression.log_values.shape) < 0.2) & expression.measured
    other_values = scrambled(expression, hidden)
    one, other = (predict_hidden(tiny_checkpoint, each, hidden, blend=True) for each in (expression, other_values))
    predicted = hidden[:, one.positions]
    np.testing.assert_array_equal(one.value[predicted], other.value[predicted])
    assert np.isnan(one.value[~predicted]).all()
    hide = sparse.csr_matrix(hidden)
    one, other = (predict_entries(tiny_checkpoint, each, hide=hide, blend=True) for each in (expression, other_values))
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.network_share, other.network_share)


def test_a_blend_with_an_untrained_network_follows_the_data(pbmc, tiny_checkpoint):
    cells = read_expression(pbmc[:300], tiny_checkpoint.genes, token_scale="log1p_counts")
    hidden = (np.random.default_rng(0).random(cells.log_values.shape) < 0.2) & cells.measured
    network = predict_hidden(tiny_checkpoint, cells, hidden, bags="random")
    blend = predict_hidden(tiny_checkpoint, cells, hidden, bags="random", blend=True)
    asked = hidden[:, blend.positions]
    truth = cells.log_values.toarray()[:, blend.positions][asked] > 0

    def log_loss(prediction):
        p = np.clip(prediction.detection[asked], 1e-6, 1 - 1e-6)
        return -np.log(np.where(truth, p, 1 - p)).mean()

    assert log_loss(blend) < log_loss(network) - 0.01
    assert np.median(blend.network_share) < 0.5
    assert network.network_share is None


def test_levels_follow_network_and_data_by_the_share_that_was_learnt(pbmc, tiny_checkpoint, monkeypatch):
    cells = read_expression(pbmc[:300], tiny_checkpoint.genes, token_scale="log1p_counts")
    hidden = (np.random.default_rng(0).random(cells.log_values.shape) < 0.2) & cells.measured
    learnt = predict_hidden(tiny_checkpoint, cells, hidden, bags="random", blend=True)
    asked = hidden[:, learnt.positions]
    truth = cells.log_values.toarray()[:, learnt.positions][asked]

    def error_with(share):
        monkeypatch.setattr("scanpy_sct.impute.fit.level_share", lambda levels, values: share)
        prediction = predict_hidden(tiny_checkpoint, cells, hidden, bags="random", blend=True)
        assert prediction.level_share == share
        np.testing.assert_array_equal(prediction.detection, learnt.detection)
        return np.square(prediction.level[asked] - truth)[truth > 0].mean()

    # The network was never trained, so that the data are to be followed.
    found = np.square(learnt.level[asked] - truth)[truth > 0].mean()
    assert learnt.level_share < 0.4
    data_alone, both_alike, network_alone = (error_with(share) for share in (0.0, 0.5, 1.0))
    assert data_alone < both_alike < network_alone
    assert found < both_alike


def test_a_gene_gets_the_same_blend_whatever_else_is_asked_for(expression, tiny_checkpoint):
    whole = predict_entries(tiny_checkpoint, expression, blend=True)
    some = predict_entries(tiny_checkpoint, expression, blend=True, positions=whole.positions[[3, 40, 41]])
    np.testing.assert_array_equal(some.positions, whole.positions[[3, 40, 41]])
    np.testing.assert_allclose(some.value, whole.value[:, [3, 40, 41]], atol=2e-5)
    np.testing.assert_allclose(some.network_share, whole.network_share[[3, 40, 41]], atol=1e-4)


def test_genes_that_were_not_measured_come_from_the_network_alone(expression, tiny_checkpoint):
    place = np.flatnonzero(expression.measured)[5]
    hidden = np.zeros(expression.log_values.shape, dtype=bool)
    hidden[:, place] = True
    plain, blend = (predict_hidden(tiny_checkpoint, expression, hidden, blend=each) for each in (False, True))
    np.testing.assert_allclose(plain.value[:, 5], blend.value[:, 5], rtol=1e-4)
    assert blend.network_share[5] == 1


def test_entries_hidden_by_the_user_are_predicted_while_nothing_else_is_hidden(expression, tiny_checkpoint):
    hidden = sparse.csr_matrix(np.random.default_rng(0).random(expression.log_values.shape) < 0.1)
    hidden = hidden.multiply(expression.measured).tocsr().astype(bool)
    both = predict_entries(tiny_checkpoint, expression, hide=hidden, calibrate=False)
    alone = predict_hidden(tiny_checkpoint, expression, hidden, calibrate=False)
    asked = hidden[:, both.positions].toarray()
    np.testing.assert_allclose(both.value[asked], alone.value[asked], atol=2e-5)
    assert np.isfinite(both.value).all()


def test_too_few_cells_are_left_to_the_network(expression, tiny_checkpoint):
    from dataclasses import replace

    few = replace(
        expression,
        log_values=expression.log_values[:10],
        token_values=expression.token_values[:10],
        samples=expression.samples[:10],
    )
    assert predict_entries(tiny_checkpoint, few, blend=True).network_share is None
