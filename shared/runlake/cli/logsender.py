"""Sends messages of a log to workers, in batches of those that were received together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from runlake import wire
from runlake.cli.failure import CommandFailed
from runlake.cli.import_delivery import ImportDelivery
from runlake.cli.progress import progress_bar
from runlake.curve import ClientKeys
from runlake.ids import Uuid7Source

if TYPE_CHECKING:
    from runlake.lake.replay import Logged


class Answered(Struct):
    """What became of what was sent."""

    accepted: int = 0
    duplicate: int = 0
    refused: int = 0
    reason: str = ""
    """Why the first one was refused."""

    def __str__(self) -> str:
        return f"{self.accepted:,} messages accepted, {self.duplicate:,} were there already, {self.refused:,} refused."


def send_log(
    log: Iterable[Logged],
    total: int,
    endpoint: str,
    keys: ClientKeys | None,
    on_reached: Callable[[Logged], None] = lambda last: None,
) -> Answered:
    """Send these messages, about `total`, each to its home; `on_reached` is told the last one of each batch that is
    acknowledged, in their order. Raises CommandFailed."""
    answered = Answered()
    batch: list[bytes] = []
    size = 0
    last: Logged | None = None

    def on_ack(end: Logged, count: int) -> Callable[[wire.Ack], None]:
        def note(ack: wire.Ack) -> None:
            answered.accepted += ack.accepted
            answered.duplicate += len(ack.duplicate)
            answered.refused += len(ack.rejected)
            if ack.rejected and not answered.reason:
                answered.reason = ack.rejected[0].reason
            on_reached(end)
            advance(count)

        return note

    with (
        progress_bar("Replaying messages", total) as advance,
        ImportDelivery(endpoint, f"replay-{Uuid7Source()()}", keys=keys) as delivery,
    ):
        for logged in log:
            encoded = wire.encode_message(logged.message)
            if last is not None and (
                (logged.received_at, logged.worker) != (last.received_at, last.worker)
                or len(batch) == wire.MAX_BATCH_MESSAGES
                or size + len(encoded) > wire.MAX_BATCH_BYTES
            ):
                delivery.send(batch, on_ack(last, len(batch)), last.received_at)
                batch, size = [], 0
            batch.append(encoded)
            size += len(encoded)
            last = logged
        if last is not None:
            delivery.send(batch, on_ack(last, len(batch)), last.received_at)
        delivery.finish()
    return answered


def refuse_refused(answered: Answered, endpoint: str) -> None:
    """Raise CommandFailed when anything was refused."""
    if answered.refused:
        raise CommandFailed(f"{endpoint} refused {answered.refused:,} messages, the first since {answered.reason}")
