"""From a row of the earlier service to messages: a pure function, so that importing a row again makes the same ones.

Ids that are no UUIDs become UUIDs made from them (RFC 9562, version 5), and the original is kept in `context_json`.
What has no place of its own, or cannot be stored as it is, is kept there too, under its own name. A row that has no
usable run_id, agent, job or start cannot be a run, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID, uuid5

import msgspec

from runlake.errors import InvalidMessage
from runlake.messages import MAX_NAME_CHARS, MAX_TEXT_CHARS, STATUS_ALIASES, RunEvent, RunStarted
from runlake.validation import validate
from runlake.wire import MAX_MESSAGE_BYTES, decode_message, encode_message

NAMESPACE = UUID("8f6c8a3e-4b0d-5c57-9a3e-0d6f6f1f2a11")
"""What ids are made in, so that they are the same for everybody and every time."""
_TIMES = frozenset(("start_time", "end_time", "commit_timestamp", "heartbeat_until"))
_COUNTS = frozenset(
    (
        *("duration_ms", "items_discovered", "items_succeeded", "items_failed", "items_skipped"),
        *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    )
)
_MAPS = frozenset(("metrics_json", "context_json"))
_TEXTS = frozenset(("input_summary", "output_summary", "error_summary", "error_details"))
_REQUIRED = ("run_id", "agent_name", "job_type", "start_time")
_FIELDS = frozenset(RunStarted.__struct_fields__)
_OTHER_NAMES = {f"git_{name}": name for name in ("commit_hash", "commit_source", "commit_author", "commit_timestamp")}
_IGNORED = frozenset(("id", "created_at", "updated_at", "cost_source", "cost_table_version", "event_id"))
"""Set by RunLake, or the row's own number."""


class Skipped(Exception):  # noqa: N818 (it says what became of the row)
    """This row cannot be taken over; the text says why."""


def run_message(row: Mapping[str, Any]) -> RunStarted:
    """The run of a row of `runs`. Raises Skipped."""
    event_id, original = run_key(row)
    context: dict[str, Any] = {}
    if original:
        context["original_event_id"] = original
    fields: dict[str, Any] = {}
    for column, value in row.items():
        name = _OTHER_NAMES.get(column, column)
        if value is None or value == "" or name in _IGNORED or name in fields:
            continue
        converted = _value(name, value) if name in _FIELDS else None
        if converted is None:
            if name in _REQUIRED:
                raise Skipped(f"{name}: {str(value)!r:.80} cannot be used")
            context[column] = _kept(value)
        else:
            fields[name] = converted
    for name in _REQUIRED:
        if name not in fields:
            raise Skipped(f"{name}: is missing")
    return _acceptable(event_id, fields, context)


def run_key(row: Mapping[str, Any]) -> tuple[UUID, str | None]:
    """The event_id of a row of `runs`, and the original when it was no UUID. Raises Skipped."""
    given = row.get("event_id")
    if given in (None, ""):
        if not row.get("run_id"):
            raise Skipped("event_id: is missing, and run_id too")
        return uuid5(NAMESPACE, f"run {row['run_id']} {row.get('start_time')}"), ""
    return as_key(str(given))


def as_key(text: str) -> tuple[UUID, str | None]:
    """A UUID as it is, any other text as a UUID made from it, and then the original too."""
    try:
        return UUID(text.strip()), None
    except ValueError:
        return uuid5(NAMESPACE, f"id {text}"), text


def event_message(row: Mapping[str, Any], number: int) -> RunEvent:
    """The event of a row of `events`; `number` is its rowid. Raises Skipped."""
    run_id = _value("run_id", row.get("run_id"))
    if run_id is None:
        raise Skipped("run_id: is missing")
    ts = _time(row.get("ts") or row.get("timestamp") or row.get("created_at"))
    if ts is None:
        raise Skipped("ts: is missing, or no time")
    payload = _map(row.get("payload") or row.get("payload_json")) or {}
    given = row.get("event_id")
    event_id, original = as_key(str(given)) if given not in (None, "") else (_nth(run_id, number), None)
    if original:
        payload["original_event_id"] = original
    message = RunEvent(
        event_id=event_id,
        run_id=run_id,
        run_event_id=as_key(str(row["run_event_id"]))[0] if row.get("run_event_id") else None,
        ts=ts,
        type=_value("type", row.get("type") or row.get("event_type")) or "event",
        payload=payload or None,
        trace_id=_value("trace_id", row.get("trace_id")),
        span_id=_value("span_id", row.get("span_id")),
        parent_span_id=_value("parent_span_id", row.get("parent_span_id")),
    )
    try:
        _check(message)
    except InvalidMessage as error:
        raise Skipped(error.reason) from None
    return message


def _nth(run_id: str, number: int) -> UUID:
    return uuid5(NAMESPACE, f"event {run_id} {number}")


def _acceptable(event_id: UUID, fields: dict[str, Any], context: dict[str, Any]) -> RunStarted:
    """The message as a worker takes it: an optional field that it would refuse goes to the context."""
    while True:
        maps = {**fields.get("context_json", {}), **context}
        message = RunStarted(event_id=event_id, **{**fields, "context_json": maps or None})
        try:
            _check(message)
        except InvalidMessage as error:
            name = error.field or ""
            if name in _REQUIRED or name not in fields or name == "context_json":
                raise Skipped(error.reason) from None
            context[name] = _kept(fields.pop(name))
        else:
            return message


def _check(message: RunStarted | RunEvent) -> None:
    try:
        encoded = encode_message(message)
    except TypeError as error:
        raise InvalidMessage(str(error)) from None
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(f"The row makes {len(encoded):,} bytes; allowed are {MAX_MESSAGE_BYTES:,}")
    validate(decode_message(encoded), datetime.now(UTC))


def _value(name: str, value: Any) -> Any:
    """A usable form of a column's value, or None."""
    if value is None:
        return None
    if name in _TIMES:
        return _time(value)
    if name in _COUNTS:
        return _count(value)
    if name in _MAPS:
        return _map(value)
    if name == "cost_usd":
        return _cost(value)
    if name == "status":
        text = str(value).strip().lower()
        return STATUS_ALIASES.get(text, text)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    limit = MAX_TEXT_CHARS if name in _TEXTS else MAX_NAME_CHARS
    return text[:limit] or None


def _time(value: Any) -> datetime | None:
    """A time as text (with or without zone: the earlier service wrote UTC), or as seconds since 1970."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        time = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _cost(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _count(value: Any) -> int | None:
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if number >= 0 else None


def _map(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, str | bytes):
        return None
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else {"value": found} if found is not None else None


def _kept(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | str) else str(value)
