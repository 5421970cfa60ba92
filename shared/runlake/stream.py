"""The messages of one producer on their way to a worker: read from where they wait, kept in the books until settled."""

from __future__ import annotations

from typing import Protocol

from runlake import wire
from runlake.outbox import Outbox, SealedBatch
from runlake.spoolreader import Reader
from runlake.stretch import MemoryStretch, Stretch

_ARRAY_HEAD_BYTES = 3


class Stream(Protocol):
    """What goes to one worker. One thread uses it."""

    outbox: Outbox

    @property
    def pending(self) -> bool:
        """Whether there is anything to read."""

    @property
    def fills_a_batch(self) -> bool:
        """Whether so much waits that a batch need not wait for more."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits, and nothing is on its way."""

    @property
    def settled(self) -> int:
        """The position up to which everything is settled."""

    def next_batch(self) -> SealedBatch | None:
        """The batch to send next, formed now if there is none; None when nothing waits."""


class Delivery(Protocol):
    """A chain of messages and the streams that they go out by, one for each worker. One thread uses it."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """In the order of the list of workers."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits, and nothing is on its way."""

    @property
    def settled(self) -> int:
        """The position up to which everything is settled."""

    @property
    def next_number(self) -> int:
        """The number of the next message, for who goes on with this chain; 0 where they are not counted by it."""

    @property
    def lost(self) -> int:
        """How many records could not be read, or were given up."""

    def acknowledged_ahead(self) -> int:
        """How many messages are acknowledged behind the first that is not; who begins anew there sends them again."""

    def trim(self) -> None:
        """Let go of what is settled."""

    def give_up_oldest(self) -> int:
        """Let go of the oldest stretch, unless it is the last; returns how many messages nobody had read from it."""

    def count_rest(self) -> tuple[int, int]:
        """At the end: how many messages are undelivered and in no file, and how many are (when there are any, 1 at
        least)."""

    def leave(self, settled: int, everything: bool) -> None:
        """Nothing more is read: leave to others what is not settled, if not `everything` is."""

    def finish(self) -> None:
        """Everything is settled, and nothing more comes: let go of all."""

    def let_go(self) -> None:
        """Leave all that it holds to others. Called in a forked child."""


class Direct:
    """A `Delivery` of everything to one worker, and the `Stream` that it consists of."""

    def __init__(self, producer: str, reader: Reader, first_batch: int = 1, list_version: int | None = None) -> None:
        self.reader = reader
        self.outbox = Outbox(producer, first_batch, list_version)
        self.streams = (self,)

    @property
    def pending(self) -> bool:
        return self.reader.pending

    @property
    def fills_a_batch(self) -> bool:
        return self.reader.fills_a_batch

    @property
    def is_settled(self) -> bool:
        return self.outbox.settled_through == self.outbox.sealed and not self.reader.pending

    @property
    def settled(self) -> int:
        unsettled_from = self.outbox.unsettled_from
        return self.reader.position if unsettled_from is None else unsettled_from

    @property
    def next_number(self) -> int:
        return self.reader.number

    @property
    def lost(self) -> int:
        return self.reader.lost

    def acknowledged_ahead(self) -> int:
        unsettled = self.outbox.unsettled_batches
        return (
            unsettled[-1].first + unsettled[-1].count - unsettled[0].first - self.outbox.unsettled if unsettled else 0
        )

    def next_batch(self) -> SealedBatch | None:
        waiting = self.outbox.next_waiting()
        if waiting is not None:
            return waiting
        taken = self.reader.take(wire.MAX_BATCH_MESSAGES, wire.MAX_BATCH_BYTES - _ARRAY_HEAD_BYTES)
        if taken is None:
            return None
        self.outbox.seal(taken.messages, first=taken.first, position=taken.position, volatile=taken.volatile)
        return self.outbox.next_waiting()

    def trim(self) -> None:
        self.reader.settle(self.settled)

    def give_up_oldest(self) -> int:
        given_up = self.reader.give_up_oldest()
        self.trim()
        return given_up

    def count_rest(self) -> tuple[int, int]:
        lost = self.outbox.unsettled_volatile(self.reader.given_up_to)
        left = self.outbox.unsettled - lost
        while (taken := self.reader.take(10_000, 1 << 20)) is not None:
            if taken.volatile:
                lost += len(taken.messages)
            else:
                left += len(taken.messages)
        return lost, left

    def leave(self, settled: int, everything: bool) -> None:
        self.reader.leave(settled, everything)

    def finish(self) -> None:
        self.reader.finish()

    def let_go(self) -> None:
        self.reader.let_go()

    def give_over(self) -> tuple[Stretch, int, int]:
        """Read no more, for who takes over: the oldest stretch that is not settled, up to where it is, and how many
        messages are in no file any more since their stretch was given up. What was taken out of memory and is not
        settled is put back there."""
        oldest, settled = self.reader.oldest, self.settled
        lost = 0
        for batch in reversed(self.outbox.unsettled_batches):
            if batch.volatile:
                stretch = self.reader.stretch_at(batch.position)
                if isinstance(stretch, MemoryStretch):
                    stretch.share()
                    stretch.put_back(batch.position, wire.split_payload(batch.frames[1]))
            elif batch.position < self.reader.given_up_to:
                lost += batch.count
        return oldest, settled, lost
