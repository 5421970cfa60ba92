"""Rules for messages that types and bounds cannot say; a pure function of the message and the time.

`wire.decode_*` has checked types, lengths and ranges. Here: times (not before 1970, not more than a day ahead), costs
that fit their column, and free-form maps (string keys, storable values, not too deep, not too large).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from runlake.errors import InvalidMessage
from runlake.messages import CommitAssociated, JsonMap, Message, RunEvent, RunStarted, RunUpdated

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=24)
MAX_MAP_DEPTH = 32
MAX_MAP_VALUES = 10_000
MAX_COST = Decimal(10) ** 9
COST_STEP = Decimal("0.000000001")
_EXACT = Context(prec=28, traps=[])
"""Arithmetic that no caller's decimal context can change."""

_SCALARS = frozenset((str, int, float, bool, type(None), bytes, datetime))
"""What a map may hold besides maps and lists. JSON has no word for some: NaN and infinities are stored as null, bytes
as Base64 (RFC 4648), times as RFC 3339 text."""


def validate(message: Message, now: datetime) -> None:
    """Check a decoded message at the time `now` (with zone). Raises InvalidMessage, which names the field."""
    latest = now + AHEAD
    if isinstance(message, RunEvent):
        _check_time("ts", message.ts, latest)
        if message.payload:
            _check_map("payload", message.payload)
    elif isinstance(message, CommitAssociated):
        _check_time("ts", message.ts, latest)
        if message.commit_timestamp is not None:
            _check_time("commit_timestamp", message.commit_timestamp, latest)
    else:
        if isinstance(message, RunStarted):
            _check_time("start_time", message.start_time, latest)
        else:
            _check_time("ts", message.ts, latest)
        _check_updatable(message, latest)


def _check_updatable(message: RunStarted | RunUpdated, latest: datetime) -> None:
    if message.end_time is not None:
        _check_time("end_time", message.end_time, latest)
    if message.heartbeat_until is not None:
        _check_time("heartbeat_until", message.heartbeat_until, latest)
    if message.commit_timestamp is not None:
        _check_time("commit_timestamp", message.commit_timestamp, latest)
    if message.cost_usd is not None and usable_cost(message.cost_usd) is None:
        raise InvalidMessage("cost_usd: must be a number of dollars, at least 0 and below 10^9", "cost_usd")
    if message.metrics_json:
        _check_map("metrics_json", message.metrics_json)
    if message.context_json:
        _check_map("context_json", message.context_json)


def _check_time(field: str, time: datetime, latest: datetime) -> None:
    # Compared as they are: an offset may lead out of the calendar, where no time can be converted to UTC.
    if EARLIEST <= time <= latest:
        return
    if time < EARLIEST:
        raise InvalidMessage(f"{field}: must not be before 1970-01-01T00:00:00Z", field)
    raise InvalidMessage(f"{field}: must not be more than 24 hours ahead", field)


def usable_cost(cost: Decimal) -> Decimal | None:
    """The cost rounded to its column's nine decimals, or None when it does not fit there."""
    if not cost.is_finite() or cost < 0:
        return None
    rounded = cost.quantize(COST_STEP, context=_EXACT).copy_abs() if cost < MAX_COST else cost
    return rounded if rounded < MAX_COST else None


def _check_map(field: str, value: JsonMap) -> None:
    """String keys, storable values, at most MAX_MAP_DEPTH levels and MAX_MAP_VALUES values; without recursion."""
    level: list[Any] = [value]
    values = 0
    for _ in range(MAX_MAP_DEPTH):
        deeper: list[Any] = []
        for container in level:
            values += len(container)
            if values > MAX_MAP_VALUES:
                raise InvalidMessage(f"{field}: must hold at most {MAX_MAP_VALUES:,} values", field)
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        raise InvalidMessage(f"{field}: keys must be strings, not {key!r:.40}", field)
                items = container.values()
            else:
                items = container
            for item in items:
                kind = type(item)
                if kind in _SCALARS:
                    continue
                if kind is dict or kind is list:
                    deeper.append(item)
                else:
                    raise InvalidMessage(f"{field}: holds a {kind.__name__}, which cannot be stored", field)
        if not deeper:
            return
        level = deeper
    raise InvalidMessage(f"{field}: must be at most {MAX_MAP_DEPTH} levels deep", field)
