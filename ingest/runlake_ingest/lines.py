"""What the journal's lines say: pure functions from messages to NDJSON.

Every line is one JSON object with a `kind`, its keys the names of the lake's columns, so that DuckDB reads a segment
without help:

    run.started run.updated commit.associated run.event   an accepted message, with seq, received_at, producer
    rejected    a refused message: raw bytes in Base64, reason, field
    delivery    the books of one batch
    segment     first line of a segment: whose it is
    group       last line of a group: how many lines and bytes it has, and their CRC-32

The last two are of the journal itself and are not stored in the lake.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Struct

from runlake.messages import MAX_COUNT, MAX_NAME_CHARS, STATUS_ALIASES, Message, RunStarted, RunUpdated
from runlake.validation import usable_cost

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


def complete(message: RunStarted | RunUpdated) -> RunStarted | RunUpdated:
    """The message with what RunLake derives at the door: canonical status, cost in its column's steps, and model use
    taken from the free-form maps of the same message where its own fields do not say it."""
    found: dict[str, Any] = {}
    if isinstance(message, RunStarted):
        status = message.status or "running"
        canonical = STATUS_ALIASES.get(status, status)
        if canonical != message.status:
            found["status"] = canonical
    if message.cost_usd is not None:
        found["cost_usd"] = usable_cost(message.cost_usd)
    if message.metrics_json or message.context_json:
        maps = [m for m in (message.metrics_json, message.context_json) if m]
        for field, names, usable in _DERIVED:
            if getattr(message, field) is None:
                value = _first_usable(maps, names, usable)
                if value is not None:
                    found[field] = value
    return msgspec.structs.replace(message, **found) if found else message


def _first_usable(maps: Sequence[dict[str, Any]], names: Sequence[str], usable: Any) -> Any:
    for name in names:
        for values in maps:
            if name in values:
                value = usable(values[name])
                if value is not None:
                    return value
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _cost(value: Any) -> Decimal | None:
    if type(value) not in (int, float, str):
        return None
    try:
        return usable_cost(Decimal(str(value)))
    except InvalidOperation:
        return None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS else None


_DERIVED: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("input_tokens", ("input_tokens", "prompt_tokens"), _count),
    ("output_tokens", ("output_tokens", "completion_tokens"), _count),
    ("cost_usd", ("api_cost_usd", "cost_usd"), _cost),
    ("model", ("model",), _name),
    ("trace_id", ("trace_id",), _name),
    ("span_id", ("span_id",), _name),
)
