"""Compute in several threads, each of which uses a single thread inside its operations.

NumPy, SciPy and torch release Python's lock while they compute. Dividing the work by bags, cells or genes keeps all
cores busy, where dividing each small operation does not; and results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from scanpy_sct.linear_algebra import single_threaded_products

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Iterable[T], n_threads: int | None = None) -> Iterator[R]:
    """Apply a function to all items, and yield the results in their order.

    Parameters
    ----------
    function, items
        Function, which must not change what other items need; and its arguments.
    n_threads
        Number of threads; None: as many as torch uses in an operation. With one the items are computed one after the
        other, in the thread of the caller.
    """
    n_threads = torch_threads() if n_threads is None else n_threads
    if n_threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with _single_threaded_operations():
        pool = _pool(n_threads)
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                # Few results wait for the caller, so that memory is bounded.
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            # What the function uses may be freed now, and the threads may be used again.
            wait(waiting)


def torch_threads() -> int:
    """Return the number of threads that torch uses in an operation."""
    import torch  # slow to import, and not needed to import this module

    return torch.get_num_threads()


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept, since libraries keep memory for each thread that ever was."""
    return ThreadPoolExecutor(n_threads, "scanpy_sct", initializer=_use_one_thread)


def _use_one_thread() -> None:
    """Let operations of torch use one thread in this thread."""
    import torch

    torch.set_num_threads(1)
    # The first call in a thread takes over the number of the process, which is this one now, and another one later.
    torch.get_num_threads()


if hasattr(os, "register_at_fork"):  # a copy of the process has no threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@contextmanager
def _single_threaded_operations() -> Iterator[None]:
    """Let matrix products use a single thread; everything is as before afterwards."""
    import torch

    n_torch = torch.get_num_threads()
    try:
        with single_threaded_products():
            yield
    finally:
        # The threads of the pool have set the number for all new threads.
        torch.set_num_threads(n_torch)
