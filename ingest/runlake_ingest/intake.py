"""A batch, from the bytes that arrived to lines and an ack. Pure but for the window that it asks and fills.

read_batch   decodes and validates: what is bad carries its reason, its neighbours go on
Acceptance   judges each message by the window (and by what the lake said of late ones), numbers what is new, and
             writes the lines of the batch
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct, UnsetType

from runlake import wire
from runlake.errors import InvalidMessage
from runlake.messages import Message, RunStarted
from runlake.validation import validate
from runlake_ingest.dedupe import Verdict, Window
from runlake_ingest.expiry import Expiry
from runlake_ingest.lines import Delivery, Rejected, line_head, message_line, raw_text, record_line

PUSH_PRODUCER = "(push)"
"""What the books call the bare pushers, who do not say who they are."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Good(NamedTuple):
    """A valid message, with its id as an integer and its time in Unix seconds: what the window is asked by."""

    message: Message
    event_id: int
    time: int

    def microseconds(self) -> int:
        """Its time in Unix microseconds: what the lake is asked by."""
        return (_time(self.message) - _EPOCH) // _MICROSECOND


class Bad(NamedTuple):
    """A message that is refused, with its reason and its raw bytes. It may stand for a whole payload of `messages`."""

    reason: str
    field: str | None
    raw: bytes
    messages: int = 1


class BatchIn(Struct, frozen=True):
    """A batch as read. `batch` and `first` are the producer's numbers, None from a bare pusher; `size` is in bytes."""

    producer: str
    batch: int | None
    first: int | None
    count: int
    items: list[Good | Bad]
    size: int
    searched: int | None = None
    """Up to which position its producer has looked for the ids of its starts, whatever their time; None: it has not."""
    received_at: datetime | None = None
    """When a log that is replayed says that they were first received; None: now."""

    def earliest(self) -> int:
        """The least of its messages' times, Unix seconds."""
        return min((item.time for item in self.items if type(item) is Good), default=sys.maxsize)


def read_batch(header: wire.Batch | None, payload: bytes, now: datetime, worker: str = "", since: int = 0) -> BatchIn:
    """Decode and validate a batch for this worker. Never raises for what is in it.

    `since`: up to this position, what is this worker's own now may have been taken by others.
    """
    items, count = _read_items(header, payload, now)
    if header is None:
        return BatchIn(PUSH_PRODUCER, None, None, count, items, len(payload))
    searched = None if isinstance(header.searched, UnsetType) else _searched(header.searched, worker, since)
    before = None if isinstance(header.received_at, UnsetType) else min(header.received_at, now)
    return BatchIn(header.producer, header.batch, header.first, count, items, len(payload), searched, before)


def _searched(positions: Mapping[str, int], worker: str, since: int) -> int:
    """Up to which position, of any worker, the producer has looked. Who has seen what came after a change of the list
    of workers has seen all that came before it; for others it is the least of what they say."""
    own = positions.get(worker, 0)
    return own if own >= since else min(positions.values(), default=0)


def _read_items(header: wire.Batch | None, payload: bytes, now: datetime) -> tuple[list[Good | Bad], int]:
    said = header.count if header is not None else 1
    try:
        count = wire.payload_count(payload)
        if header is not None and count != said:
            reason = f"The header counts {said} messages, and the payload holds {count}"
            return [Bad(reason, "count", payload, said)], said
        items = _read_whole(payload, now) or [_read_raw(raw, now) for raw in wire.split_payload(payload)]
    except InvalidMessage as error:
        return [Bad(error.reason, None, payload, said)], said
    return items, len(items)


def _read_whole(payload: bytes, now: datetime) -> list[Good | Bad] | None:
    """The quick way: all at once. None when something is bad, or when a message may be too large to be read at all."""
    if len(payload) > wire.MAX_MESSAGE_BYTES:
        return None
    try:
        return [_read_message(message, now) for message in wire.decode_payload(payload)]
    except InvalidMessage:
        return None


def _read_raw(raw: bytes, now: datetime) -> Good | Bad:
    if len(raw) > wire.MAX_MESSAGE_BYTES:
        return Bad(f"The message has {len(raw):,} bytes; allowed are {wire.MAX_MESSAGE_BYTES:,}", None, raw)
    try:
        return _read_message(wire.decode_message(raw), now)
    except InvalidMessage as error:
        return Bad(error.reason, error.field, raw)


def _read_message(message: Message, now: datetime) -> Good:
    validate(message, now)
    return Good(message, message.event_id.int, int(_time(message).timestamp()))


def _time(message: Message) -> datetime:
    return message.start_time if isinstance(message, RunStarted) else message.ts


class LateId(NamedTuple):
    """The id of a message of which the window cannot say whether it is new, and where the lake may hold it: at its time
    in Unix microseconds (None: it is no late one), and behind a position, whatever its time (None: not there)."""

    event_id: int
    us: int | None
    after: int | None = None


