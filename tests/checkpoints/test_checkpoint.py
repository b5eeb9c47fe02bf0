"""Inconsistent checkpoints raise errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scanpy_sct.checkpoints import LabelHead, TokenSettings


def test_describe_states_the_main_facts(tiny):
    text = dataclasses.replace(tiny, sha256="f00").describe()
    for fact in (
        "tiny",
        "48,559",
        "3 of 16",
        "architecture: released",
        "zero and 4 bins of equal width",
        "0.3",
        "B cell",
        "BSD-3-Clause",
        "abc",
        "f00",
    ):
        assert fact in text


def test_it_shows_itself_in_a_few_lines(tiny):
    text = repr(tiny)
    assert len(text.splitlines()) == 6
    for fact in ("'tiny'", "genes: 3", "48,559", "architecture: released", "3 types", "BSD-3-Clause"):
        assert fact in text
    assert "label head: none" in repr(dataclasses.replace(tiny, label_head=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genes": np.full(15, "", dtype="<U15")}, r"genes has shape \(15,\), expected \(16,\)"),
        ({"genes": np.full(16, "ENSG00000075624")}, "duplicate ids.*ENSG00000075624"),
        ({"mask_fraction": 0.0}, "mask_fraction"),
        ({"coordinates": "metres"}, "coordinates='metres'"),
    ],
)
def test_inconsistent_checkpoints_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny, **changes)


def test_configuration_and_architecture_are_those_of_the_network(tiny, compact_checkpoint):
    assert (tiny.config, tiny.architecture) == (tiny.network.config, "released")
    assert compact_checkpoint.architecture == "compact"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"binning": "quantile"}, "binning='quantile' is not known; use one of 'uniform', 'counts'"),
        ({"binning": "counts", "scale": "log1p_cp10k"}, "binning='counts' must have scale='log1p_counts'"),
    ],
)
def test_impossible_token_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TokenSettings(**settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "has 2 labels, and its classifier 3"),
        ({"labels": ("a", "a", "b")}, "different"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_inconsistent_label_heads_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny.label_head, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": np.zeros(2, dtype=np.float32)}, "weight"),
        ({"bias": np.zeros(3)}, "float64"),
        ({"feature_mean": np.full(32, np.nan, dtype=np.float32)}, "feature_mean"),
        ({"feature_scale": np.zeros(32, dtype=np.float32)}, "positive"),
    ],
)
def test_inconsistent_classifiers_of_embeddings_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny.label_head.classifier, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": np.zeros(3, dtype=np.float32)}, "weight"),
        ({"marker_mean": np.zeros(3, dtype=np.float32)}, "marker_mean"),
        ({"gene_rate": np.zeros(3, dtype=np.float32)}, "positive; found 0"),
        ({"gene_index": np.array([0, 7, 3], dtype=np.int32)}, "gene_index .* increasing"),
        ({"gene_index": np.array([-1, 0, 7], dtype=np.int32)}, "gene_index .* not negative"),
        ({"gene_index": np.array([0, 3, 7])}, "gene_index .* int32"),
        ({"marker_index": np.array([0, 4], dtype=np.int32)}, "some of its gene_index; found others: .4."),
    ],
)
def test_inconsistent_classifiers_of_expression_are_refused(of_expression, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(of_expression, **changes)


def test_a_classifier_of_more_genes_than_the_network_has_is_refused(tiny, of_expression):
    further = dataclasses.replace(of_expression, gene_index=np.array([0, 7, 16], dtype=np.int32))
    with pytest.raises(ValueError, match="goes up to 16, and the network has 16 genes;"):
        dataclasses.replace(tiny, label_head=LabelHead(("a", "b"), further))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_cells": (3, 3)}, "profiles"),
        ({"n_cells": (3, 3, 0)}, "positive integers"),
        ({"sources": (1,)}, "strings"),
        ({"profiles": np.full((3, 16), np.inf, dtype=np.float32)}, "profiles"),
        ({"profiles": np.full((3, 16), -1, dtype=np.float32)}, "negative"),
        ({"profiles": np.ones((3, 16))}, "float64"),
        ({"distances": np.full((3, 2), np.nan, dtype=np.float32)}, "distances"),
    ],
)
def test_inconsistent_homes_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny.label_head.home, **changes)


def test_a_home_of_other_labels_or_genes_is_refused(tiny):
    head, home = tiny.label_head, tiny.label_head.home
    fewer = dataclasses.replace(home, n_cells=(1, 1), profiles=home.profiles[:2], distances=home.distances[:2])
    with pytest.raises(ValueError, match=r"has 3 labels, and .* described for 2;"):
        dataclasses.replace(head, home=fewer)
    narrow = dataclasses.replace(head, home=dataclasses.replace(home, profiles=home.profiles[:, :9]))
    with pytest.raises(ValueError, match="profiles of 9 genes, and the network has 16;"):
        dataclasses.replace(tiny, label_head=narrow)


def test_what_a_head_knows(tiny):
    assert tiny.label_head.describe() == (
        "B cell (30 cells); T cell (20 cells); Zelle, groß (10 cells), of: blood; Leber"
    )
    assert dataclasses.replace(tiny.label_head, home=None).describe() == "B cell; T cell; Zelle, groß"
    np.testing.assert_array_equal(np.flatnonzero(~tiny.label_head.home.measured), [4])
