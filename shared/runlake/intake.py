"""The door of an emitter: a bounded queue that any thread and any signal handler may fill without a lock.

Bounds: `queue_messages` messages, and `queue_bytes` bytes of what messages have beyond their first KiB, counted in
whole KiB. So a queue holds at most `queue_messages` KiB + `queue_bytes`. What does not fit is refused and counted: the
oldest messages are what explains the later ones.

Only calls that CPython runs as one step are used (`deque.append`, `deque.pop`, `next`): nothing here can wait, and
nothing is lost when a signal handler emits in the middle of an emit.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from threading import Event

from runlake.tally import Tally
from runlake.wire import MAX_MESSAGE_BYTES

UNIT_BYTES = 1_024

QUEUE_FULL = "queue_full"
TOO_LARGE = "too_large"
NOT_ENCODABLE = "not_encodable"
NOT_A_MESSAGE = "not_a_message"
CLOSED = "closed"
UNDELIVERED = "undelivered"
REASONS = (QUEUE_FULL, TOO_LARGE, NOT_ENCODABLE, NOT_A_MESSAGE, CLOSED, UNDELIVERED)
"""Why a message was dropped."""


class Marker:
    """A place in the queue that somebody waits for: `done` is set when all before it is acknowledged."""

    __slots__ = ("done", "reached", "target")

    def __init__(self) -> None:
        self.done = Event()
        self.reached = False
        """Whether all before the marker was acknowledged; read it once `done` is set."""
        self.target = 0
        """How many messages are before it; set when the sender gets there."""


class Intake:
    """Takes encoded messages from any thread; the sender thread alone takes them out of `queue`."""

    def __init__(self, queue_messages: int, queue_bytes: int) -> None:
        self.queue: deque[bytes | Marker] = deque()
        self.emitted = Tally()
        """Everything that was handed to `emit`, dropped or not."""
        self.dropped = {reason: Tally() for reason in REASONS}
        self.described = Tally()
        """Values that MessagePack cannot hold and that were replaced by a description."""
        self.closed = False
        self._queue_messages = queue_messages
        self._units = deque(repeat(None, queue_bytes // UNIT_BYTES))

    def put(self, raw: bytes) -> None:
        """Queue one encoded message, or drop and count it."""
        if self.closed:
            self.dropped[CLOSED].add()
        elif len(self.queue) >= self._queue_messages:
            self.dropped[QUEUE_FULL].add()
        elif len(raw) < UNIT_BYTES:
            self.queue.append(raw)
        elif len(raw) > MAX_MESSAGE_BYTES:
            self.dropped[TOO_LARGE].add()
        elif self._take(len(raw) // UNIT_BYTES):
            self.queue.append(raw)
        else:
            self.dropped[QUEUE_FULL].add()

    def taken(self, size: int) -> None:
        """Make room again for a message of `size` bytes that left the queue."""
        if size >= UNIT_BYTES:
            self._units.extend(repeat(None, size // UNIT_BYTES))

    def _take(self, units: int) -> bool:
        for taken in range(units):
            try:
                self._units.pop()
            except IndexError:
                self._units.extend(repeat(None, taken))
                return False
        return True
