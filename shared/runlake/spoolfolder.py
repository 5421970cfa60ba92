"""The folder of one process's spool, which it owns as long as it lives.

    <spool>/<producer>/owner     locked (flock) by the owner, for as long as it may append
    <spool>/<producer>/<ticket>.seg

The lock says whose spool it is, not a process id, which another process may have by now. It belongs to the open file,
which a forked child shares: the child closes it first thing, or its parent's spool would look owned after the parent
is gone. A folder is made under another name and renamed when it is locked, so that nobody finds it unowned.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from runlake.spoolformat import HEADER_BYTES, RECORD_HEAD_BYTES, SegmentHead
from runlake.spoolsegment import Segment

OWNER = "owner"
SUFFIX = ".seg"
FIRST_SEGMENT_BYTES = 256 * 1024
SEGMENT_BYTES = 4 * 1024 * 1024
_PAGE_BYTES = 4_096
_OWN_SEGMENTS = 2
"""So many may each process have, whatever others have: one to fill and one to deliver. Else what some old spool holds
could keep everybody from being recorded."""


class SpoolFull(Exception):  # noqa: N818 (named by what it says)
    """The spool has the size that it may have."""


class Home(NamedTuple):
    """A folder that this process owns, and the descriptor of its lock."""

    folder: Path
    lock: int


class SpoolFolder:
    """Makes the segments of one producer, up to `max_bytes` of them. Any thread may call it."""

    def __init__(self, root: Path, producer: str, endpoint: str, max_bytes: int) -> None:
        self.first = 1
        """The number of the next message when there is no segment."""
        self.others_bytes = 0
        """What other spools in `root` take of `max_bytes`; kept up to date by the sender."""
        self._root = root
        self._producer = producer
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._tickets = count(1)
        self._sizes: dict[Path, int] = {}
        self._home: dict[str, Home] = {}  # one entry; a dict for its atomic `setdefault`

    @property
    def folder(self) -> Path | None:
        """Where the segments are, once there are any."""
        home = self._home.get("")
        return home.folder if home else None

    def make(self, base: int, message_bytes: int) -> Segment:
        """A new segment that has room for a message of this size. Raises OSError, and SpoolFull."""
        room = HEADER_BYTES + RECORD_HEAD_BYTES + message_bytes
        ticket = next(self._tickets)
        doubled = min(FIRST_SEGMENT_BYTES << min(ticket - 1, 8), SEGMENT_BYTES, self._max_bytes // 4)
        size = _in_pages(max(doubled, room))
        used = self.used_bytes
        if used + self.others_bytes + size > self._max_bytes:
            size = _in_pages(max(min(FIRST_SEGMENT_BYTES, doubled), room))
            if len(self._sizes) >= _OWN_SEGMENTS or used + size > self._max_bytes:
                raise SpoolFull
        head = SegmentHead(producer=self._producer, endpoint=self._endpoint, ticket=ticket)
        first = 0 if self._sizes else self.first
        home = self._open()
        try:
            segment = Segment(home.folder / f"{ticket:012d}{SUFFIX}", head, base, size, first)
        except FileNotFoundError:  # somebody deleted the folder: the next one is another
            self._forsake(home)
            segment = Segment(self._open().folder / f"{ticket:012d}{SUFFIX}", head, base, size, first)
        self._sizes[segment.path] = size
        return segment

    @property
    def used_bytes(self) -> int:
        """What the segments of this process take."""
        return sum(list(self._sizes.values()))

    def forget(self, segment: Segment) -> None:
        """Its room is free again."""
        self._sizes.pop(segment.path, None)

    def detach(self) -> Home | None:
        """Begin to give up the folder that is in use, if any, for `release`: a `make` from now on opens another one."""
        self._sizes.clear()
        return self._home.pop("", None)

    def release(self, home: Home | None) -> None:
        """Unlock a folder, and remove it when nothing is left in it."""
        if home is not None:
            remove(home.folder)
            os.close(home.lock)

    def abandon(self) -> None:
        """Let go of the parent's lock. Called in a forked child, which never had any of it."""
        for home in self._home.values():
            with suppress(OSError):
                os.close(home.lock)
        self._home = {}

    def _forsake(self, home: Home) -> None:
        """Use a folder no more that is gone."""
        if self._home.get("") is home and self._home.pop("", None) is home:
            os.close(home.lock)

    def _open(self) -> Home:
        home = self._home.get("")
        if home is not None:
            return home
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{self._producer.replace('/', '-')[-100:]}-{os.urandom(4).hex()}"
        hidden = self._root / f".{name}"
        hidden.mkdir(mode=0o700)
        try:
            descriptor = os.open(hidden / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            hidden.rmdir()
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self._root / name)
        except OSError:
            os.close(descriptor)
            remove(hidden)
            raise
        made = Home(self._root / name, descriptor)
        home = self._home.setdefault("", made)
        if home is not made:  # another thread, or a signal handler, was quicker
            self.release(made)
        return home


def _in_pages(size: int) -> int:
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def remove(folder: Path) -> None:
    """Remove a spool's folder when nothing is in it."""
    with suppress(OSError):
        if any(path.name != OWNER for path in folder.iterdir()):
            return
        (folder / OWNER).unlink(missing_ok=True)
        folder.rmdir()
