"""The flow goes one way: AnnData -> read -> plan -> fit / apply (model) -> write -> AnnData.

Every import statement of the package is looked up in the source, also those inside functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "scanpy_sct"

INNER = {
    "settings",
    "linear_algebra",
    "storable",
    "sparse_tools",
    "model",
    "read",
    "plan",
    "checkpoints",
    "run",
    "embed",
    "impute",
}
INNER |= {"annotate", "keys", "store", "write", "workflow"}
PUBLIC = {"datasets", "evaluate", "get", "models", "pl", "pp", "tl", "train"}

# What each part may import besides itself. Public functions may call each other, but not in a circle (checked below).
ALLOWED = {
    "settings": set(),
    "storable": set(),
    "files": {"read", "store"},
    "store": set(),
    "sparse_tools": set(),
    "linear_algebra": set(),
    "model": {"settings"},
    "read": {"settings", "linear_algebra", "sparse_tools"},
    "plan": {"settings", "linear_algebra", "sparse_tools"},
    "checkpoints": {"settings", "model", "read", "plan"},
    "run": {"settings", "linear_algebra", "sparse_tools", "read", "plan", "model", "checkpoints"},
    "embed": {"settings", "sparse_tools", "read", "plan", "checkpoints", "run"},
    "impute": {"settings", "sparse_tools", "read", "plan", "checkpoints", "run"},
    "annotate": {"settings", "storable", "sparse_tools", "read", "plan", "checkpoints", "run", "embed", "impute"},
    "keys": set(),
    "write": {"keys", "storable"},
    "workflow": {"read", "checkpoints", "run", "store", "storable", "write"},
    **dict.fromkeys(PUBLIC, INNER | PUBLIC),
    "accessor": set(),
    "demo": INNER | PUBLIC,
    "cli": INNER | PUBLIC | {"demo", "files"},
}
WHOLE = "the whole package"
for top in (*PUBLIC, "demo", "cli"):
    ALLOWED[top] = ALLOWED[top] | {WHOLE}
# Training reads files by their names, as the command line does.
ALLOWED["train"] = ALLOWED["train"] | {"files"}
# Names of the package itself that do not carry the name of the part they come from.
HOME = {"load_model": "checkpoints"}
# Who may know these packages at all.
ANNDATA = {"read", "store", "write", "workflow", "annotate", "accessor", "demo", "files", "cli"} | PUBLIC
TORCH = {"model", "checkpoints", "run", "train"}
KNOWN_TO = {
    "anndata": ANNDATA,
    "scanpy": ANNDATA,
    "squidpy": ANNDATA,
    "torch": TORCH,
    "lightning": TORCH,
    "lightning_fabric": TORCH,
}


def part_of(path: Path, source: Path) -> str:
    return path.relative_to(source).with_suffix("").parts[0]


def imported_modules(path: Path, source: Path) -> Iterator[str]:
    """Full dotted names of all that a file imports; `from a import b` gives `a.b`."""
    package = (source.name, *path.relative_to(source).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else ()
                base = ".".join((*base, *filter(None, [node.module])))
                yield from (f"{base}.{alias.name}" for alias in node.names)
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
                if isinstance(first, ast.Constant):
                    yield first.value


def imported_parts(path: Path, source: Path) -> set[str]:
    names = [module.split(".") for module in imported_modules(path, source)]
    # Whoever imports the package itself can reach everything, so only those may who may import everything.
    inside = {name[1] if len(name) > 1 else WHOLE for name in names if name[0] == source.name}
    return {HOME.get(name, name) for name in inside} - {part_of(path, source)}


def private_imports(source: Path) -> list[str]:
    """Find imports of a private module or name of another package of ours."""
    found = []
    for path in files(source):
        for module in imported_modules(path, source):
            root, *names = module.split(".")
            if root != source.name or not names or names[0] == part_of(path, source):
                continue
            private = [name for name in names if name.startswith("_") and not name.startswith("__")]
            if private:
                found.append(f"{path.relative_to(source).as_posix()}: {module}")
    return sorted(found)


def files(source: Path) -> list[Path]:
    return [path for path in sorted(source.rglob("*.py")) if path != source / "__init__.py"]


def flow_violations(source: Path) -> list[str]:
    found = []
    for path in files(source):
        part = part_of(path, source)
        where = path.relative_to(source).as_posix()
        if part not in ALLOWED:
            found.append(f"{where}: '{part}' has no place in the flow yet; add it to ALLOWED in {__file__}")
            continue
        for other in sorted(imported_parts(path, source) - ALLOWED[part] - {"__version__"}):
            found.append(f"{where}: '{part}' imports '{other}', which is above or beside it")
        outside = {module.split(".")[0] for module in imported_modules(path, source)}
        for package in sorted(outside & set(KNOWN_TO)):
            if part not in KNOWN_TO[package]:
                found.append(f"{where}: '{part}' must not know {package}")
    return found


def circles(source: Path) -> list[str]:
    """Parts that can be reached from themselves."""
    graph: dict[str, set[str]] = {}
    for path in files(source):
        graph.setdefault(part_of(path, source), set()).update(imported_parts(path, source))
    found = []
    for start in sorted(graph):
        reached: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            part = waiting.pop()
            if part not in reached:
                reached.add(part)
                waiting.extend(graph.get(part, ()))
        if start in reached:
            found.append(f"'{start}' imports itself by way of others")
    return found


def test_no_import_goes_against_the_flow():
    assert flow_violations(SOURCE) == []


def test_no_parts_import_each_other_in_a_circle():
    assert circles(SOURCE) == []


def test_no_package_imports_private_modules_of_another():
    assert private_imports(SOURCE) == []


def plant(folder: Path, **modules: str) -> Path:
    source = folder / "scanpy_sct"
    for name, text in modules.items():
        path = source / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize(
    "text",
    [
        "import scanpy_sct.tl",
        "from scanpy_sct import tl",
        "from scanpy_sct.tl import impute",
        "from scanpy_sct.tl.impute import impute",
        "from .. import tl",
        "from ..tl import impute",
        "def late():\n    from scanpy_sct.tl import impute",
        "from importlib import import_module\ntl = import_module('scanpy_sct.tl')",
        "from scanpy_sct import load_model",
        "import scanpy_sct as sct",
        "from scanpy_sct.plan import bins",
        "import torch.nn as nn",
        "from torch import nn",
    ],
)
def test_the_check_finds_a_planted_import(tmp_path, text):
    good = "import numpy as np\nfrom scanpy_sct import settings\nfrom scanpy_sct.read import genes\nfrom . import genes"
    assert flow_violations(plant(tmp_path, read__matrix=good)) == []
    assert len(flow_violations(plant(tmp_path, read__matrix=f"{good}\n{text}"))) == 1


def test_the_check_finds_who_must_not_know_anndata_and_who_has_no_place(tmp_path):
    source = plant(tmp_path, plan__bags="import anndata as ad", novelty="")
    assert ["must not know anndata" in line or "no place" in line for line in flow_violations(source)] == [True, True]


def test_the_check_finds_a_circle(tmp_path):
    source = plant(
        tmp_path, tl__impute="from scanpy_sct.get import imputed", get__imputed="from scanpy_sct.pl import x"
    )
    assert circles(source) == []
    plant(tmp_path, pl__a="from scanpy_sct.tl import a")
    assert len(circles(source)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "from scanpy_sct.tl._common import read",
        "from scanpy_sct.tl import _common",
        "import scanpy_sct.tl._common",
        "from ..tl._common import read",
        "from scanpy_sct.files import _check_suffix",
        "def late():\n    from scanpy_sct.tl._common import read",
    ],
)
def test_the_check_finds_a_private_import(tmp_path, text):
    assert private_imports(plant(tmp_path, pp__check="from scanpy_sct.pp._time import a\nfrom . import _time")) == []
    assert len(private_imports(plant(tmp_path, pp__check=text))) == 1
