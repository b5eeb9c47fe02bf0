"""The single-Cell Transformer for scanpy: fill in missed expression, embed cells, name them, look at them on tissue."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Light, and imported at once: a later import of the submodule would otherwise put the module in the object's place.
from scanpy_sct.settings import settings

if TYPE_CHECKING:
    from scanpy_sct import datasets, evaluate, get, models, pl, pp, tl, train
    from scanpy_sct.checkpoints.registry import load_model

__all__ = ["datasets", "evaluate", "get", "load_model", "models", "pl", "pp", "settings", "tl", "train"]

# Imported when first used (PEP 562), so that `import scanpy_sct` does not wait for torch, scanpy or squidpy.
_SUBMODULES = frozenset({"datasets", "evaluate", "get", "models", "pl", "pp", "tl", "train"})


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"scanpy_sct.{name}")
    if name == "load_model":
        return import_module("scanpy_sct.checkpoints.registry").load_model
    if name == "__version__":
        from importlib.metadata import version

        return version("scanpy_sct")
    msg = f"module 'scanpy_sct' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
