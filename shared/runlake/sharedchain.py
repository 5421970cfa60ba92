"""A chain of stretches that is read in several places at once: once for each worker that its messages go to.

Nobody's reading takes anything out. What is read is sorted by the messages' homes, and kept a while, so that readers
that are at the same place, as they nearly always are, share the work. A stretch is let go of when everybody is past it
and all that was read from it is settled: so a worker that is away holds the room of what was emitted meanwhile, though
not the messages of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from runlake import wire
from runlake.homes import Homes
from runlake.spoolsegment import Segment
from runlake.stretch import Stretch

PIECE_BYTES = wire.MAX_BATCH_BYTES - 3
"""A piece fits a batch, also when all of it has one home."""
_KEPT_PIECES = 8


class Cursor(NamedTuple):
    """A place in the chain."""

    stretch: Stretch
    position: int


class Part(Struct):
    """The messages of one home in a piece. `position`: where the first of them is."""

    position: int
    messages: list[bytes] = []
    size: int = 0


class SortedPiece(Struct):
    """What was read at one place, by the place of its home in the list of workers. `after`: where to read on."""

    stretch: Stretch
    after: Cursor
    parts: dict[int, Part]


class SharedChain:
    """`oldest`: the first stretch of which something is not settled; `settled`: the position up to which all is. One
    thread uses it."""

    def __init__(self, oldest: Stretch, settled: int, homes: Homes, on_discard: Callable[[Stretch], object]) -> None:
        self.given_up_to = oldest.base
        """What was read before this position is in no file any more: its stretch was given up."""
        self.lost = 0
        """Records that could not be read."""
        self._oldest = oldest
        self._settled = max(settled, oldest.base)
        self._homes = homes
        self._on_discard = on_discard
        self._known: dict[int, SortedPiece] = {}
        self._counted_to = oldest.base
        oldest.share()
        self._discard_settled()

    @property
    def start(self) -> Cursor:
        """Where everything before is settled."""
        return Cursor(self._oldest, max(self._settled, self._oldest.base))

    def sort_by(self, homes: Homes) -> None:
        """From now on messages have their homes by another list."""
        self._homes = homes
        self._known = {}

    def forget(self) -> None:
        """Keep nothing of what was read."""
        self._known = {}

    def read(self, cursor: Cursor) -> SortedPiece | None:
        """What is at a place, or None when nothing is there yet."""
        cursor = self.passing(cursor)
        stretch, position = cursor
        known = self._known.get(position)
        if known is not None:
            return known
        piece = stretch.read(position, wire.MAX_BATCH_MESSAGES, PIECE_BYTES)
        if piece.skipped and piece.position > self._counted_to:
            self._counted_to = piece.position
            self.lost += piece.skipped
        if not piece.messages:
            return self.read(Cursor(stretch, piece.position)) if piece.position > position else None
        parts: dict[int, Part] = {}
        place_of = self._homes.of_encoded
        at = piece.position - sum(map(stretch.room_of, piece.messages))
        for message in piece.messages:
            place = place_of(message)
            part = parts.get(place)
            if part is None:
                part = parts[place] = Part(at)
            part.messages.append(message)
            part.size += len(message)
            at += stretch.room_of(message)
        if len(self._known) >= _KEPT_PIECES:
            del self._known[next(iter(self._known))]
        found = self._known[position] = SortedPiece(stretch, Cursor(stretch, piece.position), parts)
        return found

    def passing(self, cursor: Cursor) -> Cursor:
        """The same place, or, where a stretch is over, the beginning of the next."""
        stretch, position = cursor
        while stretch.sealed and not stretch.holds(position) and (following := stretch.next) is not None:
            following.share()
            stretch, position = following, following.base
        return Cursor(stretch, position)

    def holds(self, cursor: Cursor) -> bool:
        """Whether there is anything to read, whosever it is."""
        stretch, position = self.passing(cursor)
        return stretch.holds(position)

    def fills_a_batch(self, cursor: Cursor) -> bool:
        """Whether so much waits that it need not wait for more."""
        stretch, position = self.passing(cursor)
        return stretch.fills_a_batch(position) or (stretch.sealed and stretch.holds(position))

    def walk(self, cursor: Cursor, until: int | None = None) -> Iterator[tuple[int, int]]:
        """Where each message is from a place on, up to `until`, and the place of its home. Nothing of it is kept."""
        place_of = self._homes.of_encoded
        while True:
            stretch, position = cursor = self.passing(cursor)
            if until is not None and position >= until:
                return
            piece = stretch.read(position, wire.MAX_BATCH_MESSAGES, PIECE_BYTES)
            at = piece.position - sum(map(stretch.room_of, piece.messages))
            for message in piece.messages:
                if until is not None and at >= until:
                    return
                yield at, place_of(message)
                at += stretch.room_of(message)
            if piece.position == position:
                return
            cursor = Cursor(stretch, piece.position)

    def volatile_from(self, cursors: Sequence[Cursor]) -> int:
        """How many messages are in no file, from the cursor of each home on."""
        found = 0
        for stretch in self._stretches():
            if stretch.volatile:
                for position, place in self.walk(Cursor(stretch, stretch.base), stretch.limit):
                    found += position >= cursors[place].position
        return found

    def end(self, cursor: Cursor) -> Cursor:
        """The place after the last message; the search begins at `cursor`."""
        while True:
            stretch, position = cursor = self.passing(cursor)
            piece = stretch.read(position, 10_000, 1 << 20)
            if piece.position == position:
                return cursor
            cursor = Cursor(stretch, piece.position)

    def settle(self, position: int) -> None:
        """Everything before `position` is acknowledged, or given up."""
        if position <= self._settled:
            return
        self._settled = position
        self._discard_settled()
        if position > self._oldest.base:
            self._oldest.settle(position)

    @property
    def may_give_up(self) -> Stretch | None:
        """The oldest stretch, unless it is the last."""
        return self._oldest if self._oldest.sealed and self._oldest.next is not None else None

    def give_up_oldest(self) -> None:
        """Let go of it, whatever is still in it."""
        self.given_up_to = self._oldest.limit
        self._discard_oldest()

    def finish(self) -> None:
        """Everything is settled, and nothing more comes: let go of all."""
        for stretch in list(self._stretches()):
            self._discard(stretch)

    def leave(self, settled: int, end: Cursor, everything: bool) -> None:
        """Nothing more is read: let go of what is settled, and give back the room behind the last message, which is at
        `end`. A stretch that is not sealed is somebody's who emits even now: it is left as it is."""
        last = end.stretch
        if everything and last.sealed:
            self.finish()
            return
        self.settle(last.base if everything else settled)
        if last.sealed and isinstance(last, Segment):
            if end.position <= last.base:
                self._discard(last)
            else:
                last.shorten(end.position)

    def let_go(self) -> None:
        """Leave all that it holds to others. Called in a forked child."""
        for stretch in self._stretches():
            stretch.let_go()

    def _stretches(self) -> Iterator[Stretch]:
        stretch: Stretch | None = self._oldest
        while stretch is not None:
            yield stretch
            stretch = stretch.next

    def _discard_settled(self) -> None:
        while self._oldest.limit <= self._settled and self._oldest.next is not None:
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        oldest = self._oldest
        following = oldest.next
        if following is not None:
            following.share()
            self._oldest = following
        self._discard(oldest)

    def _discard(self, stretch: Stretch) -> None:
        stretch.discard()
        self._on_discard(stretch)
