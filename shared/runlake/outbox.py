"""The sender's books: batches that were formed and are not yet acknowledged, in order. No socket, no clock.

A message gets its number when its batch is formed, and both keep it: a resend is the same bytes. After a connection was
lost, `rewind` puts everything unacknowledged back in line, oldest first, so that a worker that lost the end of what it
was sent never sees a later message before an earlier one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import UNSET, Struct

from runlake import wire


class SealedBatch(Struct, frozen=True):
    """A batch as it goes out, every time."""

    number: int
    first: int
    count: int
    frames: list[bytes]
    position: int = 0
    """Where its messages begin in the chain that they came from."""
    volatile: bool = False
    """Whether they are in no file."""


class Outbox:
    """Forms batches and keeps them until they are settled. `list_version`: the header's; None says nothing."""

    def __init__(self, producer: str, first_batch: int = 1, list_version: int | None = None) -> None:
        self._producer = producer
        self._list_version = UNSET if list_version is None else list_version
        self._next_batch = first_batch
        self._next_message = 1
        self._waiting: deque[SealedBatch] = deque()
        self._in_flight: dict[int, SealedBatch] = {}  # by number, ascending; all older than those waiting

    @property
    def in_flight(self) -> int:
        """How many batches are sent and not settled."""
        return len(self._in_flight)

    @property
    def sealed(self) -> int:
        """The number of the last message that is in a batch; 0 before the first."""
        return self._next_message - 1

    @property
    def sealed_batch(self) -> int:
        """The number of the last batch that was formed."""
        return self._next_batch - 1

    @property
    def settled_through(self) -> int:
        """The highest number up to which every message is settled."""
        for batch in self._in_flight.values():
            return batch.first - 1
        return self._waiting[0].first - 1 if self._waiting else self.sealed

    @property
    def unsettled(self) -> int:
        """How many messages are in batches that are not settled."""
        return sum(batch.count for batch in self.unsettled_batches)

    @property
    def unsettled_batches(self) -> list[SealedBatch]:
        """Those, in order."""
        return [*self._in_flight.values(), *self._waiting]

    def unsettled_volatile(self, given_up_to: int) -> int:
        """How many of those are in no file: they never were, or their place before `given_up_to` is gone."""
        batches = self.unsettled_batches
        return sum(batch.count for batch in batches if batch.volatile or batch.position < given_up_to)

    @property
    def unsettled_from(self) -> int | None:
        """Where in their chain the messages begin that are in batches and not settled; None when there are none."""
        for batch in self._in_flight.values():
            return batch.position
        return self._waiting[0].position if self._waiting else None

    def seal(
        self,
        messages: Sequence[bytes],
        searched: Mapping[str, int] | None = None,
        *,
        first: int | None = None,
        position: int = 0,
        volatile: bool = False,
        received_at: datetime | None = None,
    ) -> None:
        """Form a batch of encoded messages; it waits to be sent. `searched` and `received_at` are the header's; `first`
        the number of the first message, by default the next."""
        header = wire.Batch(
            producer=self._producer,
            batch=self._next_batch,
            first=first or self._next_message,
            count=len(messages),
            searched=UNSET if searched is None else dict(searched),
            received_at=UNSET if received_at is None else received_at,
            list_version=self._list_version,
        )
        frames = [wire.encode_frame(header), wire.encode_payload(messages)]
        self._waiting.append(SealedBatch(header.batch, header.first, header.count, frames, position, volatile))
        self._next_batch += 1
        self._next_message = header.first + header.count

    def next_waiting(self) -> SealedBatch | None:
        """The batch to send next."""
        return self._waiting[0] if self._waiting else None

    def mark_sent(self) -> None:
        """The batch that `next_waiting` named is on its way."""
        batch = self._waiting.popleft()
        self._in_flight[batch.number] = batch

    def settle(self, number: int) -> SealedBatch | None:
        """Take a batch out of the books. None when it is not in flight: an answer given twice, or to no question."""
        return self._in_flight.pop(number, None)

    def rewind(self) -> None:
        """Put all that is in flight back in line."""
        self._waiting.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()
