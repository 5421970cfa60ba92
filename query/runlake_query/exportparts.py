"""The way of an export's parts from the thread that writes them to the client that takes them.

Each part is sent while the next ones are written. A client that keeps up has two or three parts on the disk. For one
that does not, they wait there, so that its pace holds neither the thread nor the read model's transaction; up to half
of what was free on the disk: then the thread waits for the client after all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import duckdb

from runlake_query.exportwriter import Part
from runlake_query.problems import Problem
from runlake_query.reader import GivenUp

_LOOK_EVERY_S = 0.25
_NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


class NoRoom(Problem):
    """The disk is full, or half of what was free is taken by one export."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "The disk of the query process has no room for this export. Ask for less, in another format (CSV and NDJSON"
            " need the least), or make room in the folder of its read model.",
            headers={"Retry-After": "60"},
        )


def no_room(error: duckdb.Error | OSError) -> bool:
    """Whether it says that a disk is full."""
    return any(reason in str(error) for reason in _NO_ROOM)


class Parts:
    """Made on the event loop. `free`: how many bytes the disk has left; any thread may call it."""

    def __init__(self, free: Callable[[], int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._free = free
        self._coming: asyncio.Queue[Part | None] = asyncio.Queue()
        self._news = threading.Condition()
        self._unsent = 0
        self._abandoned = False

    # On the thread that writes.

    def put(self, part: Part) -> None:
        """Hand over a part, and wait until the next one may be written. Raises GivenUp when nobody takes parts any
        more."""
        with self._news:
            if self._abandoned:
                part.path.unlink(missing_ok=True)
                raise GivenUp
            self._unsent += part.bytes
            self._loop.call_soon_threadsafe(self._coming.put_nowait, part)
            while self._unsent and self._unsent > self._free():
                self._news.wait(_LOOK_EVERY_S)
                if self._abandoned:
                    raise GivenUp

    # On the event loop.

    def ended(self, writing: asyncio.Future[Any]) -> None:
        """No more come; the callback of what writes them."""
        self._coming.put_nowait(None)

    async def take(self, writing: asyncio.Future[Any]) -> Part | None:
        """The next part; None after the last one. Raises what ended the writing before that."""
        part = await self._coming.get()
        if part is None:
            writing.result()
        return part

    def sent(self, part: Part) -> None:
        """The part is gone from the disk."""
        with self._news:
            self._unsent -= part.bytes
            self._news.notify()

    def abandon(self) -> None:
        """Nobody takes parts any more. Those that were put are removed."""
        with self._news:
            self._abandoned = True
            self._news.notify()
        while not self._coming.empty():
            part = self._coming.get_nowait()
            if part is not None:
                part.path.unlink(missing_ok=True)
