"""The number of the process that holds a lock file, in the file itself: what is found there at the start is of one that
did not end by itself."""

from __future__ import annotations

import os
from contextlib import suppress


def claim(lock: int) -> int:
    """Write our number into the file, durably; `lock` is its descriptor, and we hold the lock. Returns the number of
    the process before, if it was killed or lost its power, else 0. Where that cannot be written it goes untold."""
    before = read(lock)
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode("ascii"), 0)
        os.fsync(lock)
    return before


def read(lock: int) -> int:
    """Whose number the file holds; 0 when it holds none."""
    try:
        return int(os.pread(lock, 32, 0))
    except (OSError, ValueError):
        return 0


def release(lock: int) -> None:
    """We end by ourselves: take the number away."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.fsync(lock)
