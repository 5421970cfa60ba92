"""Who copies the lake's files holds them: meanwhile maintenance merges, and deletes none."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runlake.lake.place import LakePlace

_NAME = ".hold"


@contextmanager
def hold_files(storage: Path) -> Iterator[None]:
    """As long as the block runs no file below `storage` is deleted. Waits for a deletion at work. Raises OSError."""
    lock = _open(storage)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def may_delete(place: LakePlace) -> Iterator[bool]:
    """Whether files of a lake may be deleted as long as the block runs: not while somebody holds them. Nobody holds
    those in object storage."""
    if place.storage_folder is None:
        yield True
        return
    lock = _open(place.storage_folder)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def _open(storage: Path) -> int:
    return os.open(storage / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
