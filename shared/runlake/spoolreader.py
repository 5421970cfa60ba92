"""The sender's place in a chain of stretches: what to send next, under which number, and what is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from runlake.spoolsegment import Segment
from runlake.stretch import Stretch


class Taken(NamedTuple):
    """Messages that belong together in one batch. `first` is the producer's number of the first of them; `position` is
    where they begin; `volatile`: they are in no file."""

    messages: list[bytes]
    first: int
    position: int
    volatile: bool


class Reader:
    """Reads a chain in order, and lets go of the stretches that are settled. One thread uses it."""

    def __init__(self, start: Stretch, number: int, on_discard: Callable[[Stretch], object]) -> None:
        self.number = start.begin(number)
        """The number that the next message gets."""
        self.position = start.base
        self.lost = 0
        """Messages that could not be read, or were given up; each has its number."""
        self._stretch = start
        self._passed: deque[Stretch] = deque()
        self._on_discard = on_discard
        self.given_up_to = start.base
        """What was read before this position is in no file any more: its stretch was given up."""
        self._settled = start.base

    @property
    def pending(self) -> bool:
        """Whether there is anything to read."""
        self._advance()
        return self._stretch.holds(self.position)

    @property
    def fills_a_batch(self) -> bool:
        """Whether so much waits that a batch need not wait for more."""
        self._advance()
        stretch, position = self._stretch, self.position
        return stretch.fills_a_batch(position) or (stretch.sealed and stretch.holds(position))

    def take(self, max_messages: int, max_bytes: int) -> Taken | None:
        """The next messages, or None when there are none now."""
        while True:
            stretch, sealed = self._stretch, self._stretch.sealed
            piece = stretch.read(self.position, max_messages, max_bytes)
            self.number += piece.skipped
            self.lost += piece.skipped
            start, self.position = self.position, piece.position
            if piece.messages:
                first = self.number
                self.number += len(piece.messages)
                return Taken(piece.messages, first, start, stretch.volatile)
            if not (sealed and self._move_on()):
                return None

    def settle(self, position: int) -> None:
        """Everything before `position` is acknowledged or given up."""
        if position == self._settled:
            return
        self._settled = position
        while self._passed and self._passed[0].limit <= position:
            self._discard(self._passed.popleft())
        oldest = self._passed[0] if self._passed else self._stretch
        if position > oldest.base:
            oldest.settle(position)

    def give_up_oldest(self) -> int:
        """Let go of the oldest stretch, unless it is the last. Returns how many messages nobody has read from it; those
        that were read go on to the worker, but no longer outlive the process."""
        if self._passed:
            self.given_up_to = self._passed[0].limit
            self._discard(self._passed.popleft())
            return 0
        stretch = self._stretch
        if not stretch.sealed or stretch.next is None:
            return 0
        count = 0
        while messages := (piece := stretch.read(self.position, 10_000, 1 << 20)).messages:
            self.position = piece.position
            count += len(messages)
        self.number += count
        self.lost += count
        self._move_on()
        self.given_up_to = stretch.limit
        self._discard(self._passed.pop())
        return count

    def let_go(self) -> None:
        """Leave all that it holds to others. Called in a forked child."""
        held: Stretch | None = self._stretch
        while held is not None:
            self._passed.append(held)
            held = held.next
        for stretch in self._passed:
            stretch.let_go()

    @property
    def oldest(self) -> Stretch:
        """The first stretch that it holds."""
        return self._passed[0] if self._passed else self._stretch

    def stretch_at(self, position: int) -> Stretch | None:
        """The one that it read a position from, unless that was let go of."""
        held = (*self._passed, self._stretch)
        return next((stretch for stretch in held if stretch.base <= position < stretch.limit), None)

    def finish(self) -> None:
        """Everything is settled, and nothing more comes: let go of all."""
        while self._passed:
            self._discard(self._passed.popleft())
        self._discard(self._stretch)

    def leave(self, settled: int, everything: bool) -> None:
        """Nothing more is read: let go of what is settled, and give back the room behind the last message. A stretch
        that is not sealed is somebody's who emits even now: it is left as it is."""
        if not everything:
            self.settle(settled)
        elif self._stretch.sealed:
            self.finish()
            return
        else:
            self.settle(self._stretch.base)
        if self._stretch.sealed and isinstance(self._stretch, Segment):
            if self.position <= self._stretch.base:
                self._discard(self._stretch)
            else:
                self._stretch.shorten(self.position)

    def _advance(self) -> None:
        """Leave a stretch that is over, so that nothing seems to wait behind its last message."""
        while self._stretch.sealed and not self._stretch.holds(self.position) and self._move_on():
            pass

    def _move_on(self) -> bool:
        following = self._stretch.next
        if following is None:
            return False
        self.number = following.begin(self.number)  # it may raise: then the reader is where it was
        self._passed.append(self._stretch)
        self._stretch = following
        self.position = following.base
        return True

    def _discard(self, stretch: Stretch) -> None:
        stretch.discard()
        self._on_discard(stretch)
