"""Memory of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def memory(field: str) -> float:
    """Return the memory of this process now (VmRSS) or at most (VmHWM), in MiB; at most everywhere but on Linux.

    `ru_maxrss` is at least what the parent had when it started this process, which may be more.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Let VmHWM start again from the memory that is used now."""
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")
