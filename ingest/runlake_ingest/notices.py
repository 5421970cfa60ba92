"""What the other threads tell the receiver, with a descriptor that wakes its poll (eventfd(2))."""

from __future__ import annotations

import collections
import os

from msgspec import Struct

from runlake_ingest.intake import LateId
from runlake_ingest.journal import Segment
from runlake_ingest.journalthread import GroupDone


class Sealed(Struct, frozen=True):
    segment: Segment


class Flushed(Struct, frozen=True):
    """A segment is in the lake, but for messages of these ids, which the lake refused."""

    segment: Segment
    refused: frozenset[int] = frozenset()


class LookedUp(Struct, frozen=True):
    """Of each late message asked about, whether the lake holds it."""

    known: dict[LateId, bool]


class Failed(Struct, frozen=True):
    """A thread has ended, and this is why."""

    thread: str
    error: BaseException


Notice = GroupDone | Sealed | Flushed | LookedUp | Failed


class Notices:
    """`put` and `wake` from any thread and from signal handlers, `take` from one."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._queue: collections.deque[Notice] = collections.deque()

    def put(self, notice: Notice) -> None:
        self._queue.append(notice)
        self.wake()

    def wake(self) -> None:
        if self.descriptor >= 0:
            os.eventfd_write(self.descriptor, 1)

    def take(self) -> list[Notice]:
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return []
        found = []
        while self._queue:
            found.append(self._queue.popleft())
        return found

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
