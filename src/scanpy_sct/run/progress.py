"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from scanpy_sct.settings import settings

T = TypeVar("T")

_is_quiet = ContextVar("is_quiet", default=False)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Iterate with a progress bar over bags, unless ``settings.progress`` is off."""
    from tqdm.auto import tqdm

    return iter(tqdm(items, total=total, desc=f"sct {what}", unit="bag", disable=_is_off()))


@contextmanager
def cell_progress(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar over cells; gives the function that is called with the number of cells that were done."""
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=f"sct {what}", unit="cell", disable=_is_off()) as bar:
        yield bar.update


def block_progress(items: Iterable[T], n_cells: Callable[[T], int], total: int, what: str) -> Iterator[T]:
    """Iterate over results of blocks with a progress bar over their cells, instead of bars within each block."""
    with cell_progress(total, what) as advance:
        iterator = iter(items)
        while True:
            with quiet():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            advance(n_cells(item))
            yield item


@contextmanager
def quiet() -> Iterator[None]:
    """Show no progress bars, such as those of a worker."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def _is_off() -> bool:
    return _is_quiet.get() or not settings.progress
