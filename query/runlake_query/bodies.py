"""Request bodies: what may be written over HTTP, read and checked. Pure: no socket, no database.

A body is decoded into a struct of the message's own fields and bounds, so that what passes here passes at the
worker. `null` is absent, fields that nobody knows are ignored, and `git_commit_*` are other names of `commit_*`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from runlake import wire
from runlake.errors import InvalidMessage
from runlake.messages import (
    CommitAssociated,
    CommitHash,
    CommitSource,
    JsonMap,
    Message,
    Name,
    RequiredName,
    RunEvent,
    RunStarted,
    RunUpdated,
    Status,
    StatusOrAlias,
    Updatable,
    ZonedTime,
)
from runlake.validation import validate
from runlake_query.problems import FieldError, Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 1_000
"""How many runs or events one request may hold."""
_GIT = {f"git_{name}": name for name in ("commit_hash", "commit_source", "commit_author", "commit_timestamp")}
IDENTITY = ("event_id", "run_id", "parent_run_id", "agent_name", "job_type", "start_time")
"""What a run is, which no PATCH changes."""


class _Fields(Updatable, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The updatable run fields, with the other names of `commit_*`."""

    git_commit_hash: CommitHash | None = None
    git_commit_source: CommitSource | None = None
    git_commit_author: Name | None = None
    git_commit_timestamp: ZonedTime | None = None


