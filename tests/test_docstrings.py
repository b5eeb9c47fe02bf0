"""The examples in the docstrings of the public interface run, on a few cells."""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
from collections.abc import Iterator

import pytest

import scanpy_sct as sct

MODULES = ("pp", "tl", "pl", "get", "datasets", "models", "checkpoints", "train", "evaluate", "settings")
CELL_STEP = 10
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Checker(doctest.OutputChecker):
    """Compares the output of a line only where the example shows one."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def examples() -> Iterator[doctest.DocTest]:
    """Examples of all public functions and classes."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    seen = set()
    for part in MODULES:
        module = importlib.import_module(f"scanpy_sct.{part}")
        for name in getattr(module, "__all__", ["Settings"]):
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)) or thing in seen:
                continue
            seen.add(thing)
            yield from (test for test in finder.find(thing, f"{part}.{name}", globs={}) if test.examples)


@pytest.fixture
def few_cells(monkeypatch, pbmc):
    """The data of most examples, but fewer cells; and no more settings than before."""
    monkeypatch.setattr(sct.datasets, "pbmc68k", lambda: pbmc[::CELL_STEP].copy())
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.mark.filterwarnings("default:::scanpy_sct")
@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in examples()])
def test_the_example_runs(example, few_cells):
    output = io.StringIO()
    failed, _ = doctest.DocTestRunner(checker=Checker(), optionflags=FLAGS).run(example, out=output.write)
    assert not failed, output.getvalue()


def test_examples_are_found():
    names = {test.name for test in examples()}
    assert {"tl.impute", "tl.embed", "tl.annotate", "pp.check", "get.imputed", "pl.imputed"} <= names
