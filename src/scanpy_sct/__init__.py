"""The single-Cell Transformer (sCT) for scanpy: impute expression, embed and annotate cells, plot them on tissue.

sCT was introduced by Joshi et al., A long range foundation model for zero-shot predictions in single-cell and spatial
transcriptomics data (2025), https://openreview.net/forum?id=VdX9tL3VXH. Please cite it when you use this package.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy: importing the submodule later would replace the object by the module.
from scanpy_sct.settings import settings

if TYPE_CHECKING:
    from scanpy_sct import checkpoints, datasets, evaluate, get, model, models, pl, pp, tl, train
    from scanpy_sct.checkpoints.registry import load_model

    __version__: str

__all__ = [
    "checkpoints",
    "datasets",
    "evaluate",
    "get",
    "load_model",
    "model",
    "models",
    "pl",
    "pp",
    "settings",
    "tl",
    "train",
]

# Imported when first used (PEP 562), so that `import scanpy_sct` does not import torch, scanpy or squidpy.
_SUBMODULES = frozenset(__all__) - {"load_model", "settings"}


def _offer_accessor() -> None:
    """Register `adata.sct` once anndata is imported, which `import scanpy_sct` alone does not do."""
    if hasattr(sys.modules.get("anndata"), "register_anndata_namespace"):
        import_module("scanpy_sct.accessor")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        part = import_module(f"scanpy_sct.{name}")
        _offer_accessor()
        return part
    if name == "load_model":
        return import_module("scanpy_sct.checkpoints.registry").load_model
    if name == "__version__":
        from importlib.metadata import version

        return version("scanpy_sct")
    msg = f"module 'scanpy_sct' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


_offer_accessor()
