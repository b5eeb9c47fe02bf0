"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from scanpy_sct.settings import settings

T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Iterate with a progress bar over bags, unless ``settings.progress`` is off."""
    from tqdm.auto import tqdm

    return iter(tqdm(items, total=total, desc=f"sct {what}", unit="bag", disable=not settings.progress))
