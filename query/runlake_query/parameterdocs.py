"""What the OpenAPI document says of parameters: those of the path, of the query, and of the header."""

from __future__ import annotations

from typing import Any

from runlake.fields import CHANGE_FIELDS, DIMENSIONS
from runlake_query.parameters import DEFAULT_LIMIT, MAX_LIMIT


def _one(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"schema": schema, "description": description}


def _text(description: str, **schema: Any) -> dict[str, Any]:
    return _one({"type": "string", **schema}, description)


def _several(description: str, **items: Any) -> dict[str, Any]:
    schema = {"type": "array", "items": {"type": "string", **items}, "maxItems": 1_000}
    return {**_one(schema, description), "style": "form", "explode": True}


def _time(description: str) -> dict[str, Any]:
    return _text(description, format="date-time")


def _count(description: str, **schema: Any) -> dict[str, Any]:
    return _one({"type": "integer", "minimum": 0, "maximum": 2**63 - 1, **schema}, description)


PATHS = {
    "run_id": _text("A run_id (the most recently created run of it), or an event_id; URL-encoded", minLength=1),
    "event_id": _text("The event_id of a run", format="uuid"),
    "id": _text("What a refused message is called in the quarantine", pattern="^[0-9a-f]{32}$"),
    "sha": _text("A commit hash, or the first 4 or more characters of one", pattern="^[0-9a-zA-Z]{4,40}$"),
}
HEADERS = {
    "Last-Event-ID": _text("The id of the last event that was received: the stream goes on after it"),
    "Idempotency-Key": _text("A UUID that makes a retry safe; best a UUIDv7", format="uuid"),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    **{name: _several(f"Runs whose {name} is any of these") for name in DIMENSIONS},
    "status": _several(
        "Runs whose status is any of these",
        enum=[
            *("running", "success", "failure", "partial", "timeout", "cancelled"),
            *("failed", "completed", "succeeded"),
        ],
    ),
    "start_time_from": _time("Runs that started at this time or later"),
    "start_time_to": _time("Runs that started before this time"),
    "created_after": _time("Runs that were recorded after this time"),
    "created_before": _time("Runs that were recorded before this time"),
    "min_duration_ms": _count("Runs that took at least this long, milliseconds"),
    "max_duration_ms": _count("Runs that took at most this long, milliseconds"),
    "q": _text("Text in names and summaries"),
    "stale": _one(
        {"type": "boolean"}, "Running runs whose promised sign of life has not come (true), or all others (false)"
    ),
    "root": _one({"type": "boolean"}, "Runs without a parent (true), or with one (false)"),
    "limit": _count("How many at most", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
    "offset": _count("How many to leave out first; prefer `cursor`", default=0),
    "cursor": _text("The next_cursor of an earlier answer"),
    "after": _text(
        "A position: answer once it is reflected", pattern=r"^[0-9a-f-]{36}:[0-9]+(,[0-9a-f-]{36}:[0-9]+)*$"
    ),
    "type": _text("Events of this type"),
    "ts_from": _time("Events of this time or later"),
    "ts_to": _time("Events before this time"),
    "format": _text(
        "The format of the answer, before `Accept`: `json`, `csv`, `ndjson`, `parquet`; of SQL also `arrow`; of"
        " runs and rollups also `sql`: the question as a SELECT"
    ),
    "depth": _count("How many levels below the root to list; totals are of all", maximum=50, default=50),
    "field": _text("Changes that set this field", enum=[field.name for field in CHANGE_FIELDS]),
    "dimension": _text("Whose values to list", enum=list(DIMENSIONS), default="agent_name"),
    "prefix": _text("Values that begin so, whatever the case of their letters"),
    "group_by": _text(f"Up to 4 of {', '.join(DIMENSIONS)}, separated by commas"),
    "bucket": _text("Buckets of start_time", enum=["minute", "hour", "day", "week", "month"]),
    "tz": _text("The IANA time zone of the buckets", default="UTC"),
    "measures": _text("Measures, separated by commas"),
    "order_by": _text(
        "Columns to sort by, separated by commas; with `-` before those that descend. Of runs: one column, nulls last"
    ),
}
