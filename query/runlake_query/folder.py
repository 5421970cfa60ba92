"""The query process's own folder: one process at a time, and where its files are."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from runlake import lockfile
from runlake.errors import AlreadyRunning


class Folder:
    """Owns `path` until `close`. Everything in it is disposable. Raises AlreadyRunning, OSError."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.model = path / "model.duckdb"
        self.damaged = path / "model.damaged.duckdb"
        """Where a read model goes that could not be used; the last one is kept for a look."""
        self.rebuild_mark = path / "rebuild"
        """Left behind when the read model was found damaged while in use: the next start builds it anew."""
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise AlreadyRunning(
                f"Another query process uses {path}. Stop it, or give this one its own folder (--read-model)."
            ) from None
        self.killed_before = lockfile.claim(self._lock)
        """The process that had it before and was killed, or lost its power; 0: none."""
        for leftover in path.glob("catalog-*"):
            leftover.unlink(missing_ok=True)
        for leftover in path.glob("*.tmp"):  # what DuckDBs had spilled
            shutil.rmtree(leftover, ignore_errors=True)

    def catalog_copy(self, number: int) -> Path:
        """Where the copy of the catalog with this number goes."""
        return self.path / f"catalog-{number}.sqlite"

    def close(self) -> None:
        lockfile.release(self._lock)
        os.close(self._lock)
