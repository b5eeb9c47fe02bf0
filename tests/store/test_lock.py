"""One call at a time for each output."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scanpy_sct.store import locked

HOLDER = """
import sys
from scanpy_sct.store import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(out) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_call_is_refused_and_told_who_writes(tmp_path):
    with locked(tmp_path / "cells.zarr"):
        with (
            pytest.raises(BlockingIOError, match=rf"by another call \(process {os.getpid()}\)"),
            locked(tmp_path / "cells.zarr"),
        ):
            pass
        with locked(tmp_path / "other.zarr"):
            pass
    with locked(tmp_path / "cells.zarr"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_lock_is_kept_from_other_processes_and_ends_with_a_kill(tmp_path):
    holder = hold(tmp_path / "cells.zarr")
    with pytest.raises(BlockingIOError, match=f"process {holder.pid}"), locked(tmp_path / "cells.zarr"):
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".cells.zarr.lock").exists()
    with locked(tmp_path / "cells.zarr"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "cells.zarr"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"cells\.zarr' cannot be written"), locked(tmp_path / "no" / "cells.zarr"):
        pass
