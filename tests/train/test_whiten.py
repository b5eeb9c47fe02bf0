from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.model import Sct, SctConfig
from scanpy_sct.train import whiten_embedding


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture
def cells(pbmc):
    return pbmc[:150].copy()


def embedded(checkpoint, adata):
    """The cell embedding in float64, (cells, dimensions)."""
    return sct.tl.embed(adata, model=checkpoint, source="cell", copy=True).obsm["X_sct"].astype(np.float64)


def second_moments(vectors):
    centred = vectors - vectors.mean(0)
    return centred.T @ centred / len(vectors)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_directions_become_more_equal_by_the_power(direct_checkpoint, cells, power):
    before = np.linalg.eigvalsh(second_moments(embedded(direct_checkpoint, cells)))
    changed = whiten_embedding(direct_checkpoint, cells, power=power, n_cells=len(cells))
    after = np.linalg.eigvalsh(second_moments(embedded(changed, cells)))
    np.testing.assert_allclose(after, np.sort(before ** (1 - power)), rtol=1e-3)


@torch.no_grad()
def test_predictions_stay_as_they_are(direct_checkpoint, cells):
    changed = whiten_embedding(direct_checkpoint, cells, power=1.0)
    tokens = torch.randint(0, 7, (1, 4 * len(direct_checkpoint.genes)), generator=torch.Generator().manual_seed(0))
    before, after = (each.network(tokens)["direct_logits"] for each in (direct_checkpoint, changed))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert not torch.equal(changed.network.cell_path.gene_table, direct_checkpoint.network.cell_path.gene_table)


def test_objects_count_alike_and_stay_as_they_are(direct_checkpoint, cells):
    small, large = cells[:40].copy(), cells[40:].copy()
    columns = list(small.obs), list(small.obsm)
    changed = whiten_embedding(direct_checkpoint, [small, large], power=1.0)
    assert (list(small.obs), list(small.obsm)) == columns
    vectors = [embedded(changed, each) for each in (small, large)]
    mean = np.mean([each.mean(0) for each in vectors], axis=0)
    pooled = np.mean([(each - mean).T @ (each - mean) / len(each) for each in vectors], axis=0)
    np.testing.assert_allclose(pooled, np.eye(len(pooled)), atol=2e-2)


def test_cells_without_counts_have_no_say(direct_checkpoint, cells):
    with_empty = cells.copy()
    with_empty.X[100:] = 0
    tables = [
        whiten_embedding(direct_checkpoint, each).network.cell_path.gene_table
        for each in (with_empty, cells[:100].copy())
    ]
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_towers_see_no_difference(tiny_checkpoint, cells):
    network = copy.deepcopy(tiny_checkpoint.network)
    network.cell_path.to_trunk.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    changed = whiten_embedding(replace(tiny_checkpoint, network=network), cells, power=1.0)
    tokens = torch.randint(0, 7, (1, 4 * len(tiny_checkpoint.genes)), generator=torch.Generator().manual_seed(0))
    before, after = (each(tokens, outputs={"logits"})["logits"] for each in (network, changed.network))
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


def test_a_new_checkpoint_without_names_is_made(direct_checkpoint, cells):
    headed = sct.train.fit_label_head(direct_checkpoint, cells, "bulk_labels")
    before = headed.network.cell_path.gene_table.clone()
    changed = whiten_embedding(headed, cells)
    assert changed.label_head is None
    assert changed.name == f"{headed.name}-whitened"
    assert headed.label_head is not None
    torch.testing.assert_close(headed.network.cell_path.gene_table, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": 1.5}, r"power=1.5 must be between 0"),
        ({"n_cells": 0}, "n_cells=0 must be a whole number"),
        ({"n_cells": 2.5}, "n_cells=2.5 must be a whole number"),
        ({"n_cells": 3}, "give 3 cells with counts, too few for an embedding of"),
    ],
)
def test_impossible_arguments_are_refused(direct_checkpoint, cells, options, message):
    with pytest.raises(ValueError, match=message):
        whiten_embedding(direct_checkpoint, cells, **options)


def test_without_a_cell_embedding_there_is_nothing_to_whiten(direct_checkpoint, cells):
    shape = SctConfig(num_downsamples=2, token_embed_dim=32, embed_dim=64, ffn_embed_dim=64, attention_heads=2)
    network = Sct(shape, len(direct_checkpoint.genes))
    other = replace(direct_checkpoint, config=network.config, network=network, path="full", embedding="transformer")
    with pytest.raises(ValueError, match="has no cell embedding; name one with cell_dim > 0"):
        whiten_embedding(other, cells)
