"""`adata.sct`: the functions for an AnnData as its methods."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import MethodType
from typing import Any, overload

from anndata import AnnData, register_anndata_namespace


class _Function:
    """A function of the package as a method; it is imported when it is used."""

    def __init__(self, part: str, name: str) -> None:
        self.part, self.name = part, name

    @overload
    def __get__(self, accessor: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, accessor: SctAccessor, owner: type) -> MethodType: ...

    def __get__(self, accessor: SctAccessor | None, owner: type) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(f"scanpy_sct.{self.part}"), self.name)
        # A method of the object itself, so that help() shows the signature without `adata`, and the documentation.
        return function if accessor is None else MethodType(function, accessor._adata)


class SctAccessor:
    """What `adata.sct` offers: `adata.sct.impute(...)` is `scanpy_sct.tl.impute(adata, ...)`."""

    check = _Function("pp", "check")
    impute = _Function("tl", "impute")
    embed = _Function("tl", "embed")
    annotate = _Function("tl", "annotate")
    imputed = _Function("get", "imputed")

    def __init__(self, adata: AnnData) -> None:
        self._adata = adata


# Another package may have taken the name.
if not hasattr(AnnData, "sct"):
    register_anndata_namespace("sct")(SctAccessor)
