from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from scanpy_sct.impute.entries import predict_entries
from scanpy_sct.model.cell_path import CellPath
from scanpy_sct.read.expression import read_expression
from scanpy_sct.settings import settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture(scope="module")
def expression(pbmc, tiny_checkpoint):
    return read_expression(pbmc[:60], tiny_checkpoint.genes, token_scale="log1p_counts")


def with_cell_path(monkeypatch, logits_of):
    """Let the cell path say what ``logits_of`` returns for each gene."""

    def scores(self, x):
        detection = logits_of(x.shape[:2], len(self.gene_table))
        return detection, torch.zeros_like(detection)

    monkeypatch.setattr(CellPath, "scores", scores)


def test_noise_is_not_followed(expression, tiny_checkpoint, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    with_cell_path(monkeypatch, lambda shape, n: 3 * torch.randn(*shape, n, generator=generator))
    assert predict_entries(tiny_checkpoint, expression).cell_weight == 0


def test_a_cell_path_that_knows_is_followed_fully(expression, tiny_checkpoint, monkeypatch):
    # Bags of one: the tokens of a cell tell which row it is, so that the path can look the answer up.
    truth = torch.from_numpy((expression.log_values > 0).toarray())
    forward = CellPath.embed
    rows = []

    def embed(self, tokens, expected, variance):
        seen = (tokens[0] > 0) & (tokens[0] < 5)
        agreement = (seen[:, None] & truth[None]).sum(-1) / seen.sum(-1, keepdim=True)
        rows[:] = agreement.argmax(1).tolist()
        return forward(self, tokens, expected, variance)

    monkeypatch.setattr(CellPath, "embed", embed)
    with_cell_path(monkeypatch, lambda shape, n: 4 * truth[rows].float()[None] - 2)
    assert predict_entries(tiny_checkpoint, expression, batch_size=1).cell_weight == 1


def test_hidden_truth_does_not_choose(expression, tiny_checkpoint):
    from dataclasses import replace

    hidden = (np.random.default_rng(0).random(expression.log_values.shape) < 0.3) & expression.measured
    dense = {name: getattr(expression, name).toarray() for name in ("log_values", "token_values")}
    for values in dense.values():
        values[hidden] = np.where(values[hidden] > 0, 0, 3.0)
    other = replace(expression, **{name: sparse.csr_matrix(values) for name, values in dense.items()})
    hide = sparse.csr_matrix(hidden)
    one, two = (predict_entries(tiny_checkpoint, each, hide=hide) for each in (expression, other))
    assert one.cell_weight == two.cell_weight
    np.testing.assert_array_equal(one.value, two.value)


def test_without_calibration_the_network_is_followed(expression, tiny_checkpoint):
    assert predict_entries(tiny_checkpoint, expression, calibrate=False).cell_weight == 1
