from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from scanpy_sct.model import Bags
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.runner import BagInput, Runner

CPU = ComputeOptions(device="cpu", precision="float32")
N_GENES, MASK, PAD = 512, 5, 6


def a_bag(seed: int, n_cells: int = 8, **fields) -> BagInput:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 6, (n_cells, N_GENES)).astype(np.uint8)
    tokens[:, 509:] = PAD
    token_index = np.flatnonzero(tokens == MASK)[::7]
    return BagInput(np.arange(n_cells), tokens, np.ones((n_cells, 4), np.float32), token_index, **fields)


@pytest.fixture(params=["compact", "released"])
def checkpoint(request, compact_checkpoint, released_checkpoint):
    return compact_checkpoint if request.param == "compact" else released_checkpoint


def answers(checkpoint, bags, options=CPU):
    runner = Runner(checkpoint, options)
    found = [array for _, each in runner.predict(bags) for array in (each.log_odds, each.conditional_mean)]
    return found, [array for _, array in runner.cell_vectors(bags)]


def test_predictions_are_those_of_the_network(checkpoint):
    bag = a_bag(0)
    bag.bin_values[:] = np.random.default_rng(0).uniform(0.5, 3, (8, 4))
    runner = Runner(checkpoint, CPU)
    ((_, found),) = runner.predict([bag], keep_bins=True)
    with torch.no_grad():
        logits = checkpoint.network.bin_logits(Bags(torch.from_numpy(bag.tokens)[None]), torch.tensor(bag.token_index))
    p = logits.double().softmax(-1).numpy()
    detection, detected = 1 - p[:, 0], p[:, 1:]
    np.testing.assert_allclose(found.log_odds, np.log(detection / p[:, 0]), atol=1e-4)
    values = bag.bin_values[bag.token_index // N_GENES]
    np.testing.assert_allclose(found.conditional_mean, (detected * values).sum(1) / detection, rtol=1e-4)
    np.testing.assert_array_equal(found.top_bin, p.argmax(1))
    np.testing.assert_allclose(found.confidence, p.max(1), rtol=1e-4)
    assert found.log_odds.dtype == found.conditional_mean.dtype == np.float32
    ((_, vectors),) = runner.cell_vectors([bag])
    assert len(vectors) == 8
    assert vectors.dtype == np.float32


def test_batches_change_nothing(checkpoint):
    bags = [a_bag(0), a_bag(1), a_bag(2, n_cells=5), a_bag(3, n_cells=5), a_bag(4)]
    one, many = (answers(checkpoint, bags, ComputeOptions(device="cpu", batch_size=size)) for size in (1, 3))
    for found, expected in zip(one[0] + one[1], many[0] + many[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_genes_that_are_masked_in_every_cell_can_be_left_out(compact_checkpoint):
    bag, genes = a_bag(0), np.arange(0, 509, 2)
    bag.tokens[:, 1:509:2] = MASK
    cell, gene = np.divmod(bag.token_index, N_GENES)
    kept = np.isin(gene, genes)
    bag = replace(bag, token_index=bag.token_index[kept])
    part = replace(bag, tokens=bag.tokens[:, genes], token_index=cell[kept] * len(genes) + gene[kept] // 2)
    ((_, all_genes),) = Runner(compact_checkpoint, CPU).predict([bag])
    ((_, some),) = Runner(compact_checkpoint, CPU, genes).predict([part])
    np.testing.assert_allclose(some.log_odds, all_genes.log_odds, atol=1e-5)


def test_cell_weight_belongs_to_the_call(compact_checkpoint):
    runner, bag = Runner(compact_checkpoint, CPU), a_bag(0)
    full, none, again = (next(runner.predict([bag], cell_weight=weight))[1].log_odds for weight in (1.0, 0.0, 1.0))
    np.testing.assert_array_equal(full, again)
    assert np.abs(full - none).max() > 1e-4


def test_vectors_on_a_background_do_not_depend_on_the_bag(compact_checkpoint):
    runner = Runner(compact_checkpoint, CPU)
    background = runner.background([a_bag(seed) for seed in range(4)])
    flags = np.ones(8, dtype=bool)
    bag, other = a_bag(0, in_background=flags), a_bag(1, in_background=flags)
    mixed = BagInput(
        bag.rows,
        np.concatenate([bag.tokens[:4], other.tokens[:4]]),
        bag.bin_values,
        bag.token_index,
        in_background=flags,
    )
    vectors = [vectors for _, vectors in runner.cell_vectors([bag, mixed], background)]
    np.testing.assert_allclose(vectors[0][:4], vectors[1][:4], atol=1e-5)


def test_the_network_of_the_checkpoint_stays_as_it_is(checkpoint):
    before = {name: (tensor.clone(), tensor.device) for name, tensor in checkpoint.network.state_dict().items()}
    assert Runner(checkpoint, CPU).network is checkpoint.network  # no copy where none is needed
    answers(checkpoint, [a_bag(0)])
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.device == before[name][1]


def test_a_network_in_training_mode_is_copied(checkpoint):
    training = replace(checkpoint, network=copy.deepcopy(checkpoint.network).train())
    assert not Runner(training, CPU).network.training
    assert training.network.training


@pytest.mark.parametrize("size", [0, 1.5, "all", True])
def test_impossible_batch_sizes_are_refused(compact_checkpoint, size):
    with pytest.raises(ValueError, match=rf"batch_size={size!r} must be a positive integer or 'auto'"):
        Runner(compact_checkpoint, ComputeOptions(batch_size=size))


def test_out_of_memory_halves_the_batch(compact_checkpoint, monkeypatch, caplog):
    runner = Runner(compact_checkpoint, ComputeOptions(device="cpu", batch_size=4))
    compute, sizes = runner._predict, []

    def fail_for_many(batch, *how):
        sizes.append(len(batch))
        if len(batch) > 1:
            msg = "full"
            raise torch.OutOfMemoryError(msg)
        return compute(batch, *how)

    monkeypatch.setattr(runner, "_predict", fail_for_many)
    bags = [a_bag(seed) for seed in range(6)]
    with caplog.at_level(logging.WARNING):
        found = [array for _, each in runner.predict(bags) for array in (each.log_odds, each.conditional_mean)]
    assert sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    assert "retrying with batch_size=1" in caplog.text
    expected, _ = answers(compact_checkpoint, bags)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_single_bag_that_does_not_fit_is_an_error(compact_checkpoint, monkeypatch):
    runner = Runner(compact_checkpoint, CPU)

    def fail(batch, *how):
        msg = "full"
        raise torch.OutOfMemoryError(msg)

    monkeypatch.setattr(runner, "_predict", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(runner.predict([a_bag(0)]))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_number_of_threads_changes_nothing(checkpoint, n_threads):
    bags = [a_bag(seed) for seed in range(5)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = answers(checkpoint, bags)
    torch.set_num_threads(n_threads)
    try:
        found = answers(checkpoint, bags)
    finally:
        torch.set_num_threads(before)
    for part, expected in zip(found[0] + found[1], one[0] + one[1], strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-6)


def test_running_out_of_memory_once_halves_the_batch_for_good(compact_checkpoint, monkeypatch):
    runner = Runner(compact_checkpoint, ComputeOptions(device="cpu", batch_size=4))
    compute, sizes = runner._predict, []

    def fail_once(batch, *how):
        sizes.append(len(batch))
        if len(sizes) == 1:
            msg = "full"
            raise torch.OutOfMemoryError(msg)
        return compute(batch, *how)

    monkeypatch.setattr(runner, "_predict", fail_once)
    found = list(runner.predict([a_bag(seed) for seed in range(8)]))
    assert sizes == [4, 2, 2, 2, 2]
    assert [bag.tokens[0, 0] for bag, _ in found] == [a_bag(seed).tokens[0, 0] for seed in range(8)]
