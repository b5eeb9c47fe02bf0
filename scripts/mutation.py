"""Change the code of a package in small ways, one at a time, and see whether its tests notice.

    python scripts/mutation.py plan                    # all changes of src/scanpy_sct/plan, an hour
    python scripts/mutation.py read --sample 100       # a hundred of them, drawn at random
    python scripts/mutation.py plan --modules bins passes
    python scripts/mutation.py read --own              # all of them, each with the tests of its own module only

A change that makes a test fail, or time out, is killed. Those that survive are printed with their line; a survivor is
either a missing test or a change that changes nothing, such as `>` for `>=` between numbers that are never equal. With
`--own`, which is many times faster, tests of other modules may still kill a survivor. Each change is tested in a
process of its own, forked from one that has imported what the package needs (Linux and macOS).

Left alone is what does not compute a result, so that no input can show a change: seeds, the size of a cache, `strict`
of `zip` and `stacklevel` of warnings.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMPORTED = (
    *("anndata.tests.helpers", "dask.array", "distributed", "scanpy", "squidpy", "torch", "zarr", "hypothesis"),
    *("_hypothesis_pytestplugin", "pytest_cov.plugin", "pytest_timeout", "xdist.plugin"),
)
"""Imported once, before changes are made."""

OTHER = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
"""The operator that takes the place of each."""

NOT_SEEN = {"strict", "stacklevel", "maxsize", "random_state", "seed"}
"""Arguments of functions whose value does not compute a result."""
SEEDED = {"default_rng"}
"""Functions whose arguments are a seed."""


@dataclass(frozen=True)
class Change:
    """One change of a module."""

    module: str
    line: int
    what: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}: {self.what}"


def changes_of(path: Path) -> Iterator[Change]:
    """Yield all changes of a module."""
    source = path.read_text(encoding="utf-8")
    n_places = len(list(places(ast.parse(source))))
    for number in range(n_places):
        tree = ast.parse(source)
        node, change, what = list(places(tree))[number]
        before = ast.unparse(node)
        change()
        ast.fix_missing_locations(tree)
        after = f"not ({before})" if what == "condition" else ast.unparse(node)
        yield Change(path.stem, node.lineno, f"{what}: {before} -> {after}".replace("\n", " ")[:150], tree)


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, Callable[[], None], str]]:
    """Yield each node that can be changed, a function that changes it, and the kind of the change."""
    for node in computing_nodes(tree):
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                yield node, lambda n=node, i=index, o=operator: n.ops.__setitem__(i, OTHER[type(o)]()), "comparison"
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OTHER:
            yield node, lambda n=node: setattr(n, "op", OTHER[type(n.op)]()), "operator"
        elif isinstance(node, ast.UnaryOp):
            # `+` does nothing, but for `not`, which becomes a test of truth.
            other = ast.UAdd() if not isinstance(node.op, ast.Not) else None
            yield node, lambda n=node, o=other: without_operator(n, o), "sign"
        elif isinstance(node, ast.If | ast.IfExp):
            yield node.test, lambda n=node: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test)), "condition"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, lambda n=node: setattr(n, "value", not n.value), "constant"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, lambda n=node: setattr(n, "value", n.value + 1), "constant"


def without_operator(node: ast.UnaryOp, operator: ast.unaryop | None) -> None:
    if operator is None:
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    else:
        node.op = operator


def computing_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below ``node`` that compute something: no types, messages, texts, decorators or seeds."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not computes_nothing(child):
                yield child
                yield from computing_nodes(child)


def computes_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).split(".")[-1] in SEEDED
    return isinstance(node, ast.JoinedStr | ast.Raise) or (isinstance(node, ast.keyword) and node.arg in NOT_SEEN)


class ChangedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the changed module instead of the one on disk."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname, path=None, target=None):
        """Find the changed module, and no other."""
        if fullname == self.name:
            return importlib.util.spec_from_file_location(fullname, self.path, loader=self)
        return None

    def exec_module(self, module) -> None:
        """Run the changed code."""
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def unchanged(path: Path) -> Change:
    """Return a module as it is: its tests must pass."""
    return Change(path.stem, 1, "nothing", ast.parse(path.read_text(encoding="utf-8")))


def is_killed(change: Change, package: str, tests: list[str], seconds: int) -> bool:
    """Run the tests on a change in a forked process."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        signal.alarm(seconds)
        path = ROOT / "src" / "scanpy_sct" / package / f"{change.module}.py"
        sys.meta_path.insert(0, ChangedModule(f"scanpy_sct.{package}.{change.module}", path, change.tree))
        options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--timeout=0", "--assert=plain"]
        status = pytest.main([*options, *tests])
        os._exit(int(status != 0))
    return os.waitpid(child, 0)[1] != 0


def tests_of(package: str, module: str, only_own: bool) -> list[str]:
    """Return the tests of a module, its own first; all of the package, too, if it has none of its own."""
    folder = ROOT / "tests" / package
    own = folder / f"test_{module}.py"
    if only_own and own.exists():
        return [str(own)]
    return [str(path) for path in sorted(folder.glob("test_*.py"), key=lambda path: path != own)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", help="part of scanpy_sct, such as plan")
    parser.add_argument("--modules", nargs="+", help="modules of the package; by default all")
    parser.add_argument("--sample", type=int, help="number of changes, drawn at random; by default all")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other changes")
    parser.add_argument("--own", action="store_true", help="run only the tests of the changed module")
    parser.add_argument("--seconds", type=int, default=300, help="time limit of the tests of one change")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # otherwise each process looks through all that is imported
    folder = ROOT / "src" / "scanpy_sct" / options.package
    modules = options.modules or [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    changes = [change for module in modules for change in changes_of(folder / f"{module}.py")]
    if options.sample is not None and options.sample < len(changes):
        drawn = random.Random(options.seed).sample(range(len(changes)), options.sample)
        changes = [changes[number] for number in sorted(drawn)]
    first = unchanged(folder / f"{modules[0]}.py")
    if is_killed(first, options.package, tests_of(options.package, first.module, options.own), options.seconds):
        sys.exit(f"The tests of {options.package}/ fail without any change, or take more than {options.seconds} s.")
    survivors, start = [], time.monotonic()
    for number, change in enumerate(changes, 1):
        tests = tests_of(options.package, change.module, options.own)
        if not is_killed(change, options.package, tests, options.seconds):
            survivors.append(change)
            print(f"survived: {change}", flush=True)
        if number % 20 == 0:
            print(f"{number} of {len(changes)}, {time.monotonic() - start:.0f} s", flush=True)
    killed = len(changes) - len(survivors)
    print(f"{killed} of {len(changes)} changes of {options.package}/ killed ({killed / max(len(changes), 1):.0%})")


if __name__ == "__main__":
    main()
