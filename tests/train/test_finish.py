from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.model import Bags, make_network
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.train import finish
from scanpy_sct.train.finish import (
    finish_checkpoint,
    rescaled,
    whitening_matrix,
    with_bag_correction,
    with_whitened_embedding,
)


@dataclass
class Cells:
    """A source in memory."""

    log_counts: object
    measured: np.ndarray
    name: str = "cells"
    coordinates: None = None

    @property
    def samples(self):
        return np.zeros(self.log_counts.shape[0], dtype=int)

    def read(self, start, stop):
        return self.log_counts[start:stop]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture
def checkpoint(compact_checkpoint):
    """As after pretraining: without bag correction."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network(replace(compact_checkpoint.config, bag_correction=False), 512)
    return replace(compact_checkpoint, network=network.eval())


@pytest.fixture
def source(checkpoint, pbmc):
    block = CellReader(pbmc[:150].copy(), checkpoint.genes, "log1p_counts").block()
    return Cells(block.token_values, block.measured)


def embedded(checkpoint, source):
    """Cell embedding in float64, (cells, dimensions)."""
    block = finish._some_cells(source, np.random.default_rng(0))
    return embed_cells(checkpoint, block, ComputeOptions(device="cpu")).astype(np.float64)


def second_moments(vectors):
    centred = vectors - vectors.mean(0)
    return centred.T @ centred / len(vectors)


def logits(checkpoint):
    tokens = torch.randint(0, 6, (1, 4, 512), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return checkpoint.network.bin_logits(Bags(tokens), torch.arange(4 * 512))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_directions_become_more_equal_by_the_power(checkpoint, source, config, power):
    before = np.linalg.eigvalsh(second_moments(embedded(checkpoint, source)))
    changed = with_whitened_embedding(checkpoint, [source], replace(config, whitening=power), "cpu")
    after = np.linalg.eigvalsh(second_moments(embedded(changed, source)))
    np.testing.assert_allclose(after, np.sort(before ** (1 - power)), rtol=1e-2)


def test_predictions_do_not_change(checkpoint, source, config):
    changed = with_whitened_embedding(checkpoint, [source], replace(config, whitening=1.0), "cpu")
    torch.testing.assert_close(logits(changed), logits(checkpoint), atol=1e-4, rtol=1e-4)
    assert not torch.equal(changed.network.embedder.gene_factors, checkpoint.network.embedder.gene_factors)


def test_sources_are_weighted_equally():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(40, 3)) * [1, 2, 3], rng.normal(size=(400, 3)) * [3, 1, 1] + 1
    matrix = whitening_matrix([small, large], power=1.0)
    vectors = [each @ matrix for each in (small, large)]
    mean = np.mean([each.mean(0) for each in vectors], axis=0)
    pooled = np.mean([(each - mean).T @ (each - mean) / len(each) for each in vectors], axis=0)
    np.testing.assert_allclose(pooled, np.eye(3), atol=1e-9)


def test_cells_without_counts_have_no_influence(checkpoint, source, config):
    counts = source.log_counts.toarray()
    counts[100:] = 0
    with_empty = replace(source, log_counts=type(source.log_counts)(counts))
    shorter = replace(source, log_counts=source.log_counts[:100])
    factors = [
        with_whitened_embedding(checkpoint, [each], config, "cpu").network.embedder.gene_factors
        for each in (with_empty, shorter)
    ]
    torch.testing.assert_close(*factors, rtol=1e-3, atol=1e-4)


def test_too_few_cells_do_not_change_the_embedding(checkpoint, source, config, caplog):
    few = replace(source, log_counts=source.log_counts[:20])
    assert with_whitened_embedding(checkpoint, [few], config, "cpu") is checkpoint
    assert "20 cells are too few for 16 dimensions" in caplog.text


def test_correction_is_added_with_its_prior(checkpoint):
    corrected = with_bag_correction(checkpoint, 10.0)
    assert corrected.config == replace(checkpoint.config, bag_correction=True)
    assert corrected.network.correction.log_prior_cells.exp().item() == pytest.approx(10)
    # With a large prior the correction vanishes.
    torch.testing.assert_close(logits(with_bag_correction(checkpoint, 1e9)), logits(checkpoint), atol=1e-4, rtol=1e-4)
    assert (logits(corrected) - logits(checkpoint)).abs().max() > 1e-2


def test_the_recipe_does_both_and_does_not_change_its_input(checkpoint, source, config):
    weights = {name: weight.clone() for name, weight in checkpoint.network.state_dict().items()}
    made = finish_checkpoint(checkpoint, [source], config, "cpu")
    assert made.config.bag_correction
    assert not torch.equal(made.network.embedder.gene_factors, weights["embedder.gene_factors"])
    for name, weight in checkpoint.network.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    plain = finish_checkpoint(checkpoint, [source], replace(config, prior_cells=None, whitening=0.0), "cpu")
    assert plain is checkpoint


def test_a_released_network_is_not_changed(released_checkpoint, source, config):
    assert finish_checkpoint(released_checkpoint, [source], config, "cpu") is released_checkpoint


def test_rescaling_by_the_identity_changes_nothing(checkpoint):
    torch.testing.assert_close(logits(rescaled(checkpoint, np.eye(16))), logits(checkpoint))
