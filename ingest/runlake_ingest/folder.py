"""The worker's own folder: one process at a time, and an id that is not copied with it.

<data>/ingest/lock          held by flock while a worker runs
<data>/ingest/worker.json   the worker's id
<data>/ingest/journal/      segments
<data>/ingest/aside/        what recovery cut off or could not read, kept for people
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec

from runlake import lockfile
from runlake.errors import AlreadyRunning
from runlake.lake.durability import make_folder, sync_folder


class _Identity(msgspec.Struct, frozen=True):
    """Whose folder this is. A copied or restored file has another inode or stands on another machine, and so the folder
    that holds it takes a new id: two logs must never number under one."""

    worker: UUID
    inode: int
    machine: str


class WorkerFolder:
    """The folder of one running worker. Raises AlreadyRunning when another process has it."""

    def __init__(self, path: Path, new_id: Callable[[], UUID], machine: str | None = None) -> None:
        self.path = path
        self.journal = path / "journal"
        self.aside = path / "aside"
        for folder in (path, self.journal, self.aside):
            make_folder(folder)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = lockfile.read(self._lock)
            os.close(self._lock)
            raise AlreadyRunning(
                f"Another ingest worker{f' (process {owner})' if owner else ''} uses {path}."
                " One data folder has one worker: stop that one, or give this one a folder of its own (RUNLAKE_DATA)."
            ) from None
        try:
            self.killed_before = lockfile.claim(self._lock)
            """The process that had it before and was killed, or lost its power; 0: none."""
            self.worker = self._identity(new_id, _machine_id() if machine is None else machine)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the next worker have the folder."""
        if self._lock >= 0:
            lockfile.release(self._lock)
            os.close(self._lock)
            self._lock = -1

    def _identity(self, new_id: Callable[[], UUID], machine: str) -> UUID:
        path = self.path / "worker.json"
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_Identity)
            if stored.inode == path.stat().st_ino and stored.machine == machine:
                return stored.worker
        except (FileNotFoundError, msgspec.DecodeError):
            pass
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            identity = _Identity(new_id(), os.fstat(file.fileno()).st_ino, machine)
            file.write(msgspec.json.encode(identity))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(self.path)
        return identity.worker


def _machine_id() -> str:
    """The machine's own id as systemd and D-Bus keep it (machine-id(5)); empty where there is none."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            return path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return ""