def late_ids(batch: BatchIn, window: Window) -> Iterator[LateId]:
    """The messages of a batch of which the window cannot say whether they are new."""
    unsearched = is_unsearched(batch, window)
    for item in batch.items:
        if type(item) is Good:
            found = _late_id(item, window, batch.searched if unsearched else None)
            if found is not None:
                yield found


def is_unsearched(batch: BatchIn, window: Window) -> bool:
    """Whether the window may have let go of an id since its producer looked for it."""
    return batch.searched is not None and batch.searched < window.forgotten


def _late_id(item: Good, window: Window, after: int | None) -> LateId | None:
    verdict = window.judge(item.event_id, item.time)
    behind = after if isinstance(item.message, RunStarted) else None
    if verdict is Verdict.DUPLICATE or (verdict is Verdict.NEW and behind is None):
        return None
    return LateId(item.event_id, item.microseconds() if verdict is Verdict.LATE else None, behind)


class Accepted(NamedTuple):
    """What became of a batch: its lines for the journal, its ack, and the last position given out."""

    lines: list[bytes]
    ack: wire.Ack
    last_seq: int


class Acceptance:
    """Numbers what is new. Not thread-safe: the receiver's alone."""

    def __init__(self, worker: UUID, window: Window, last_seq: int, credit: int, expiry: Expiry | None = None) -> None:
        self._worker = worker
        self._expiry = expiry or Expiry()
        self._window = window
        self._credit = credit
        self.last_seq = last_seq
        """The position of the last accepted message."""

    def number_on(self, window: Window, last_seq: int) -> None:
        """Go on behind this position, and judge by this window."""
        self._window = window
        self.last_seq = last_seq

    def follow_rules(self) -> None:
        """Take note of what is refused from now on. To be called often: what was accepted before waits for it."""
        self._expiry.follow(self.last_seq)

    def accept(self, batch: BatchIn, looked_up: Mapping[LateId, bool], segment: int, now: datetime) -> Accepted:
        """Judge and number a batch whose lines go into `segment`.

        `looked_up` says of each late message whether the lake holds it.
        """
        window = self._window
        admit, horizon = window.admit, window.horizon
        rules = self._expiry.follow(self.last_seq)
        expires, forgotten = rules.horizon, rules.forgotten
        refused = 0
        after = batch.searched if is_unsearched(batch, window) else None
        head = line_head(batch.received_at or now, batch.producer)
        first_seq = self.last_seq + 1
        seq = self.last_seq
        lines: list[bytes] = []
        duplicate: list[int] = []
        rejected: list[wire.Rejection] = []
        for index, item in enumerate(batch.items):
            if isinstance(item, Bad):
                refused += item.messages
                rejected.append(wire.Rejection(index=index, reason=item.reason, field=item.field))
                lines.append(record_line(self._quarantined(batch, index, item, now)))
                continue
            message, event_id, time = item
            if time < expires or forgotten:
                refusal = rules.refusal(message, time)
                if refusal is not None and window.judge(event_id, time) is not Verdict.DUPLICATE:
                    refused += 1
                    bad = Bad(*refusal, wire.encode_message(message))
                    rejected.append(wire.Rejection(index=index, reason=bad.reason, field=bad.field))
                    lines.append(record_line(self._quarantined(batch, index, bad, now)))
                    continue
            if time >= horizon and after is None:
                new = admit(event_id, time, segment)
            else:
                late = _late_id(item, window, after)
                new = not (late is not None and looked_up[late]) and admit(event_id, time, segment)
            if not new:
                duplicate.append(index)
                continue
            seq += 1
            lines.append(message_line(seq, head, message))
        self.last_seq = seq
        accepted = seq - first_seq + 1
        lines.append(
            record_line(
                Delivery(
                    first_seq=first_seq,
                    received_at=now,
                    producer=batch.producer,
                    batch=batch.batch,
                    first_number=batch.first,
                    received=batch.count,
                    accepted=accepted,
                    duplicate=len(duplicate),
                    rejected=refused,
                )
            )
        )
        ack = wire.Ack(
            batch=batch.batch or 0,
            worker=self._worker,
            first_seq=first_seq,
            accepted=accepted,
            received_at=now,
            credit=self._credit,
            duplicate=duplicate,
            rejected=rejected,
        )
        return Accepted(lines, ack, seq)

    @staticmethod
    def _quarantined(batch: BatchIn, index: int, item: Bad, now: datetime) -> Rejected:
        return Rejected(
            received_at=now,
            producer=batch.producer,
            batch=batch.batch,
            number=batch.first + index if batch.first is not None else None,
            messages=item.messages,
            field=item.field,
            reason=item.reason,
            raw=raw_text(item.raw),
        )
