from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from scanpy_sct.impute.entries import predict_entries
from scanpy_sct.model.cells import CellEmbedder, GeneDecoder
from scanpy_sct.read.expression import read_expression
from scanpy_sct.run.inputs import token_rules
from scanpy_sct.settings import settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture(scope="module")
def expression(pbmc, compact_checkpoint):
    return read_expression(pbmc[:60], compact_checkpoint.genes, token_scale="log1p_counts")


def with_scores(monkeypatch, scores_of):
    """Let the cell embedding give each gene the score that ``scores_of`` returns."""

    def forward(self, cells, weight):
        scores = weight * scores_of(cells.shape[:2], len(self.gene_factors))
        return scores, torch.zeros_like(scores)

    monkeypatch.setattr(GeneDecoder, "forward", forward)


def test_noise_gets_no_weight(expression, compact_checkpoint, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    with_scores(monkeypatch, lambda shape, n: 3 * torch.randn(*shape, n, generator=generator))
    assert predict_entries(compact_checkpoint, expression).cell_weight == 0


def test_the_truth_gets_the_full_weight(expression, compact_checkpoint, monkeypatch):
    # The visible genes of a cell tell which row it is, so that the truth can be looked up.
    genes = token_rules(compact_checkpoint).visible_genes(expression.measured)
    truth = torch.from_numpy((expression.log_values > 0).toarray()[:, genes])
    forward = CellEmbedder.forward
    rows = []

    def embed(self, profile):
        detected = (profile.seen.visible > profile.seen.zero)[0]
        agreement = (detected[:, None] & truth[None]).sum(-1) / detected.sum(-1, keepdim=True)
        rows[:] = agreement.argmax(1).tolist()
        return forward(self, profile)

    monkeypatch.setattr(CellEmbedder, "forward", embed)
    with_scores(monkeypatch, lambda shape, n: 4 * truth[rows].float()[None] - 2)
    assert predict_entries(compact_checkpoint, expression, batch_size=1).cell_weight == 1


def test_hidden_truth_does_not_choose(expression, compact_checkpoint):
    from dataclasses import replace

    hidden = (np.random.default_rng(0).random(expression.log_values.shape) < 0.3) & expression.measured
    dense = {name: getattr(expression, name).toarray() for name in ("log_values", "token_values")}
    for values in dense.values():
        values[hidden] = np.where(values[hidden] > 0, 0, 3.0)
    other = replace(expression, **{name: sparse.csr_matrix(values) for name, values in dense.items()})
    hide = sparse.csr_matrix(hidden)
    one, two = (predict_entries(compact_checkpoint, each, hide=hide) for each in (expression, other))
    assert one.cell_weight == two.cell_weight
    np.testing.assert_array_equal(one.value, two.value)


def test_without_calibration_the_full_weight_is_used(expression, compact_checkpoint):
    assert predict_entries(compact_checkpoint, expression, calibrate=False).cell_weight == 1
