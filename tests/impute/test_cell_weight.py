from __future__ import annotations

import numpy as np
import pytest
import torch

from scanpy_sct.impute import ImputeSettings, impute_cells
from scanpy_sct.model.cells import CellEmbedder, GeneDecoder
from scanpy_sct.run.options import ComputeOptions


@pytest.fixture(scope="module")
def reader(pbmc, open_cells):
    return open_cells(pbmc[:60])


def with_scores(monkeypatch, scores_of):
    """Let the cell embedding give each gene the score that ``scores_of`` returns."""

    def forward(self, cells, weight):
        scores = weight * scores_of(cells.shape[:2], len(self.gene_factors))
        return scores, torch.zeros_like(scores)

    monkeypatch.setattr(GeneDecoder, "forward", forward)


def weight_for(checkpoint, reader, **settings):
    return impute_cells(checkpoint, reader, ComputeOptions(batch_size=1), ImputeSettings(**settings)).fit.cell_weight


def test_noise_gets_no_weight(reader, compact_checkpoint, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    with_scores(monkeypatch, lambda shape, n: 3 * torch.randn(*shape, n, generator=generator))
    assert weight_for(compact_checkpoint, reader) == 0


def test_the_truth_gets_the_full_weight(reader, compact_checkpoint, monkeypatch):
    # The visible genes of a cell tell which row it is, so that the truth can be looked up.
    genes = np.flatnonzero(reader.measured)
    truth = torch.from_numpy((reader.block().log_values > 0).toarray()[:, genes])
    forward = CellEmbedder.forward
    rows = []

    def embed(self, profile, moments=None):
        detected = torch.zeros_like(profile.tokens.is_visible[0], dtype=torch.bool)
        detected.view(-1)[profile.tokens.detected] = True
        agreement = (detected[:, None] & truth[None]).sum(-1) / detected.sum(-1, keepdim=True)
        rows[:] = agreement.argmax(1).tolist()
        return forward(self, profile, moments)

    monkeypatch.setattr(CellEmbedder, "forward", embed)
    with_scores(monkeypatch, lambda shape, n: 4 * truth[rows].float()[None] - 2)
    assert weight_for(compact_checkpoint, reader) == 1


def test_hidden_truth_does_not_choose(pbmc, open_cells, scrambled, compact_checkpoint):
    cells = pbmc[:60].copy()
    hidden = np.random.default_rng(0).random(cells.shape) < 0.3
    one, other = (
        weight_for(compact_checkpoint, open_cells(each, hide=hidden)) for each in (cells, scrambled(cells, hidden))
    )
    assert one == other


def test_without_calibration_the_full_weight_is_used(reader, compact_checkpoint):
    assert weight_for(compact_checkpoint, reader, calibrate=False) == 1


def test_a_network_without_cell_embedding_has_no_weight_to_choose(reader, released_checkpoint):
    assert weight_for(released_checkpoint, reader) == 1
