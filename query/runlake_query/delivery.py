"""What is delivered to a worker and what became of it: messages that wait, and the requests that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from runlake_query.positions import Positions
from runlake_query.problems import NotReady

_SAFE = "Retrying with the same event_id, or with the same Idempotency-Key, is safe."


class IngestUnreachable(NotReady):
    """Nothing was sent: try again."""

    def __init__(self, reason: str, worker: UUID | None = None) -> None:
        who = "The ingest worker" if worker is None else f"The ingest worker {worker}, whose this run is,"
        super().__init__(f"{who} cannot be reached ({reason}). Nothing was stored; try again.")


class OutcomeUnknown(NotReady):
    """It was sent, and no answer came: try again with the same id."""

    def __init__(self) -> None:
        super().__init__(f"The ingest worker did not answer in time: the outcome is unknown. {_SAFE}")


class PartlyStored(NotReady):
    """It went to several workers, and not all of them have taken their part: try again with the same ids."""

    def __init__(self, stored: int, outcomes: int, reason: str) -> None:
        super().__init__(f"Of {outcomes:,} messages {stored:,} are stored, and of the others: {reason} {_SAFE}")


class Delivered(Struct, frozen=True):
    """What became of one message. `seq` is its position; of a duplicate, one at or after that of its original."""

    worker: UUID
    seq: int
    received_at: datetime
    duplicate: bool = False
    reason: str = ""
    """Why the worker refused it; empty when it did not."""
    field: str | None = None
    before: int = 0
    """Where the last change of the same run is that was sent from here before it; 0 when none is known."""


class Parcel:
    """The messages of one request, and who waits until what became of each is known."""

    def __init__(self, size: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self._outcomes: list[Delivered | NotReady | None] = [None] * size
        self._left = size

    def settle(self, index: int, outcome: Delivered | NotReady) -> None:
        """What became of one message: where it is, or why nobody knows."""
        if self._outcomes[index] is None:
            self._outcomes[index] = outcome
            self._left -= 1
            if not self._left and not self.future.done():
                self.future.set_result(None)

    def end(self, error: NotReady) -> None:
        """Of whatever is not settled, this is all that will be known."""
        for index, outcome in enumerate(self._outcomes):
            if outcome is None:
                self.settle(index, error)

    def outcomes(self) -> list[Delivered | NotReady]:
        """Of each message, in their order. Once it is settled."""
        return [outcome for outcome in self._outcomes if outcome is not None]


class Waiting(Struct):
    """One message and whose it is."""

    encoded: bytes
    parcel: Parcel
    index: int
    searched: Positions | None
    changes: UUID | None


def all_delivered(outcomes: Sequence[Delivered | NotReady]) -> list[Delivered]:
    """The outcomes, when all were delivered. Raises IngestUnreachable when none was even sent, else OutcomeUnknown when
    that is so of all the others, else PartlyStored."""
    delivered = some_delivered(outcomes)
    if len(delivered) == len(outcomes):
        return delivered
    errors = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
    raise PartlyStored(len(delivered), len(outcomes), _worst(errors).detail)


def some_delivered(outcomes: Sequence[Delivered | NotReady]) -> list[Delivered]:
    """Those that were delivered. Raises IngestUnreachable or OutcomeUnknown when none was."""
    delivered = [outcome for outcome in outcomes if isinstance(outcome, Delivered)]
    if outcomes and not delivered:
        raise _worst([outcome for outcome in outcomes if not isinstance(outcome, Delivered)])
    return delivered


def _worst(errors: Sequence[NotReady]) -> NotReady:
    """What may be said of all of them: that nothing was stored, only where that is so of each."""
    return next((error for error in errors if not isinstance(error, IngestUnreachable)), errors[0])
