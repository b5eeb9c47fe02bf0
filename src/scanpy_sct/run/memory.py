"""Give memory back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def release_memory() -> None:
    """Give back memory that arrays have freed, where the C library can do so (Linux); else do nothing.

    The library keeps what threads have freed, for each thread apart. Called between the stages of a computation, this
    lowers its peak memory: temporary arrays of one stage would else stay beside the large arrays of the next.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # other C libraries, such as musl
        return None
