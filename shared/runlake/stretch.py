"""Where an emitter's messages wait: a chain of stretches, each a segment of the spool or a queue in memory.

A position is a number that grows along the whole chain: a stretch covers those from `base` to `limit`. Messages are
appended to the last stretch by any thread and any signal handler, without a lock; the sender's thread alone reads.
A stretch that is full, or that its successor takes over from, is sealed first: from then on it takes nothing, so
that who comes late goes on to the next, and the order of each thread's messages is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from runlake.wire import MAX_BATCH_MESSAGES

UNIT_BYTES = 1_024
_MEMORY_POSITIONS = 2**48
"""More than are ever emitted."""


class Sealed(ValueError):  # noqa: N818 (named by what it says)
    """The stretch takes no more; its successor does."""


class QueueFull(Exception):  # noqa: N818
    """There is no room for the message, and no successor to go to."""


class Piece(NamedTuple):
    """What was read from a stretch: messages, the position after them, and how many damaged ones came before them."""

    messages: list[bytes]
    position: int
    skipped: int = 0


class Stretch(ABC):
    """A part of the chain. `volatile`: what is in it does not outlive the process."""

    volatile = False

    def __init__(self, base: int, limit: int) -> None:
        self.base = base
        self.limit = limit
        self.sealed = False
        self._next: dict[str, Stretch] = {}  # one entry; a dict for its atomic `setdefault`

    @property
    def next(self) -> Stretch | None:
        """The successor, if there is one yet."""
        return self._next.get("")

    def link(self, successor: Stretch) -> Stretch:
        """Make `successor` the next, unless another one is already; returns the one that is."""
        return self._next.setdefault("", successor)

    @abstractmethod
    def append(self, message: bytes) -> None:
        """Take one message. Raises Sealed, or QueueFull."""

    @abstractmethod
    def seal(self) -> None:
        """Take nothing more. Called when there is a successor, or at the end."""

    @property
    @abstractmethod
    def end(self) -> int:
        """The position after the last message, for those who want to wait for it."""

    @abstractmethod
    def read(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        """The messages from `position` on, at least one if there is one."""

    @abstractmethod
    def holds(self, position: int) -> bool:
        """Whether there is a message at `position`, or after it."""

    @abstractmethod
    def fills_a_batch(self, position: int) -> bool:
        """Whether there is about a batch's worth of messages from `position` on."""

    def begin(self, number: int) -> int:
        """The reader gets here, with `number` the next one. Returns the number of the first message here."""
        return number

    def share(self) -> None:  # noqa: B027
        """From now on it is read in several places: reading takes nothing out, and numbers nothing."""

    def rest(self) -> None:  # noqa: B027
        """Nobody reads here for now."""

    @abstractmethod
    def room_of(self, message: bytes) -> int:
        """How many positions a message takes."""

    def settle(self, position: int) -> None:  # noqa: B027 (nothing to do in memory)
        """Everything before `position` is acknowledged."""

    def discard(self) -> None:  # noqa: B027
        """Everything here is settled, or given up."""

    def let_go(self) -> None:  # noqa: B027
        """Leave what is in it to others. Called in a forked child."""


class Start(Stretch):
    """Where a chain begins: sealed, and empty."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.sealed = True

    def append(self, message: bytes) -> None:
        raise Sealed

    def seal(self) -> None:
        return

    @property
    def end(self) -> int:
        return self.limit

    def read(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        return Piece([], position)

    def holds(self, position: int) -> bool:
        return False

    def fills_a_batch(self, position: int) -> bool:
        return False

    def room_of(self, message: bytes) -> int:
        return 1


class MemoryStretch(Stretch):
    """A bounded queue: `max_messages`, and `max_bytes` of what messages have beyond their first KiB, in whole KiB.

    Reading takes messages out. Once it is shared, only settling does."""

    volatile = True

    def __init__(self, base: int, max_messages: int, max_bytes: int) -> None:
        super().__init__(base, base + _MEMORY_POSITIONS)
        self._queue: deque[bytes | None] = deque()
        self._max_messages = max_messages
        self._units = deque(repeat(None, max_bytes // UNIT_BYTES))
        self._owed = 0
        self._taken = 0
        self._shared = False

    def append(self, message: bytes) -> None:
        if self.sealed:
            raise Sealed
        if len(self._queue) >= self._max_messages or not self._take(len(message) // UNIT_BYTES):
            raise QueueFull
        self._queue.append(message)
        if self.sealed:
            try:
                self._queue.remove(message)  # the reader may have left already
            except ValueError:
                return  # it has taken it
            raise Sealed

    def seal(self) -> None:
        self.sealed = True

    @property
    def end(self) -> int:
        return self.base + self._taken + len(self._queue)

    def read(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        if self._shared:
            return self._look(position, max_messages, max_bytes)
        messages: list[bytes] = []
        size = 0
        while self._queue and len(messages) < max_messages:
            message = self._queue[0] or b""
            size += len(message)
            if messages and size > max_bytes:
                break
            self._taken += 1  # before it leaves: who asks for the end in between must not miss it
            self._queue.popleft()
            messages.append(message)
            if len(message) >= UNIT_BYTES:
                self._units.extend(repeat(None, len(message) // UNIT_BYTES))
        return Piece(messages, self.base + self._taken)

    def holds(self, position: int) -> bool:
        return self._waiting(position) > 0

    def fills_a_batch(self, position: int) -> bool:
        return self._waiting(position) >= MAX_BATCH_MESSAGES

    def room_of(self, message: bytes) -> int:
        return 1

    def share(self) -> None:
        self._shared = True

    def put_back(self, position: int, messages: Sequence[bytes]) -> None:
        """Take back what was read from `position` on. Called by the reader, once it is shared, the latest first; what
        was read behind that and is not put back is settled, and leaves a hole."""
        hole = self.base + self._taken - position - len(messages)
        for message in (*repeat(None, hole), *reversed(messages)):
            size = len(message or b"") // UNIT_BYTES
            if size and not self._take(size):
                self._owed += size
            self._queue.appendleft(message)
            self._taken -= 1

    def settle(self, position: int) -> None:
        if self._shared:
            while self._queue and self.base + self._taken < position:
                self._take_out()

    def _look(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        """Read as a file is read; up to a hole, and past those at the beginning."""
        queue, at = self._queue, max(position - self.base - self._taken, 0)
        messages: list[bytes] = []
        size = 0
        while at < len(queue) and len(messages) < max_messages:
            message = queue[at]
            if message is not None:
                size += len(message)
                if messages and size > max_bytes:
                    break
                messages.append(message)
            elif messages:
                break
            at += 1
        return Piece(messages, max(position, self.base + self._taken + at))

    def _waiting(self, position: int) -> int:
        queued = len(self._queue)
        return queued + self.base + self._taken - position if self._shared else queued

    def _take_out(self) -> None:
        self._taken += 1  # before it leaves, as above
        units = len(self._queue.popleft() or b"") // UNIT_BYTES
        if units:
            owed = min(units, self._owed)
            self._owed -= owed
            self._units.extend(repeat(None, units - owed))

    def _take(self, units: int) -> bool:
        for taken in range(units):
            try:
                self._units.pop()
            except IndexError:
                self._units.extend(repeat(None, taken))
                return False
        return True
