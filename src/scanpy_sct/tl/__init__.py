"""Tools: impute, embed and annotate cells."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanpy_sct.tl._annotate import annotate
    from scanpy_sct.tl._embed import embed
    from scanpy_sct.tl._impute import impute

__all__ = ["annotate", "embed", "impute"]


def __getattr__(name: str) -> Any:
    # Imported when first used: annotation needs much of scikit-learn, which takes time and memory.
    if name in __all__:
        return getattr(import_module(f"scanpy_sct.tl._{name}"), name)
    msg = f"module 'scanpy_sct.tl' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
