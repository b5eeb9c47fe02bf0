"""Compute in several threads, each of which uses a single thread inside its operations.

NumPy, SciPy and torch release Python's lock while they compute. Dividing the work by bags, cells or genes keeps all
cores busy, where dividing each small operation does not; and results do not depend on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

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
    n_threads = torch.get_num_threads() if n_threads is None else n_threads
    if n_threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with (
        _single_threaded_operations(),
        ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
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


@contextmanager
def _single_threaded_operations() -> Iterator[None]:
    """Let matrix products use a single thread; everything is as before afterwards."""
    n_torch = torch.get_num_threads()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        # The threads of the pool have set the number for all new threads.
        torch.set_num_threads(n_torch)