class NewRun(_Fields, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A run that begins. `event_id` is the idempotency key, and from then on the run's own."""

    event_id: UUID
    run_id: RequiredName
    agent_name: RequiredName
    job_type: RequiredName
    start_time: ZonedTime
    parent_run_id: Name | None = None
    status: StatusOrAlias | None = None


class RunChange(_Fields, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Fields of a run to be replaced; what is absent or null stays."""

    status: Status | None = None


class NewCommit(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A commit that came of a run. `commit_hash` and `commit_source` are required, under either name."""

    commit_hash: CommitHash | None = None
    commit_source: CommitSource | None = None
    commit_author: Name | None = None
    commit_timestamp: ZonedTime | None = None
    git_commit_hash: CommitHash | None = None
    git_commit_source: CommitSource | None = None
    git_commit_author: Name | None = None
    git_commit_timestamp: ZonedTime | None = None


class NewEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that happened in a run. `event_id` and `ts` are made here when they are absent."""

    type: RequiredName
    event_id: UUID | None = None
    ts: ZonedTime | None = None
    payload: JsonMap | None = None
    trace_id: Name | None = None
    span_id: Name | None = None
    parent_span_id: Name | None = None
    prev_hash: Name | None = None
    event_hash: Name | None = None


class RunBatch(Struct, frozen=True, kw_only=True):
    """Runs to be created together."""

    runs: list[msgspec.Raw]


class _ChangeOrIdentity(RunChange, frozen=True, kw_only=True, gc=False):
    event_id: Any = None
    run_id: Any = None
    parent_run_id: Any = None
    agent_name: Any = None
    job_type: Any = None
    start_time: Any = None


class _Named(Struct, frozen=True):
    """What an item that cannot be read may still say of itself."""

    event_id: Any = None


class InvalidBody(Problem):
    """400: fix the field that it names."""

    def __init__(self, reason: str, field: str | None = None, at: str = "") -> None:
        where = f"{at}.{field}" if at and field else (field or at)
        message = reason.removeprefix(f"{field}: ") if field else reason
        detail = f"{where}: {message}" if where else reason
        super().__init__(400, detail, [FieldError(where, message)] if where else [])


class TooLarge(Problem):
    """413: send less."""

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


class Item(Struct, frozen=True):
    """One run of a batch: its message and the same encoded, or why it is refused and what it calls itself."""

    message: RunStarted | None = None
    encoded: bytes = b""
    event_id: str | None = None
    error: str = ""
    field: str | None = None


_Body = TypeVar("_Body", bound=Struct)

_new_run = msgspec.json.Decoder(NewRun)
_change = msgspec.json.Decoder(_ChangeOrIdentity)
_commit = msgspec.json.Decoder(NewCommit)
_event = msgspec.json.Decoder(NewEvent)
_batch = msgspec.json.Decoder(RunBatch)
_array = msgspec.json.Decoder(list[msgspec.Raw])
_named = msgspec.json.Decoder(_Named)
_START_FIELDS = tuple(RunStarted.__struct_fields__)
_CHANGE_FIELDS = tuple(RunChange.__struct_fields__)
_OWN_CHANGE_FIELDS = frozenset(_CHANGE_FIELDS) - frozenset(_GIT)


def read_run(body: bytes, now: datetime) -> tuple[RunStarted, bytes]:
    """The body of a POST as a message, and the same encoded. Raises InvalidBody, TooLarge."""
    found = _decode(_new_run, body)
    fields = {name: value for name in _START_FIELDS if (value := getattr(found, name)) is not None}
    message = RunStarted(**_with_git(found, fields))
    return message, encode(message, now)


def read_change(body: bytes) -> dict[str, Any]:
    """The fields that the body of a PATCH sets. Raises InvalidBody for one that cannot change."""
    found = _decode(_change, body)
    for name in IDENTITY:
        if getattr(found, name) is not None:
            raise InvalidBody(f"{name}: is what the run was created with, and cannot change", name)
    fields = {name: value for name in _OWN_CHANGE_FIELDS if (value := getattr(found, name)) is not None}
    return _with_git(found, fields)


def read_commit(body: bytes) -> dict[str, Any]:
    """The fields of a commit. Raises InvalidBody."""
    found = _decode(_commit, body)
    own = ("commit_hash", "commit_source", "commit_author", "commit_timestamp")
    fields = _with_git(found, {name: value for name in own if (value := getattr(found, name)) is not None})
    for name in ("commit_hash", "commit_source"):
        if name not in fields:
            raise InvalidBody(f"{name}: is required", name)
    return fields


def read_events(body: bytes) -> tuple[list[NewEvent], bool]:
    """One event or an array of 1 to MAX_ITEMS, and whether it was an array. Raises InvalidBody."""
    if not _is_array(body):
        return [_decode(_event, body)], False
    items = _items(_split(_array, body), "events")
    return [_decode(_event, item, f"[{index}]") for index, item in enumerate(items)], True


def read_batch(body: bytes, now: datetime) -> tuple[list[Item], bool]:
    """The runs of a batch, good and bad, and whether it was a bare array. Raises InvalidBody for what is no batch."""
    bare = _is_array(body)
    raws: Sequence[msgspec.Raw] = _split(_array, body) if bare else _split(_batch, body).runs
    return [_item(bytes(raw), now) for raw in _items(raws, "runs")], bare


def encode(message: Message, now: datetime, at: str = "") -> bytes:
    """A message as it travels, once the worker's own rules hold. Raises InvalidBody, TooLarge."""
    try:
        validate(message, now)
        encoded = wire.encode_message(message)
    except InvalidMessage as error:
        raise InvalidBody(error.reason, error.field, at) from None
    except TypeError:
        field = _unstorable(message)
        raise InvalidBody(f"{field}: holds a number that does not fit 64 bits", field, at) from None
    if len(encoded) > wire.MAX_MESSAGE_BYTES:
        raise TooLarge(
            f"{at or 'The body'} has {len(encoded):,} bytes; allowed are {wire.MAX_MESSAGE_BYTES:,} for each."
        )
    return encoded


def update(event_id: UUID, run: UUID, ts: datetime, fields: dict[str, Any]) -> RunUpdated:
    return RunUpdated(event_id=event_id, run_event_id=run, ts=ts, **fields)


def commit(event_id: UUID, run: UUID, ts: datetime, fields: dict[str, Any]) -> CommitAssociated:
    return CommitAssociated(event_id=event_id, run_event_id=run, ts=ts, **fields)


def event(found: NewEvent, event_id: UUID, run_id: str, run: UUID, ts: datetime) -> RunEvent:
    return RunEvent(
        event_id=event_id,
        run_id=run_id,
        run_event_id=run,
        ts=ts,
        type=found.type,
        payload=found.payload,
        trace_id=found.trace_id,
        span_id=found.span_id,
        parent_span_id=found.parent_span_id,
        prev_hash=found.prev_hash,
        event_hash=found.event_hash,
    )


def _item(raw: bytes, now: datetime) -> Item:
    try:
        message, encoded = read_run(raw, now)
    except Problem as problem:
        field = problem.errors[0].field if problem.errors else None
        return Item(event_id=_name_of(raw), error=problem.detail, field=field)
    return Item(message, encoded, str(message.event_id))


def _name_of(raw: bytes) -> str | None:
    try:
        name = _named.decode(raw).event_id
    except wire.UNREADABLE:
        return None
    return name if isinstance(name, str) else None


def _decode(decoder: msgspec.json.Decoder[_Body], body: bytes | msgspec.Raw, at: str = "") -> _Body:
    try:
        return decoder.decode(body)
    except wire.UNREADABLE as error:
        raise _refusal(error, at) from None


def _split(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except wire.UNREADABLE as error:
        raise _refusal(error, "") from None


def _refusal(error: Exception, at: str) -> InvalidBody:
    if isinstance(error, RecursionError):
        return InvalidBody("The body is nested too deeply.", None, at)
    if isinstance(error, UnicodeDecodeError):
        return InvalidBody("The body is not UTF-8.", None, at)
    if not isinstance(error, msgspec.ValidationError):
        return InvalidBody(f"The body is not JSON: {error}.", None, at)
    if str(error).startswith("Expected `object`, got") and " - at " not in str(error):
        return InvalidBody("The body must be a JSON object.", None, at)
    found = wire.invalid_message(error)
    return InvalidBody(found.reason.replace("The message", "The body"), found.field, at)


def _items(items: Sequence[msgspec.Raw], name: str) -> Sequence[msgspec.Raw]:
    if not 1 <= len(items) <= MAX_ITEMS:
        raise InvalidBody(f"{name}: must hold 1 to {MAX_ITEMS:,}, not {len(items):,}", name)
    return items


def _is_array(body: bytes) -> bool:
    return body.lstrip(b" \t\r\n")[:1] == b"["


def _with_git(found: Struct, fields: dict[str, Any]) -> dict[str, Any]:
    for other, name in _GIT.items():
        value = getattr(found, other)
        if value is not None:
            fields.setdefault(name, value)
    return fields


def _unstorable(message: Message) -> str:
    """Which of its maps holds what MessagePack has no room for."""
    for name in ("metrics_json", "context_json", "payload"):
        value = getattr(message, name, None)
        try:
            msgspec.msgpack.encode(value)
        except OverflowError:
            return name
    return "body"
