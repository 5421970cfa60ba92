"""Lists of runs, and single runs."""

from __future__ import annotations

import re
from uuid import UUID

from msgspec import Struct

from runlake.fields import DIMENSIONS, RUN_FIELDS, Field
from runlake.sqlfile import load_queries
from runlake_query.filters import SINGLE_FILTERS, where
from runlake_query.jsontext import array, quoted
from runlake_query.parameters import Microseconds, Parameters, encode_cursor
from runlake_query.problems import InvalidParameter, NotFound
from runlake_query.reader import Snapshot

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

LIST_PARAMETERS = ("limit", "offset", "cursor", "after", *SINGLE_FILTERS)
LIST_REPEATABLE = DIMENSIONS


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


def list_runs(snapshot: Snapshot, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/runs`."""
    condition = where(parameters)
    limit, offset = parameters.limit(), parameters.offset()
    cursor = parameters.cursor(_Cursor)
    if cursor is not None and offset:
        raise InvalidParameter("offset", "cannot be combined with cursor")
    (total,) = snapshot.one(_SQL["count"].format(where=condition.sql), condition.values)
    values = {**condition.values, "limit": limit + 1, "offset": offset}
    after = "true"
    if cursor is not None:
        after = _SQL["after_cursor"]
        values |= {"cursor_time": cursor.start_us, "cursor_id": str(cursor.event_id)}
    rows = snapshot.rows(_SQL["page"].format(run=RUN, where=condition.sql, after=after), values)
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor(_Cursor(rows[-1][1], UUID(rows[-1][2]))) if more else None
    return (
        f'{{"runs":{array(row[0] for row in rows)},"total":{total},"limit":{limit},"offset":{offset},'
        f'"next_cursor":{quoted(next_cursor)}}}'
    ).encode()


def find_run(snapshot: Snapshot, run_id: str) -> str:
    """The event_id of the run that `{run_id}` in a path means. Raises NotFound."""
    return _find(snapshot, run_id, "event_id::VARCHAR")


def show_run(snapshot: Snapshot, run_id: str) -> bytes:
    """The body of `GET /api/v1/runs/{run_id}`. Raises NotFound."""
    return _find(snapshot, run_id, RUN).encode()


def _find(snapshot: Snapshot, run_id: str, columns: str) -> str:
    event_id = run_id if _UUID.fullmatch(run_id) else None
    rows = snapshot.rows(_SQL["find"].format(columns=columns), {"run_id": run_id, "event_id": event_id})
    if not rows:
        raise NotFound(f"Run not found: {run_id}")
    return str(rows[0][0])
