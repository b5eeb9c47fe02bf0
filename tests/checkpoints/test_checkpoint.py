"""A checkpoint that does not fit together is never made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest


def test_describe_states_the_main_facts(tiny):
    text = dataclasses.replace(tiny, sha256="f00").describe()
    for fact in (
        "tiny",
        "48,559",
        "3 on 16",
        "quantiles",
        "coded as zero",
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
    for fact in ("'tiny'", "genes: 3", "48,559", "path: full", "3 types", "BSD-3-Clause"):
        assert fact in text
    assert "label head: none" in repr(dataclasses.replace(tiny, label_head=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genes": np.full(15, "", dtype="<U15")}, r"genes \(shape \(15,\)\)"),
        ({"genes": np.full(16, "ENSG00000075624")}, "more than one position.*ENSG00000075624"),
        ({"mask_fraction": 0.0}, "mask_fraction"),
        ({"temperature": float("nan")}, "temperature"),
        ({"embedding": "mean"}, "embedding"),
    ],
)
def test_inconsistent_checkpoints_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny, **changes)


def test_configuration_of_another_network_is_refused(tiny):
    with pytest.raises(ValueError, match="config"):
        dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, num_layers=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "weight"),
        ({"labels": ("a", "a", "b")}, "different"),
        ({"bias": np.zeros(2, dtype=np.float32)}, "bias"),
        ({"bias": np.zeros(3)}, "float64"),
        ({"feature_mean": np.full(32, np.nan, dtype=np.float32)}, "feature_mean"),
        ({"feature_scale": np.zeros(32, dtype=np.float32)}, "positive"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_inconsistent_label_heads_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny.label_head, **changes)
