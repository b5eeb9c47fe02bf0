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


def answers(checkpoint, bags, options=CPU, **keys):
    runner = Runner(checkpoint, options, **keys)
    found = [array for _, array in runner.bin_probabilities(bags)]
    return found, [array for _, array in runner.cell_vectors(bags)]


def test_probabilities_are_those_of_the_network(checkpoint):
    bag = a_bag(0)
    probabilities, vectors = answers(checkpoint, [bag])
    assert probabilities[0].shape == (len(bag.token_index), 5)
    assert (probabilities[0].dtype, vectors[0].dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(probabilities[0].sum(1), 1, rtol=1e-5)
    with torch.no_grad():
        logits = checkpoint.network.bin_logits(Bags(torch.from_numpy(bag.tokens)[None]), torch.tensor(bag.token_index))
    np.testing.assert_allclose(probabilities[0], logits.softmax(-1), rtol=1e-4)
    assert len(vectors[0]) == 8


def test_batches_change_nothing(checkpoint):
    bags = [a_bag(0), a_bag(1), a_bag(2, n_cells=5), a_bag(3, n_cells=5), a_bag(4)]
    one, many = (answers(checkpoint, bags, ComputeOptions(device="cpu", batch_size=size)) for size in (1, 3))
    for found, expected in zip(one[0] + one[1], many[0] + many[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_genes_that_are_masked_in_every_cell_can_be_left_out(checkpoint):
    bag = a_bag(0)
    genes = np.arange(0, 512, 2)
    bag.tokens[:, 1::2] = np.where(bag.tokens[:, 1::2] == PAD, PAD, MASK)
    index = bag.token_index[np.isin(bag.token_index % N_GENES, genes)]
    bag = BagInput(bag.rows, bag.tokens, bag.values, index)
    (all_genes, _), (some, _) = answers(checkpoint, [bag]), answers(checkpoint, [bag], gene_index=genes)
    np.testing.assert_allclose(some[0], all_genes[0], atol=1e-5)


def test_tokens_of_genes_that_are_left_out_cannot_be_requested(compact_checkpoint):
    with pytest.raises(ValueError, match="token_index names genes that are not in gene_index"):
        answers(compact_checkpoint, [a_bag(0)], gene_index=np.arange(10))


def test_cell_weight_belongs_to_the_call(compact_checkpoint):
    runner, bag = Runner(compact_checkpoint, CPU), a_bag(0)
    full, none, again = (next(runner.bin_probabilities([bag], cell_weight=weight))[1] for weight in (1.0, 0.0, 1.0))
    np.testing.assert_array_equal(full, again)
    assert np.abs(full - none).max() > 1e-4


def test_vectors_on_a_background_do_not_depend_on_the_bag(compact_checkpoint):
    runner = Runner(compact_checkpoint, CPU)
    sample = np.concatenate([a_bag(seed).tokens for seed in range(4)])
    background = runner.background(sample[:20]) + runner.background(sample[20:])
    flags = np.ones(8, dtype=bool)
    bag, other = a_bag(0, in_background=flags), a_bag(1, in_background=flags)
    mixed = BagInput(bag.rows, np.concatenate([bag.tokens[:4], other.tokens[:4]]), bag.values, in_background=flags)
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
    with pytest.raises(ValueError, match=rf"batch_size={size!r} must be an integer of at least 1, or 'auto'"):
        Runner(compact_checkpoint, ComputeOptions(batch_size=size))


def test_out_of_memory_halves_the_batch(compact_checkpoint, monkeypatch, caplog):
    runner = Runner(compact_checkpoint, ComputeOptions(device="cpu", batch_size=4))
    compute, sizes = runner._probabilities, []

    def fail_for_many(batch, weight):
        sizes.append(len(batch))
        if len(batch) > 1:
            msg = "full"
            raise torch.OutOfMemoryError(msg)
        return compute(batch, weight)

    monkeypatch.setattr(runner, "_probabilities", fail_for_many)
    bags = [a_bag(seed) for seed in range(6)]
    with caplog.at_level(logging.WARNING):
        found = [array for _, array in runner.bin_probabilities(bags)]
    assert sizes == [4, 2, 1, 1, 2, 1, 1, 1, 1]
    assert "retrying with batch_size=1" in caplog.text
    expected, _ = answers(compact_checkpoint, bags)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_single_bag_that_does_not_fit_is_an_error(compact_checkpoint, monkeypatch):
    runner = Runner(compact_checkpoint, CPU)

    def fail(batch, weight):
        msg = "full"
        raise torch.OutOfMemoryError(msg)

    monkeypatch.setattr(runner, "_probabilities", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(runner.bin_probabilities([a_bag(0)]))
