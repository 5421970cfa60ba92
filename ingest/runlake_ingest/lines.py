"""What the journal's lines say: pure functions from messages to NDJSON.

Every line is one JSON object with a `kind`, its keys the names of the lake's columns, so that DuckDB reads a segment
without help:

    run.started run.updated commit.associated run.event   an accepted message, with seq, received_at, producer
    rejected    a refused message: raw bytes in Base64, reason, field
    delivery    the books of one batch
    group       last line of a group: whose it is, how many lines and bytes it has, and their CRC-32

The last one is of the journal itself and is not stored in the lake.
"""

from __future__ import annotations

import base64
from datetime import datetime

import msgspec
from msgspec import Struct

from runlake.completion import complete
from runlake.messages import Message, RunStarted, RunUpdated

_encoder = msgspec.json.Encoder()


class Rejected(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="rejected", gc=False):
    received_at: datetime
    producer: str
    batch: int | None = None
    number: int | None = None
    messages: int = 1
    field: str | None = None
    reason: str
    raw: str


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="delivery", gc=False):
    first_seq: int
    received_at: datetime
    producer: str
    batch: int | None = None
    first_number: int | None = None
    received: int
    accepted: int
    duplicate: int
    rejected: int


def line_head(received_at: datetime, producer: str) -> bytes:
    """What all message lines of one batch share, from `received_at` to the comma before the message's own fields."""
    return b',"received_at":' + _encoder.encode(received_at) + b',"producer":' + _encoder.encode(producer) + b","


def message_line(seq: int, head: bytes, message: Message) -> bytes:
    """The line of an accepted message."""
    if isinstance(message, RunStarted | RunUpdated):
        message = complete(message)
    return b'{"seq":%d%b%b\n' % (seq, head, _encoder.encode(message)[1:])


def record_line(record: Rejected | Delivery) -> bytes:
    """The line of a refused message or of a batch's books."""
    return _encoder.encode(record) + b"\n"


def raw_text(raw: bytes) -> str:
    """Raw bytes as a line holds them: Base64 (RFC 4648)."""
    return base64.b64encode(raw).decode("ascii")
