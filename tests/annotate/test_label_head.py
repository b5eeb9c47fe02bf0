from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from scanpy_sct.annotate.label_head import LabelHeadAnnotator, label_probabilities
from scanpy_sct.checkpoints import LabelHead, LabelHome
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.workflow import open_cells


def head_of(n_features):
    weight = np.zeros((2, n_features), dtype=np.float32)
    weight[1, 0] = 2
    mean, scale = np.full(n_features, 0.5, dtype=np.float32), np.full(n_features, 2, dtype=np.float32)
    classifier = EmbeddingClassifier(weight, np.array([0, 1], dtype=np.float32), mean, scale)
    return LabelHead(("a", "b"), classifier, temperature=2.0)


def test_probabilities_by_hand():
    vectors = np.array([[2.5, 9, 9], [0.5, 0, 0]], dtype=np.float32)
    probabilities = label_probabilities(head_of(3), None, vectors)
    # Logits (2 * 1 + 1) / 2 and 1 / 2.
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp([-1.5, -0.5])))
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_another_number_of_features_raises_an_error():
    with pytest.raises(ValueError, match="reads 5 features of a cell; found 4"):
        label_probabilities(head_of(5), None, np.zeros((3, 4)))


def test_the_head_reads_the_embedding(pbmc, tiny_checkpoint, monkeypatch, caplog):
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    asked = []
    monkeypatch.setattr("scanpy_sct.annotate.label_head.embed_cells", lambda *given: asked.append(given[-1]) or vectors)
    cells = open_cells(pbmc[:20], tiny_checkpoint)[1]
    model = replace(tiny_checkpoint, label_head=head_of(6))
    found = LabelHeadAnnotator().annotate(model, cells, ComputeOptions())
    later = replace(model, label_head=replace(head_of(6), relative_to="training"))
    LabelHeadAnnotator().annotate(later, cells, ComputeOptions())
    assert asked == ["sample", "training"]
    assert found.labels == ("a", "b")
    np.testing.assert_array_equal(found.probabilities, label_probabilities(model.label_head, cells, vectors))
    assert found.novelty is None
    assert not found.empty.any()
    assert "no record of the cells" in caplog.text
    assert "It knows: a; b. For other cells, pass reference=" in caplog.text
    with pytest.raises(ValueError, match="'tiny' has no label head"):
        LabelHeadAnnotator().annotate(tiny_checkpoint, cells, ComputeOptions())


@pytest.mark.parametrize(("n_new", "warns"), [(12, True), (9, False)])
def test_new_cells_are_listed_with_what_the_head_knows(pbmc, tiny_checkpoint, monkeypatch, caplog, n_new, warns):
    vectors = np.zeros((20, 6), dtype=np.float32)
    novelty = np.where(np.arange(20) < n_new, 0.9, 0.1)
    novelty[19] = np.nan
    monkeypatch.setattr("scanpy_sct.annotate.label_head.embed_cells", lambda *_: vectors)
    monkeypatch.setattr("scanpy_sct.annotate.label_head.home_novelty", lambda *_: novelty)
    profiles = np.ones((2, len(tiny_checkpoint.genes)), dtype=np.float32)
    home = LabelHome(("blood",), (30, 40), profiles, np.zeros((2, 2), dtype=np.float32))
    model = replace(tiny_checkpoint, label_head=replace(head_of(6), home=home))
    cells = open_cells(pbmc[:20], tiny_checkpoint)[1]
    found = LabelHeadAnnotator().annotate(model, cells, ComputeOptions())
    np.testing.assert_array_equal(found.novelty, novelty)
    assert found.details["label_head"] == {
        "sources": ["blood"],
        "cells": [30, 40],
        "shared_genes": int(cells.measured.sum()),
    }
    expected = "12 of 19 cells are unlike .* It knows: a .30 cells.; b .40 cells., of: blood. For other cells, pass ref"
    assert bool(re.search(expected, caplog.text)) == warns
    assert bool(caplog.text) == warns
