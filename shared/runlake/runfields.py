"""Making a run's message acceptable: an agent that gives a wrong value keeps its run, and as far as possible the value.

The rule is the worker's own (`wire`, `validation`): a message that passes goes out as it is. In one that does not, the
field at fault is put right where that can be done without guessing (a long text is cut, a number or path becomes
text, a naive time is read as local time, a status gets its canonical name), and is otherwise moved into `context_json`
under its own name, as are fields that no run has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar, get_args
from uuid import UUID

from runlake.errors import InvalidMessage
from runlake.interruption import pass_on
from runlake.messages import (
    MAX_COUNT,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    STATUS_ALIASES,
    Message,
    RunStarted,
    RunUpdated,
    Status,
)
from runlake.plain import cut, describe
from runlake.validation import AHEAD, EARLIEST, usable_cost, validate
from runlake.wire import decode_message

M = TypeVar("M", RunStarted, RunUpdated)

START_FIELDS = frozenset(RunStarted.__struct_fields__)
UPDATE_FIELDS = frozenset(RunUpdated.__struct_fields__) - {"event_id", "run_event_id", "ts"}

_TIMES = frozenset(("start_time", "end_time", "heartbeat_until", "commit_timestamp", "ts"))
_TEXTS = frozenset(("input_summary", "output_summary", "error_summary", "error_details"))
_COUNTS = frozenset(
    (
        *("duration_ms", "items_discovered", "items_succeeded", "items_failed", "items_skipped"),
        *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    )
)
_MAPS = frozenset(("metrics_json", "context_json"))
_AS_GIVEN = frozenset(("commit_hash", "commit_source", "event_id", "run_event_id"))
_GIVEN_AT_START = START_FIELDS - {"event_id", "run_id", "agent_name", "job_type", "start_time"}
_STATUSES = frozenset(get_args(Status))
_SLOW = _TIMES | _AS_GIVEN | {"cost_usd"}
_CHECKS = {
    name: None
    if name in _SLOW
    else "count"
    if name in _COUNTS
    else "map"
    if name in _MAPS
    else "status"
    if name == "status"
    else MAX_TEXT_CHARS
    if name in _TEXTS
    else MAX_NAME_CHARS
    for name in START_FIELDS | UPDATE_FIELDS
}
"""How a field's value is known to be right without asking the worker's rule; a number is the length of a text."""


def are_right(fields: Mapping[str, Any], updating: bool = False) -> bool:
    """Whether the worker takes these fields as they are. False also when that is not known without `build`."""
    allowed = UPDATE_FIELDS if updating else _GIVEN_AT_START
    for name, value in fields.items():
        if name not in allowed:
            return False
        if value is None:
            continue
        check = _CHECKS[name]
        if type(check) is int:
            if type(value) is not str or len(value) > check:
                return False
        elif check == "count":
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                return False
        elif check == "map":
            if type(value) is not dict:
                return False
        elif check == "status":
            if type(value) is not str or value not in _STATUSES:
                return False
        elif name != "cost_usd" or type(value) is not Decimal or usable_cost(value) is None:
            return False
    return True


def build(
    make: type[M],
    fixed: Mapping[str, Any],
    given: Mapping[str, Any],
    context: dict[str, Any],
    encode: Callable[[Message], bytes],
) -> tuple[M, list[str]]:
    """A message of the fields `fixed`, which are right, and `given`, which an agent chose; and the names moved.

    `context` receives what has no place of its own; when it receives something, the message carries all of it. Should
    all of that fail, the message is what is right, alone.
    """
    try:
        return _built(make, fixed, given, context, encode)
    except BaseException as error:  # noqa: BLE001 (the agent's own objects are at work here; told as moved)
        pass_on(error)
        return make(**fixed), list(given)


def _built(
    make: type[M],
    fixed: Mapping[str, Any],
    given: Mapping[str, Any],
    context: dict[str, Any],
    encode: Callable[[Message], bytes],
) -> tuple[M, list[str]]:
    known = START_FIELDS if make is RunStarted else UPDATE_FIELDS
    fields = {name: value for name, value in given.items() if name in known and name not in fixed and value is not None}
    moved = [name for name in given if name not in fields and given[name] is not None]
    for name in moved:
        context[name] = given[name]
    if moved:
        fields["context_json"] = dict(context)
    repaired: set[str] = set()
    while True:
        message = make(**fixed, **fields)
        try:
            validate(decode_message(encode(message)), datetime.now(UTC))
        except InvalidMessage as error:
            name = error.field or ""
            if name not in fields:
                return message, moved  # the worker will say what is wrong, and keep it
            value = fields.pop(name)
            better = None if name in repaired else repair(name, value)
            repaired.add(name)
            if better is not None:
                fields[name] = better
            elif name not in _MAPS:
                moved.append(name)
                context[name] = describe(given[name])
                fields["context_json"] = dict(context)
            continue
        return message, moved


def repair(name: str, value: Any) -> Any:
    """A usable form of a field's value, or None when there is none that would not be a guess."""
    try:
        if name == "status":
            text = str(value.value if isinstance(value, Enum) else value).strip().lower()
            return STATUS_ALIASES.get(text, text)
        if name in _TIMES:
            return value.astimezone() if isinstance(value, datetime) else None
        if name in _COUNTS:
            return int(value) if isinstance(value, float) and math.isfinite(value) else None
        if name == "cost_usd":
            return Decimal(str(value)) if isinstance(value, int | float | str) else None
        if name in _MAPS:
            return {"value": describe(value)}
        if name in _AS_GIVEN:
            return None
        return cut(_text(value), MAX_TEXT_CHARS if name in _TEXTS else MAX_NAME_CHARS)
    except BaseException as error:  # noqa: BLE001 (the agent's own objects are at work here)
        pass_on(error)
        return None


def required_name(value: object, otherwise: str) -> str:
    """A name that must be there, as the worker takes it."""
    text = value if type(value) is str and len(value) <= MAX_NAME_CHARS else cut(_text(value), MAX_NAME_CHARS)
    return text.encode("utf-8", "replace").decode("utf-8") or otherwise


def usable_time(value: object, now: datetime) -> datetime | None:
    """A time that the worker takes at the time `now`, a naive one read as local time; None for what is none."""
    try:
        if not isinstance(value, datetime):
            return None
        zoned = value if value.tzinfo else value.astimezone()
        return zoned if EARLIEST <= zoned <= now + AHEAD else None
    except BaseException as error:  # noqa: BLE001 (times at the edge of the calendar, zones of the agent's own)
        pass_on(error)
        return None


def as_uuid(value: object) -> UUID | None:
    """A UUID, or its text as one."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    try:
        return "" if value is None else str(value)
    except BaseException as error:  # noqa: BLE001 (the agent's own object)
        pass_on(error)
        return describe(value)
