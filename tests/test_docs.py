from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PARTS = ("pp", "tl", "pl", "get", "datasets", "models", "train", "evaluate")


@pytest.fixture(scope="module")
def listed() -> set[str]:
    """Names in the tables of the API page."""
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    return set(re.findall(r"^   (\w+(?:\.\w+)*)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("part", PARTS)
def test_every_public_name_is_on_the_api_page(listed, part):
    public = importlib.import_module(f"scanpy_sct.{part}").__all__
    assert sorted(f"{part}.{name}" for name in public if f"{part}.{name}" not in listed) == []


def test_every_name_on_the_api_page_is_public(listed):
    gone = []
    for name in sorted(listed):
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(f"scanpy_sct.{module}".rstrip("."))
        if attribute not in getattr(found, "__all__", [attribute]) or not hasattr(found, attribute):
            gone.append(name)
    assert gone == []
