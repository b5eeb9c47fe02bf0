from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import scanpy_sct as sct
from scanpy_sct.evaluate import _packages, registry
from scanpy_sct.evaluate.registry import choose_methods, find_method, method, methods


@pytest.fixture(autouse=True)
def empty(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_methods", {})


def nothing(observed):
    return np.zeros(observed.n_wanted)


def test_methods_are_found_by_name_in_the_order_they_came():
    assert method("second")(nothing) is nothing
    method("first", needs=["checkpoint"])(nothing)
    assert methods() == ("second", "first")
    assert find_method("first") == registry.Method("first", nothing, ("checkpoint",))


def test_a_name_is_taken_once():
    method("mine")(nothing)
    with pytest.raises(ValueError, match="'mine' already"):
        method("mine")
    method("mine", needs="coordinates", replace=True)(nothing)
    assert find_method("mine").needs == ("coordinates",)


def test_functions_go_by_their_registered_or_their_own_name():
    assert find_method(nothing).name == "nothing"
    method("zero", needs=["cell_types"])(nothing)
    assert find_method(nothing) is find_method("zero")


def test_all_are_those_that_can(caplog):
    method("simple")(nothing)
    method("labels", needs=["cell_types"])(nothing)
    method("both", needs=["cell_types", "coordinates"])(nothing)
    method("numpy", needs=["package:numpy"])(nothing)
    method("exotic", needs=["package:no_such_package"])(nothing)
    with caplog.at_level(logging.INFO):
        assert [each.name for each in choose_methods("all", {"cell_types"})] == ["simple", "labels", "numpy"]
    assert "both is left out: it needs coordinates" in caplog.text
    assert "exotic is left out: it needs package:no_such_package" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ("unknown", ValueError, "simple, labels.*'unknown'"),
        ([], ValueError, "found none"),
        (["simple", "simple"], ValueError, "different"),
        ([3], TypeError, "int"),
        (["simple", "labels"], ValueError, "'labels'.*labels_key"),
        ("model", ValueError, "'model'.*`model=`"),
        ("place", ValueError, r"'place'.*obsm\['spatial'\]"),
        ("exotic", ImportError, "no_such_package: install no_such_package, or leave the method out"),
        ("graphs", ImportError, r'magic-impute: `pip install "scanpy_sct\[evaluate\]"`, or'),
        ("training", ImportError, r'lightning-fabric: `pip install "scanpy_sct\[train\]"`, or'),
    ],
)
def test_user_errors(wanted, error, words, monkeypatch):
    monkeypatch.setattr(_packages, "distribution", none_of_that_name)
    method("graphs", needs=["package:magic-impute"])(nothing)
    method("training", needs=["package:lightning-fabric"])(nothing)
    method("simple")(nothing)
    method("labels", needs=["cell_types"])(nothing)
    method("model", needs=["checkpoint"])(nothing)
    method("place", needs=["coordinates"])(nothing)
    method("exotic", needs=["package:no_such_package"])(nothing)
    with pytest.raises(error, match=words):
        choose_methods(wanted, set())


def none_of_that_name(name):
    raise PackageNotFoundError(name)


def test_another_package_of_the_same_module_is_not_taken_for_it(monkeypatch):
    """python-magic is imported as `magic`, as magic-impute is."""
    monkeypatch.setattr(_packages, "find_spec", lambda name: name == "magic" or None)
    monkeypatch.setattr(_packages, "distribution", none_of_that_name)
    assert not _packages.is_installed("magic-impute")
    assert _packages.is_installed("magic")  # asked for as a module


def test_needs_that_nothing_can_meet_are_refused():
    with pytest.raises(ValueError, match=r"'oracle'.*luck"):
        method("oracle", needs=["luck"])


def test_the_package_offers_the_registry():
    assert sct.evaluate.method is method
    assert sct.evaluate.methods is methods
