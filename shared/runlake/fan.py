"""Delivery to several workers: each message to its home, over the streams of one chain.

Each stream numbers what it sends 1, 2, 3 … for its worker, under a producer id that is used for one version of the list
of workers alone: a worker takes nothing that was sent by another version than its own, so what it takes of these
numbers has no gap. When the list changes, all streams begin anew where the chain is settled, by the new list and under
a new id; what a worker has had already it finds to be duplicate. What a spool holds whose process is gone is sent in
the same way, under an id of its deliverer's (`adoption.py`).
"""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from runlake import wire
from runlake.homes import Homes
from runlake.outbox import Outbox, SealedBatch
from runlake.sharedchain import PIECE_BYTES, Cursor, SharedChain
from runlake.stretch import Stretch

_PIECES_AT_ONCE = 64
"""So much is read in one go to find a batch: thousands of messages, tens of milliseconds."""


class Plan(Struct, frozen=True):
    """By which list messages are sent. `members` is empty for one worker that stands alone: all goes to it."""

    version: int
    members: tuple[wire.Member, ...]

    @property
    def workers(self) -> tuple[UUID, ...]:
        return tuple(member.worker for member in self.members)

    @property
    def is_alone(self) -> bool:
        return not self.members


ALONE = Plan(0, ())


class HomeStream:
    """What of a chain goes to one worker."""

    def __init__(self, fan: Fan, place: int, outbox: Outbox) -> None:
        self.outbox = outbox
        self.cursor: Cursor = fan.chain.start
        self._fan = fan
        self._place = place

    @property
    def pending(self) -> bool:
        return self._fan.chain.holds(self.cursor)

    @property
    def fills_a_batch(self) -> bool:
        return self._fan.chain.fills_a_batch(self.cursor)

    @property
    def is_settled(self) -> bool:
        return self.outbox.settled_through == self.outbox.sealed and not self.pending

    @property
    def settled(self) -> int:
        unsettled_from = self.outbox.unsettled_from
        return self.cursor.position if unsettled_from is None else unsettled_from

    def next_batch(self) -> SealedBatch | None:
        """As `Stream.next_batch`; None also when there was much to read, and nothing of this worker's in it."""
        waiting = self.outbox.next_waiting()
        if waiting is not None:
            return waiting
        chain, before = self._fan.chain, self.cursor.stretch
        messages: list[bytes] = []
        size = position = 0
        stretch: Stretch = before
        for _ in range(_PIECES_AT_ONCE):
            piece = chain.read(self.cursor)
            if piece is None:
                self.cursor = chain.passing(self.cursor)
                break
            part = piece.parts.get(self._place)
            if part is not None:
                if not messages:
                    position, stretch = part.position, piece.stretch
                elif (
                    stretch is not piece.stretch
                    or size + part.size > PIECE_BYTES
                    or len(messages) + len(part.messages) > wire.MAX_BATCH_MESSAGES
                ):
                    break
                messages += part.messages
                size += part.size
            self.cursor = piece.after
        if before is not self.cursor.stretch:
            self._fan.left(before)
        if not messages:
            return None
        self.outbox.seal(messages, position=position, volatile=stretch.volatile)
        return self.outbox.next_waiting()

    def look_ahead(self) -> None:
        """While the worker is away: find out where its next message is, so that what comes before can be let go of."""
        if self.outbox.unsettled_from is None:
            self.next_batch()


class Fan:
    """A `Delivery` to the workers of a plan, under a producer id that is used for nothing else."""

    def __init__(self, chain: SharedChain, producer: str, plan: Plan, first_batch: int = 1) -> None:
        self.chain = chain
        self.streams = self._new_streams(producer, plan, first_batch)

    @property
    def is_settled(self) -> bool:
        return all(stream.is_settled for stream in self.streams)

    @property
    def settled(self) -> int:
        return min(stream.settled for stream in self.streams)

    @property
    def next_number(self) -> int:
        return 0

    @property
    def lost(self) -> int:
        return self.chain.lost

    def begin_anew(self, producer: str, plan: Plan, homes: Homes) -> int:
        """Go on where everything is settled, by another list. Returns how many messages that were on their way are in
        no file any more, since their stretch was given up."""
        gone = self.chain.given_up_to
        batches = [batch for stream in self.streams for batch in stream.outbox.unsettled_batches]
        self.chain.sort_by(homes)
        self.streams = self._new_streams(producer, plan)
        return sum(batch.count for batch in batches if not batch.volatile and batch.position < gone)

    def trim(self) -> None:
        self.chain.settle(self.settled)

    def rest(self) -> None:
        """Nobody reads for now: keep nothing in memory that is in a file."""
        self.chain.forget()
        for stream in self.streams:
            stream.cursor.stretch.rest()

    def left(self, stretch: Stretch) -> None:
        """A stream has read a stretch to its end."""
        if all(stream.cursor.stretch is not stretch for stream in self.streams):
            stretch.rest()

    def give_up_oldest(self) -> int:
        oldest = self.chain.may_give_up
        if oldest is None or oldest.next is None:
            return 0
        given_up = 0
        behind = [stream.cursor.position for stream in self.streams]
        for position, place in self.chain.walk(Cursor(oldest, min(behind)), oldest.limit):
            given_up += position >= behind[place]
        following = Cursor(oldest.next, oldest.next.base)
        for stream in self.streams:
            if stream.cursor.position < following.position:
                stream.cursor = following
        self.chain.give_up_oldest()
        self.trim()
        return given_up

    def acknowledged_ahead(self) -> int:
        self.trim()
        read_to = [stream.cursor.position for stream in self.streams]
        ahead = -sum(stream.outbox.unsettled for stream in self.streams)
        for position, place in self.chain.walk(self.chain.start, max(read_to)):
            ahead += position < read_to[place]
        return max(0, ahead)

    def count_rest(self) -> tuple[int, int]:
        for stream in self.streams:
            while stream.outbox.unsettled_from is None and stream.pending:
                stream.next_batch()
        volatile = sum(stream.outbox.unsettled_volatile(self.chain.given_up_to) for stream in self.streams)
        left = sum(stream.outbox.unsettled for stream in self.streams) - volatile
        return volatile + self.chain.volatile_from([stream.cursor for stream in self.streams]), left

    def leave(self, settled: int, everything: bool) -> None:
        furthest = max((stream.cursor for stream in self.streams), key=lambda cursor: cursor.position)
        self.chain.leave(settled, self.chain.end(furthest), everything)

    def finish(self) -> None:
        self.chain.finish()

    def let_go(self) -> None:
        self.chain.let_go()

    def _new_streams(self, producer: str, plan: Plan, first_batch: int = 1) -> tuple[HomeStream, ...]:
        places = range(max(1, len(plan.members)))
        return tuple(HomeStream(self, place, Outbox(producer, first_batch, plan.version)) for place in places)
