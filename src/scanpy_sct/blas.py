"""Matrix products of NumPy and SciPy in a single thread."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def single_threaded_products() -> AbstractContextManager[Any]:
    """Return a context in which a matrix product uses a single thread; everything is as before afterwards."""
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  so that its library is found, too

    # Looking for libraries takes 5 to 10 ms, longer than what is computed in many of these contexts.
    return ThreadpoolController().select(user_api="blas")
