"""The messages of one producer on their way: read from where they wait, kept in the books until they are settled."""

from __future__ import annotations

from runlake import wire
from runlake.outbox import Outbox, SealedBatch
from runlake.spoolreader import Reader

_ARRAY_HEAD_BYTES = 3


class Stream:
    """A reader and its outbox. One thread uses it."""

    def __init__(self, producer: str, reader: Reader, first_batch: int = 1) -> None:
        self.reader = reader
        self.outbox = Outbox(producer, first_batch)

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits, and nothing is on its way."""
        return self.outbox.settled_through == self.outbox.sealed and not self.reader.pending

    @property
    def settled(self) -> int:
        """The position up to which everything is settled."""
        unsettled_from = self.outbox.unsettled_from
        return self.reader.position if unsettled_from is None else unsettled_from

    def next_batch(self) -> SealedBatch | None:
        """The batch to send next, formed now if there is none; None when nothing waits."""
        waiting = self.outbox.next_waiting()
        if waiting is not None:
            return waiting
        taken = self.reader.take(wire.MAX_BATCH_MESSAGES, wire.MAX_BATCH_BYTES - _ARRAY_HEAD_BYTES)
        if taken is None:
            return None
        self.outbox.seal(taken.messages, first=taken.first, position=taken.position, volatile=taken.volatile)
        return self.outbox.next_waiting()

    def settle(self, number: int) -> SealedBatch | None:
        """Take a batch out of the books, and trim what it came from. None when it is not in flight."""
        batch = self.outbox.settle(number)
        if batch is not None:
            self.trim()
        return batch

    def trim(self) -> None:
        """Let go of what is settled."""
        self.reader.settle(self.settled)
