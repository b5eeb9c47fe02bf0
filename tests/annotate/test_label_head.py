from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.annotate.label_head import LabelHeadAnnotator, label_probabilities
from scanpy_sct.checkpoints import LabelHead
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.workflow import open_cells


def head_of(n_features):
    weight = np.zeros((2, n_features), dtype=np.float32)
    weight[1, 0] = 2
    mean, scale = np.full(n_features, 0.5, dtype=np.float32), np.full(n_features, 2, dtype=np.float32)
    return LabelHead(("a", "b"), weight, np.array([0, 1], dtype=np.float32), mean, scale, temperature=2.0)


def test_probabilities_by_hand():
    probabilities = label_probabilities(head_of(3), np.array([[2.5, 9, 9], [0.5, 0, 0]], dtype=np.float32))
    # Logits (2 * 1 + 1) / 2 and 1 / 2.
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp([-1.5, -0.5])))
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_another_number_of_features_raises_an_error():
    with pytest.raises(ValueError, match="reads 5 features of a cell; found 4"):
        label_probabilities(head_of(5), np.zeros((3, 4)))


def test_the_head_reads_the_embedding(pbmc, tiny_checkpoint, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    monkeypatch.setattr("scanpy_sct.annotate.label_head.embed_cells", lambda *_: vectors)
    cells = open_cells(pbmc[:20], tiny_checkpoint)[1]
    model = replace(tiny_checkpoint, label_head=head_of(6))
    found = LabelHeadAnnotator().annotate(model, cells, ComputeOptions())
    assert found.labels == ("a", "b")
    np.testing.assert_array_equal(found.probabilities, label_probabilities(model.label_head, vectors))
    assert found.novelty is None
    assert not found.empty.any()
    with pytest.raises(ValueError, match="'tiny' has no label head"):
        LabelHeadAnnotator().annotate(tiny_checkpoint, cells, ComputeOptions())
