"""Lists of runs, and single runs."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from msgspec import Struct

from runlake.fields import DIMENSIONS, RUN_FIELDS, Field
from runlake.sqlfile import load_queries
from runlake_query.filters import SINGLE_FILTERS, Where, where
from runlake_query.jsontext import array, quoted
from runlake_query.parameters import Microseconds, Parameters, encode_cursor
from runlake_query.problems import InvalidParameter, NotFound
from runlake_query.reader import Snapshot
from runlake_query.totals import Totals

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

LIST_PARAMETERS = ("limit", "offset", "cursor", "after", *SINGLE_FILTERS)
LIST_REPEATABLE = DIMENSIONS
_ROWS = 1_100
"""How many runs between the edges of a page are looked at; more than `late_materialization_max_rows`."""


def _shown(field: Field) -> str:
    match field.sql_type:
        case "TIMESTAMPTZ":
            return f"'{field.name}', rfc3339({field.name})"
        case _:
            return f"'{field.name}', {field.name}"


RUN = f"json_object({', '.join(map(_shown, RUN_FIELDS))})"
_SQL = load_queries("runlake_query", "runs.sql")


class _Cursor(Struct, array_like=True, frozen=True):
    """The last run of a page: its start in microseconds, and its event_id."""

    start_us: Microseconds
    event_id: UUID


def list_runs(snapshot: Snapshot, parameters: Parameters, totals: Totals | None = None) -> bytes:
    """The body of `GET /api/v1/runs`. `totals` remembers what was counted already."""
    condition = where(parameters)
    limit, offset = parameters.limit(), parameters.offset()
    cursor = parameters.cursor(_Cursor)
    if cursor is not None and offset:
        raise InvalidParameter("offset", "cannot be combined with cursor")

    def count() -> int:
        (found,) = snapshot.one(_SQL["count"].format(where=condition.sql), condition.values)
        return int(found)

    total = totals.of(condition, snapshot.positions, count) if totals else count()
    rows = _page(snapshot, condition, limit, offset, cursor) if offset < total else []
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor(_Cursor(rows[-1][1], UUID(rows[-1][2]))) if more else None
    return (
        f'{{"runs":{array(row[0] for row in rows)},"total":{total},"limit":{limit},"offset":{offset},'
        f'"next_cursor":{quoted(next_cursor)}}}'
    ).encode()


def _page(
    snapshot: Snapshot, condition: Where, limit: int, offset: int, cursor: _Cursor | None
) -> list[tuple[Any, ...]]:
    """The runs of a page, and one more when there is one: those between the starts of its first and its last run."""
    values = dict(condition.values)
    before, conditions = "true", [condition.sql]
    if cursor is not None:
        before = _SQL["before_cursor"]
        conditions.append(_SQL["after_cursor"])
        values |= {"cursor_time": cursor.start_us}

    def edge(place: int) -> str | None:
        query = _SQL["edge"].format(where=condition.sql, before=before)
        found = snapshot.rows(query, {**values, "place": place})
        return str(found[0][0]) if found else None

    bounds: dict[str, Any] = {}
    skip = 0
    if offset:
        bounds["upper"] = edge(offset)
        (newer,) = snapshot.one(
            _SQL["count_newer"].format(where=condition.sql), {**condition.values, "upper": bounds["upper"]}
        )
        skip = offset - newer
        conditions.append(_SQL["not_after"])
    lower = edge(offset + limit)
    if lower is not None:
        bounds["lower"] = lower
        conditions.append(_SQL["not_before"])
    if cursor is not None:
        bounds["cursor_id"] = str(cursor.event_id)
    query = _SQL["page"].format(run=RUN, where=" AND ".join(conditions))
    # The limit cuts runs that start together; below 1,001 DuckDB would join on row numbers.
    rows = snapshot.rows(query, {**values, **bounds, "rows": max(limit + 1, _ROWS), "skip": skip})
    return rows[: limit + 1]


def find_run(snapshot: Snapshot, run_id: str) -> str:
    """The event_id of the run that `{run_id}` in a path means. Raises NotFound."""
    return _find(snapshot, run_id, "event_id::VARCHAR")


def show_run(snapshot: Snapshot, run_id: str) -> bytes:
    """The body of `GET /api/v1/runs/{run_id}`. Raises NotFound."""
    return _find(snapshot, run_id, RUN).encode()


def _find(snapshot: Snapshot, run_id: str, columns: str) -> str:
    rows = snapshot.rows(_SQL["find_by_run_id"].format(columns=columns), {"name": run_id})
    if not rows and _UUID.fullmatch(run_id):
        rows = snapshot.rows(_SQL["find_by_event_id"].format(columns=columns), {"name": run_id})
    if not rows:
        raise NotFound(f"Run not found: {run_id}")
    return str(rows[0][0])
