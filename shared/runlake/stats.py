"""What an emitter says about itself."""

from __future__ import annotations

from msgspec import Struct


class RejectedMessage(Struct, frozen=True, kw_only=True):
    """A message that the worker refused. `number` is the producer's own; the worker keeps it in quarantine."""

    number: int
    reason: str
    field: str | None = None


class WorkerStats(Struct, frozen=True, kw_only=True):
    """What goes to one worker."""

    worker: str
    """Its id; empty until it has answered."""
    endpoint: str
    connected: bool
    in_flight: int
    """Batches of this process's own that are sent and not yet answered."""
    acknowledged: int
    """Messages that it has answered, since it is in the list of workers."""


class Stats(Struct, frozen=True, kw_only=True):
    """Counts of messages since the emitter was made. They balance: emitted = dropped + queued + acknowledged."""

    producer: str
    """The producer id that the worker's books know this emitter by."""
    emitted: int
    """Handed to `emit`."""
    queued: int
    """Waiting to be sent, or sent and not yet acknowledged; once closed: left in the spool."""
    spooled: int = 0
    """Taken into the spool, delivered since or not."""
    sent: int
    """Sent at least once."""
    acknowledged: int
    """Answered by the worker: accepted, duplicate or rejected."""
    accepted: int
    duplicates: int
    rejected: int
    last_rejections: tuple[RejectedMessage, ...]
    dropped: dict[str, int]
    """Never delivered, by reason: queue_full, spool_full (refused, as the spool may not grow), displaced (given up for
    newer ones), too_large, not_encodable, not_a_message, closed, undelivered (in memory at the end), failed."""
    described: int
    """Values in payloads that were replaced by a description, or cut."""
    reconnects: int
    """Connections opened after the first."""
    protocol_errors: int
    """Answers that made no sense."""
    connected: bool
    """To every worker."""
    adopted: int = 0
    """Messages of processes that are gone, delivered from their spools."""
    workers: tuple[WorkerStats, ...] = ()
    """Each worker apart; one that stands alone, too."""
