"""The filters on every list and rollup: from query parameters to one SQL condition on shown runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from runlake.fields import DIMENSIONS
from runlake.messages import STATUS_ALIASES
from runlake.sqlfile import load_queries
from runlake_query.parameters import Parameters, one_of

_SQL = load_queries("runlake_query", "filters.sql")

_STATUSES = ("running", "success", "failure", "partial", "timeout", "cancelled", *STATUS_ALIASES)
_TIMES = ("start_time_from", "start_time_to", "created_after", "created_before")
_DURATIONS = ("min_duration_ms", "max_duration_ms")

SINGLE_FILTERS: tuple[str, ...] = (*_TIMES, *_DURATIONS, "q", "root", "stale")
"""Filters that are given once."""
STALE_AT = "stale_at"
"""The name of the bound value that says at which time runs are stale, after a prefix."""


class Where(NamedTuple):
    """A condition, the values that it binds, and the names of the filters that it is made of."""

    sql: str
    values: dict[str, Any]
    filters: frozenset[str]


def where(parameters: Parameters, prefix: str = "") -> Where:
    """The condition that all given filters make together; `true` without any. Raises InvalidParameter.

    `prefix` goes before the names of bound values, so that several conditions fit into one query.
    """
    conditions: list[str] = []
    filters: set[str] = set()
    values: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if value is not None:
            filters.add(name)
            values[f"{prefix}{name}"] = value
            conditions.append(_SQL[name].format(value=f"${prefix}{name}"))

    for column in DIMENSIONS:
        given = parameters.all(column)
        if column == "status":
            given = [STATUS_ALIASES.get(one_of("status", value, _STATUSES), value) for value in given]
        if given:
            bound = {f"{prefix}{column}_{number}": value for number, value in enumerate(given)}
            values.update(bound)
            filters.add(column)
            names = ", ".join(f"${name}" for name in bound)
            conditions.append(_SQL["any_of"].format(column=column, value=names))
    for name in _TIMES:
        time = parameters.time(name)
        add(name, time.isoformat() if time else None)
    for name in _DURATIONS:
        add(name, parameters.integer(name))
    add("q", parameters.text("q") or None)
    add("root", parameters.boolean("root"))
    if (stale := parameters.boolean("stale")) is not None:
        filters.add("stale")
        values |= {f"{prefix}stale": stale, f"{prefix}{STALE_AT}": parameters.now().isoformat()}
        conditions.append(_SQL["stale"].format(value=f"${prefix}stale", is_stale=is_stale(prefix)))
    return Where("\n    AND ".join(conditions) or "true", values, frozenset(filters))


def is_stale(prefix: str = "") -> str:
    """Whether a run is stale, as SQL that binds a time as STALE_AT."""
    return _SQL["is_stale"].format(at=f"${prefix}{STALE_AT}")
