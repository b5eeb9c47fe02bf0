"""Optional packages: whether they are there, and how to get them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTRAS = {"lightning-fabric": "train"}
"""Packages, by the name under which they are installed, that an extra of this package brings."""


def is_installed(name: str) -> bool:
    """Tell whether a package is there, without importing it.

    The package of this name counts, as in `pip install`: both magic-impute and python-magic are imported as `magic`.
    Where no package of this name is installed, it is taken for the name of a module.
    """
    try:
        distribution(name)
    except PackageNotFoundError:
        return find_spec(name) is not None
    return True


def how_to_install(names: Iterable[str]) -> str:
    """Say how to install packages: by the extras that bring them, where there are any."""
    names = list(names)
    extras = sorted({EXTRAS[name] for name in names if name in EXTRAS})
    others = [name for name in names if name not in EXTRAS]
    ways = [f'`pip install "scanpy_sct[{",".join(extras)}]"`'] if extras else []
    return " and ".join(ways + ([f"install {', '.join(others)}"] if others else []))
