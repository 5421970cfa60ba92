"""What RunLake derives from a message at the door: a pure function, so that whoever took it in says the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from runlake.messages import MAX_COUNT, MAX_NAME_CHARS, STATUS_ALIASES, RunStarted, RunUpdated
from runlake.validation import usable_cost


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
