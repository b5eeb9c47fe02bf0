from __future__ import annotations

import torch

from scanpy_sct.model import SctConfig
from scanpy_sct.model.cell_path import CellPath

MASK = 5


def test_cell_embedding_ignores_masked_genes():
    torch.manual_seed(0)
    path = CellPath(SctConfig(context=True, cell_dim=8), 30)
    tokens = torch.randint(0, 5, (1, 3, 30))
    tokens[0, 0, 4] = MASK
    expected, variance = torch.rand(2, 1, 3, 30)
    before = path.embed(tokens, expected, variance)
    expected[0, 0, 4], variance[0, 0, 4] = 1.9, 0.7
    torch.testing.assert_close(path.embed(tokens, expected, variance), before)
