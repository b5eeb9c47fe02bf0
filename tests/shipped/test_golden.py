"""What ships gives the results that are kept in `golden/`; `make_golden.py` says how these were made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location("make_golden", Path(__file__).with_name("make_golden.py"))
make_golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_golden)

TOLERANCE = 1e-3
SAME_LABELS = 0.97
"""Fraction of cells that keep their label: a score may lie beside the threshold."""


def both(model: str, case: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Golden results, and those of today."""
    return make_golden.read_golden(model)[case], dict(make_golden.CASES[case](model))


def check_values(golden: np.ndarray, found: np.ndarray) -> None:
    assert golden.shape == found.shape
    np.testing.assert_allclose(make_golden.as_values(found), make_golden.as_values(golden), atol=TOLERANCE, rtol=0)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a)
    np.testing.assert_array_equal(known, np.isfinite(b))
    return float(np.corrcoef(a[known], b[known])[0, 1])


@pytest.fixture(params=make_golden.MODELS)
def model(request) -> str:
    return request.param


def test_every_case_has_golden_results(model):
    assert tuple(make_golden.read_golden(model)) == tuple(make_golden.CASES)


def test_imputed_values(model):
    golden, found = both(model, "impute")
    check_values(golden["values"], found["values"])
    check_values(golden["unmeasured"], found["unmeasured"])
    assert correlation(golden["recovery"], found["recovery"]) > 0.999
    assert correlation(golden["network_fraction"], found["network_fraction"]) > 0.999
    assert np.mean(golden["bins"] == found["bins"]) > 0.999


@pytest.mark.parametrize("case", ["impute_network", "denoise"])
def test_values_of_other_options(model, case):
    golden, found = both(model, case)
    check_values(golden["values"], found["values"])


def test_embedding(model):
    golden, found = both(model, "embed")
    assert golden["vectors"].shape == found["vectors"].shape
    before, now = golden["vectors"].astype(float), found["vectors"].astype(float)
    assert (np.linalg.norm(now - before, axis=1) < 0.02 * np.linalg.norm(before, axis=1)).all()


def test_labels(model):
    golden, found = both(model, "markers")
    assert golden["names"].tolist() == found["names"].tolist()
    assert np.mean(golden["labels"] == found["labels"]) >= SAME_LABELS
    assert correlation(golden["score"], found["score"]) > 0.99
    probabilities = [make_golden.as_values(each["probabilities"]).ravel() for each in (golden, found)]
    assert correlation(*probabilities) > 0.99
