"""One call at a time for each output."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from filelock import FileLock, Timeout

FULL_DISK = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def locked(out: str | PathLike[str]) -> Iterator[None]:
    """Keep others from writing the same output meanwhile; say what to do when the disk is full.

    The operating system gives the lock back when a process ends, however it ends, so a lock file that a killed process
    has left does not stop anyone.

    Raises
    ------
    OSError
        Another process, or another thread of this one, is writing the output; its folder cannot be written; or the disk
        is full.
    """
    path = Path(out).expanduser().absolute()
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, timeout=0)
    try:
        if not path.parent.is_dir():  # which would be made
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
        lock.acquire()
    except Timeout:
        owner = _owner(file)
        msg = (
            f"out={str(path)!r} is being written by another call{owner}; wait until it has ended, or choose another "
            "path as out."
        )
        raise BlockingIOError(msg) from None
    except OSError as error:
        msg = f"out={str(path)!r} cannot be written: {error}; make its folder writable, or choose another."
        raise OSError(error.errno, msg) from error
    try:
        with _full_disk_named(path):
            file.write_text(str(os.getpid()), encoding="utf-8")
            yield
    finally:
        # Before the lock is given back, so that nobody deletes the file of the next one.
        file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # numpy raises an error without a number: "1000 requested and 12 written".
        if error.errno not in FULL_DISK and "requested and" not in str(error):
            raise
        msg = (
            f"out={str(path)!r}: the disk is full ({error}). What is complete is kept beside it; free some space and "
            "repeat the call, which goes on from there."
        )
        raise OSError(errno.ENOSPC, msg) from error


def _owner(file: Path) -> str:
    try:
        number = file.read_text(encoding="utf-8")
    except OSError:
        return ""
    return f" (process {number})" if number.isdecimal() else ""
