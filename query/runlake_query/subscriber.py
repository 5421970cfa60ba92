"""One connection of a stream, and what it has yet to be sent. On the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum
from uuid import UUID

from runlake_query.positions import Positions
from runlake_query.streambatch import Selection
from runlake_query.streamframes import Frame

MAX_PENDING_BYTES = 1024 * 1024
"""When more than this waits for a subscriber and more comes, it is too slow."""


class Drop(Enum):
    """Why the server ends a stream."""

    SLOW = "slow"
    STOPPING = "stopping"


class Subscriber:
    """`wake` is set when there is something to do: to send, to read what was missed, or to end.

    Until `start` it holds what comes: what it has missed before goes first, and nothing goes twice.
    """

    def __init__(self, selection: Selection, at: Positions) -> None:
        self.selection = selection
        self.at: Mapping[UUID, int] = at
        """What is at or before these positions has been sent, or is not wanted."""
        self.wake = asyncio.Event()
        self.missed = False
        """Something was committed that was read without this one in mind: it has to read it by itself."""
        self.gone = False
        """The other side has closed the connection."""
        self.dropped: Drop | None = None
        self.reason = ""
        """Why it is dropped, for those who are."""
        self.on_drop: Callable[[], object] = _nothing
        self.queued = 0
        """Bytes that wait."""
        self.sent = 0
        """Frames that were queued for it or written to it."""
        self.coalesced = 0
        """Frames of which it is told the number instead."""
        self._held: list[Frame] | None = []
        self._pending: list[bytes] = []

    @property
    def holds(self) -> bool:
        return self._held is not None

    def start(self, at: Positions) -> None:
        """What is at or before these positions has been sent; what was held after them is next. When more was missed
        meanwhile, that is: it goes on holding what comes, which may be the same."""
        self.at = dict(at)
        if self.missed:
            return
        held, self._held = self._held, None
        self.queued = sum(map(len, self._pending))
        if held:
            self.give(held, b"".join(item.data for item in held), first_positions(held))

    def hold(self) -> None:
        """Something was missed: what comes from now on waits until `start`."""
        self.missed = True
        if self._held is None:
            self._held = []
        self.wake.set()

    def give(self, frames: list[Frame], text: bytes, first: Mapping[UUID, int]) -> None:
        """Queue frames, without those that have been sent. `text` is all of them, `first` the least of each worker."""
        if self.dropped:
            return
        if self.queued > MAX_PENDING_BYTES:
            self.drop(Drop.SLOW, f"too slow: more than {MAX_PENDING_BYTES:,} bytes were waiting")
            return
        if self._held is not None:
            self._held += frames
            self.queued += len(text)
            return
        if self.has_some_of(first):
            frames = [f for f in frames if f.worker is None or f.seq > self.at.get(f.worker, 0)]
            if not frames:
                return
            text = b"".join(f.data for f in frames)
        self._pending.append(text)
        self.sent += len(frames)
        self.queued += len(text)
        self.wake.set()

    def has_some_of(self, first: Mapping[UUID, int]) -> bool:
        """Whether some of the frames from these positions on are not for this one."""
        return any(seq <= self.at.get(worker, 0) for worker, seq in first.items())

    def take(self) -> bytes:
        """All that waits to be written."""
        self.wake.clear()
        text = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        if self._held is None:
            self.queued = 0
        return text

    def drop(self, kind: Drop, reason: str) -> None:
        """End it with a reason; what waited is not sent any more."""
        if self.dropped is None:
            self.dropped, self.reason = kind, reason
        self._held = None
        self._pending.clear()
        self.queued = 0
        self.wake.set()
        self.on_drop()

    def leave(self) -> None:
        """The other side has gone."""
        self.gone = True
        self.wake.set()


def _nothing() -> None:
    pass


def first_positions(frames: list[Frame]) -> dict[UUID, int]:
    """The least position of each worker: what `Subscriber.give` wants to know, once for all who are given them."""
    found: dict[UUID, int] = {}
    for item in frames:
        if item.worker is not None:
            found[item.worker] = min(item.seq, found.get(item.worker, item.seq))
    return found
