from __future__ import annotations

import logging
import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import numpy as np
import pytest

import scanpy_sct as sct
from scanpy_sct.evaluate import registry
from scanpy_sct.evaluate.registry import Method, choose, find_method, method, methods, metric

ABSENT = "package:no_such_package"


@pytest.fixture(autouse=True)
def empty(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def nothing(observed):
    return np.zeros(observed.n_targets)


def has(*met):
    return lambda need: need in met


def test_methods_are_found_by_name_in_the_order_they_came():
    assert method("second")(nothing) is nothing
    method("first", needs=["checkpoint"])(nothing)
    assert methods() == methods("imputation") == ("second", "first")
    assert find_method("first") == Method("imputation", "first", nothing, ("checkpoint",))


def test_each_task_has_its_own_methods():
    for task in ("imputation", "embedding", "annotation"):
        method("mine", task=task, needs="checkpoint")(nothing)
    method("vectors", task="embedding")(nothing)
    assert methods("embedding") == ("mine", "vectors")
    assert methods("annotation") == ("mine",)
    assert find_method("mine", "annotation").kind == "annotation"
    with pytest.raises(ValueError, match="`methods` must be some of mine, or functions; found 'vectors'"):
        find_method("vectors", "annotation")
    with pytest.raises(ValueError, match="task='clustering' must be one of 'imputation', 'embedding', 'annotation'"):
        method("mine", task="clustering")


def test_a_function_may_have_several_metrics():
    metric("one", "two", needs="labels")(nothing)
    metric("three")(nothing)
    assert [each.name for each in choose("embedding metric", "all", has("labels"))] == ["one", "two", "three"]
    assert [each.name for each in choose("embedding metric", "all", has())] == ["three"]
    with pytest.raises(ValueError, match=r"'two' of `metrics` needs labels: name the column .*`labels_key=`, or leave"):
        choose("embedding metric", "two", has())
    with pytest.raises(ValueError, match="'two' is already registered"):
        metric("four", "two")


def test_a_name_is_taken_once():
    method("mine")(nothing)
    with pytest.raises(ValueError, match="'mine' is already registered"):
        method("mine")
    method("mine", needs="coordinates", replace=True)(nothing)
    assert find_method("mine").needs == ("coordinates",)


def test_functions_have_their_registered_or_their_own_name():
    assert find_method(nothing).name == "nothing"
    method("zero", needs=["labels"])(nothing)
    assert find_method(nothing) is find_method("zero")
    method("nothing")(lambda observed: None)
    method("zero", replace=True)(lambda observed: None)
    with pytest.raises(ValueError, match="the name of another method, 'nothing'; rename it"):
        find_method(nothing)


def test_methods_that_one_call_knows():
    stored = {"X_umap": Method("embedding", "X_umap", nothing)}
    method("pca", task="embedding")(nothing)
    assert choose("embedding", ["X_umap", "pca"], has(), more=stored)[0] is stored["X_umap"]
    with pytest.raises(ValueError, match="some of X_umap, pca, or functions; found 'umap'"):
        choose("embedding", "umap", has(), more=stored)


def test_all_are_those_that_can(caplog):
    method("simple")(nothing)
    method("labels", needs=["labels"])(nothing)
    method("both", needs=["labels", "coordinates"])(nothing)
    method("numpy", needs=["package:numpy"])(nothing)
    method("exotic", needs=[ABSENT])(nothing)
    with caplog.at_level(logging.INFO):
        found = choose("imputation", "all", has("labels"))
    assert [each.name for each in found] == ["simple", "labels", "numpy"]
    assert "both is left out: it needs coordinates" in caplog.text
    assert "exotic is left out: it needs package:no_such_package" in caplog.text


@pytest.mark.parametrize(
    ("requested", "error", "words"),
    [
        ("unknown", ValueError, "simple, labels.*'unknown'"),
        ([], ValueError, "found none"),
        (["simple", "simple"], ValueError, "different"),
        ([3], TypeError, "int"),
        (["simple", "labels"], ValueError, "'labels'.*labels_key"),
        ("model", ValueError, "'model'.*`model=`"),
        ("place", ValueError, r"'place'.*obsm\['spatial'\]"),
        ("exotic", ImportError, "no_such_package: `pip install no_such_package`, or leave it out"),
    ],
)
def test_user_errors(requested, error, words, monkeypatch):
    monkeypatch.setattr(registry, "distribution", none_of_that_name)
    method("simple")(nothing)
    method("labels", needs=["labels"])(nothing)
    method("model", needs=["checkpoint"])(nothing)
    method("place", needs=["coordinates"])(nothing)
    method("exotic", needs=[ABSENT])(nothing)
    with pytest.raises(error, match=words):
        choose("imputation", requested, has())


def none_of_that_name(name):
    raise PackageNotFoundError(name)


def test_a_module_of_another_package_does_not_count(monkeypatch):
    """python-magic is imported as `magic`, as magic-impute is."""
    monkeypatch.setitem(sys.modules, "magic", ModuleType("magic"))
    each = Method("imputation", "magic", nothing, ("package:numpy", "package:magic"))
    assert each.missing(has()) == ["package:magic"]


def test_needs_that_nothing_can_meet_are_an_error():
    with pytest.raises(ValueError, match=r"'oracle'.*luck"):
        method("oracle", needs=["luck"])


def test_the_package_offers_the_registry():
    assert sct.evaluate.method is method
    assert sct.evaluate.methods is methods
    assert sct.evaluate.metric is metric
