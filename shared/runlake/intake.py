"""The door of an emitter, which any thread and any signal handler may use without a lock.

A message is counted, and appended to the last stretch of a chain (`stretch.py`): a segment of the spool, or, without a
spool, a bounded queue in memory. What does not fit is refused and counted. A new segment is made ahead of need by the
sender; a caller that finds none makes it. When the disk does not take one, a queue in memory follows instead, and the
disk is tried again every `RETRY_S`.

Only calls that CPython runs as one step are used: nothing here can wait for another thread, and nothing is lost when a
signal handler emits in the middle of an emit.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from runlake.notices import Notices
from runlake.spoolfolder import SpoolFolder, SpoolFull
from runlake.spoolsegment import Segment
from runlake.stretch import MemoryStretch, QueueFull, Sealed, Start, Stretch
from runlake.tally import Tally
from runlake.wire import MAX_MESSAGE_BYTES

QUEUE_FULL = "queue_full"
SPOOL_FULL = "spool_full"
DISPLACED = "displaced"
TOO_LARGE = "too_large"
NOT_ENCODABLE = "not_encodable"
NOT_A_MESSAGE = "not_a_message"
CLOSED = "closed"
UNDELIVERED = "undelivered"
FAILED = "failed"
REASONS = (
    QUEUE_FULL, SPOOL_FULL, DISPLACED, TOO_LARGE, NOT_ENCODABLE, NOT_A_MESSAGE, CLOSED, UNDELIVERED, FAILED,
)  # fmt: skip
"""Why a message was dropped."""
REFUSED_REASONS = frozenset(REASONS) - {DISPLACED, UNDELIVERED}
"""Those for which it was never taken."""
RETRY_S = 30.0


class Intake:
    """Takes encoded messages from any thread. `start` is the sealed first stretch of the chain, in which nothing ever
    is; `queue_messages` and `queue_bytes` bound what is kept in memory."""

    def __init__(
        self, start: Stretch, queue_messages: int, queue_bytes: int, spool: SpoolFolder | None, notices: Notices
    ) -> None:
        self.emitted = Tally()
        """Everything that was handed to `emit`, dropped or not."""
        self.dropped = {reason: Tally() for reason in REASONS}
        self.in_memory = Tally()
        """Messages that were taken, but into memory alone."""
        self.described = Tally()
        """Values that MessagePack cannot hold and that were replaced by a description."""
        self.closed = False
        self.spool = spool
        self._queue_messages = queue_messages
        self._queue_bytes = queue_bytes
        self._notices = notices
        self._last: Stretch = start
        self._retry_at = 0.0
        self._full = False

    def put(self, raw: bytes) -> bool:
        """Take one encoded message, or drop and count it. True when it was taken."""
        if self.closed:
            return self.drop(CLOSED)
        if len(raw) > MAX_MESSAGE_BYTES:
            return self.drop(TOO_LARGE)
        last = self._last
        try:
            last.append(raw)
        except Sealed:
            return self._put_further(raw)
        except QueueFull:
            return self.drop(QUEUE_FULL)
        if last.volatile:
            self.in_memory.add()
        return True

    @property
    def end(self) -> int:
        """The position after all that was taken so far, or beyond it."""
        last = self._last
        while last.sealed and last.next is not None:  # a slow thread may have put `_last` back to an earlier one
            last = last.next
        return last.end

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever taken."""
        return isinstance(self._last, Start)

    def prepare(self, measure: Callable[[], object] = lambda: None) -> None:
        """Have the next segment ready before it is needed, and go back to the disk when it may work again. Called by
        the sender, now and then. `measure` is called before a segment is made: it finds out what others have."""
        last = self._last
        if last.next is not None or self.spool is None or self.closed:
            return
        if isinstance(last, Segment):
            if last.is_half_full() and not self._full:
                measure()
                self._full = self._make_segment(last, 0) is None
        elif last.volatile and monotonic() >= self._retry_at:
            measure()
            made = self._make_segment(last, 0)
            if isinstance(made, Segment):
                self._go_on(last, made)

    @property
    def wants_room(self) -> bool:
        """Whether the spool is full, and nothing follows its last segment."""
        return self._full and self._last.next is None

    def room_was_made(self) -> None:
        """The spool may have room again."""
        self._full = False

    def begin_anew(self) -> None:
        """Go on in a new segment, though the spool is full: everything in it is acknowledged, and its room is free as
        soon as there is another one. Called by the sender."""
        last = self._last
        if self.spool is not None and isinstance(last, Segment):
            self.spool.forget(last)
            self._full = self._make_segment(last, 0) is None

    def seal(self) -> None:
        """Close the last stretch, and the one that was made ahead: who comes later begins another one."""
        last: Stretch | None = self._last
        while last is not None:
            last.seal()
            last = last.next

    def drop(self, reason: str) -> bool:
        """Count a message as dropped. Returns False."""
        self.dropped[reason].add()
        return False

    def _put_further(self, raw: bytes) -> bool:
        while True:
            if self.closed:
                return self.drop(CLOSED)
            last = self._last
            following = last.next
            if following is None:
                if self._full:
                    return self.drop(SPOOL_FULL)
                following = self._make_segment(last, len(raw))
                if following is None:
                    self._full = True
                    return self.drop(SPOOL_FULL)
            self._go_on(last, following)
            try:
                following.append(raw)
            except Sealed:
                continue
            except QueueFull:
                return self.drop(QUEUE_FULL)
            if following.volatile:
                self.in_memory.add()
            return True

    def _go_on(self, last: Stretch, following: Stretch) -> None:
        last.seal()
        self._last = following

    def _make_segment(self, last: Stretch, message_bytes: int) -> Stretch | None:
        """What follows `last`, made if nobody else has made it; None when the spool may not grow."""
        if self.spool is None:
            return last.link(self._memory(last))
        try:
            made: Stretch = self.spool.make(last.limit, message_bytes)
        except SpoolFull:
            return last.next
        except Exception as error:  # noqa: BLE001 (whatever the disk has, memory is left)
            self._retry_at = monotonic() + RETRY_S
            if last.volatile:
                return None
            self._notices.say("spool", f"RunLake's spool cannot be written, so messages are kept in memory: {error}")
            made = self._memory(last)
        found = last.link(made)
        if found is not made:
            made.discard()
            if isinstance(made, Segment):
                self.spool.forget(made)
        return found

    def _memory(self, last: Stretch) -> MemoryStretch:
        return MemoryStretch(last.limit, self._queue_messages, self._queue_bytes)
