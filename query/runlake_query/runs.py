"""Lists of runs, and single runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from runlake.fields import CHANGE_FIELDS, DIMENSIONS, RUN_FIELDS, Field
from runlake.sqlfile import load_queries
from runlake_query import runorder
from runlake_query.filters import SINGLE_FILTERS, Where, where
from runlake_query.jsontext import array, quoted
from runlake_query.newest import NewestPages, Place
from runlake_query.parameters import Microseconds, Parameters, encode_cursor
from runlake_query.positions import Positions
from runlake_query.problems import InvalidParameter, NotFound
from runlake_query.reader import Snapshot
from runlake_query.runcounts import COUNTED
from runlake_query.starttimes import StartTimes
from runlake_query.totals import Totals

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

LIST_PARAMETERS = ("limit", "offset", "cursor", "after", "order_by", *SINGLE_FILTERS)
LIST_REPEATABLE = DIMENSIONS


def _shown(field: Field) -> str:
    match field.sql_type:
        case "TIMESTAMPTZ":
            return f"'{field.name}', rfc3339({field.name})"
        case _:
            return f"'{field.name}', {field.name}"


RUN = f"json_object({', '.join(map(_shown, RUN_FIELDS))})"
_SETTABLE = frozenset(field.name for field in CHANGE_FIELDS) - {"duration_ms", "cost_usd"}
"""Fields that no run has unless somebody has set them."""
_SQL = load_queries("runlake_query", "runs.sql")


class _Cursor(Struct, array_like=True, frozen=True):
    """The last run of a page: its start in microseconds, and its event_id."""

    start_us: Microseconds
    event_id: UUID


class ListMemory(NamedTuple):
    """What is known of lists without looking at all runs again."""

    totals: Totals
    newest: NewestPages
    starts: StartTimes
    bodies: Callable[[Sequence[UUID], Positions], Mapping[UUID, bytes]]
    """Those runs that are in memory, as they are at exactly these positions."""


def list_runs(snapshot: Snapshot, parameters: Parameters, memory: ListMemory | None = None) -> bytes:
    """The body of `GET /api/v1/runs`."""
    condition = where(parameters)
    limit, offset = parameters.limit(), parameters.offset()
    order = runorder.order(parameters)
    cursor = parameters.cursor(_Cursor) if order is None else None
    if parameters.text("cursor") is not None and offset:
        raise InvalidParameter("offset", "cannot be combined with cursor")

    def count() -> int:
        query = _SQL["sum_of_counts" if condition.filters <= COUNTED else "count"]
        (found,) = snapshot.one(query.format(where=condition.sql, shown=snapshot.shown), condition.values)
        return int(found)

    total = memory.totals.of(condition, snapshot.state, count) if memory else count()
    if order is not None:
        page = runorder.sorted_page(snapshot, parameters, order, condition.sql, condition.values, limit)
        return _listed(_bodies(snapshot, page.places, memory), total, limit, offset, page.next_cursor)
    if offset >= total:
        places: list[Place] = []
    elif cursor is None and not offset and limit < total and memory is not None:
        places = _first_page(snapshot, condition, limit, total, memory)
    else:
        places = _nearest_page(snapshot, condition, limit, offset, cursor, total, memory)
    more = len(places) > limit
    places = places[:limit]
    next_cursor = encode_cursor(_Cursor(*places[-1])) if more else None
    return _listed(_bodies(snapshot, places, memory, condition), total, limit, offset, next_cursor)


def _listed(bodies: list[str], total: int, limit: int, offset: int, next_cursor: str | None) -> bytes:
    return (
        f'{{"runs":{array(bodies)},"total":{total},"limit":{limit},"offset":{offset},'
        f'"next_cursor":{quoted(next_cursor)}}}'
    ).encode()


def _first_page(snapshot: Snapshot, condition: Where, limit: int, total: int, memory: ListMemory) -> list[Place]:
    """The first page and one run more, of a list that has as many: looked for from where it ended last."""
    newest = memory.newest
    end = newest.end(condition, limit, total)
    if end is not None:
        places = _page(snapshot, condition, limit, 0, None, end)
        if len(places) > limit:
            return places
    places = _nearest_page(snapshot, condition, limit, 0, None, total, memory)
    if len(places) > limit:
        newest.ended(condition, limit, total, places[-1])
    return places


def _nearest_page(
    snapshot: Snapshot, condition: Where, limit: int, offset: int, cursor: _Cursor | None, total: int,
    memory: ListMemory | None,
) -> list[Place]:  # fmt: skip
    """A page and one run more when there is one: looked for in a stretch of the history, and then in all of it."""
    if memory is not None:
        since = memory.starts.since(snapshot, offset + limit + 1, total, cursor.start_us if cursor else None)
        if since is not None:
            bound = f"{condition.sql} AND {_SQL['since']}"
            bounded = condition._replace(sql=bound, values={**condition.values, "since": since})
            places = _page(snapshot, bounded, limit, offset, cursor)
            if len(places) > limit:
                return places
    return _page(snapshot, condition, limit, offset, cursor)


def _page(
    snapshot: Snapshot, condition: Where, limit: int, offset: int, cursor: _Cursor | None, end: Place | None = None
) -> list[Place]:
    """The runs of a page, and one more when there is one; of those up to `end` only."""
    conditions, values = [condition.sql], dict(condition.values)
    if cursor is not None:
        conditions.append(_SQL["after_cursor"])
        values |= {"cursor_time": cursor.start_us, "cursor_id": str(cursor.event_id)}
    if end is not None:
        conditions.append(_SQL["not_after_end"])
        values |= {"end_time": end.start_us, "end_id": str(end.event_id)}
    query = _SQL["page"].format(where=" AND ".join(conditions), shown=snapshot.shown)
    rows = snapshot.rows(query, {**values, "rows": limit + 1, "skip": offset})
    return [Place(start_us, UUID(event_id)) for start_us, event_id in rows]


def _bodies(
    snapshot: Snapshot, places: list[Place], memory: ListMemory | None, condition: Where | None = None
) -> list[str]:
    """The runs at these places as JSON texts; `condition`: they are consecutive ones, newest first, of those that it
    leaves."""
    ids = [place.event_id for place in places]
    known = memory.bodies(ids, snapshot.positions) if memory else {}
    found = {event_id: body.decode() for event_id, body in known.items()}
    missing = [place for place in places if place.event_id not in found]
    if missing and condition is not None and memory is not None and memory.starts.any(snapshot):
        first, end = missing[0], missing[-1]
        conditions = (condition.sql, _SQL["not_before_first"], _SQL["not_after_end"])
        query = _SQL["bodies_of_page"].format(
            run=_run_of(snapshot.used_fields()), shown=snapshot.shown, where=" AND ".join(conditions)
        )
        values = {
            **condition.values,
            "first_time": first.start_us,
            "first_id": str(first.event_id),
            "end_time": end.start_us,
            "end_id": str(end.event_id),
            "rows": len(places),
        }
        rows = snapshot.rows(query, values)
        found |= {UUID(event_id): body for event_id, body in rows}
    elif missing:
        rows = snapshot.of_lists(
            _SQL["bodies"].format(run=RUN),
            [str(place.event_id) for place in missing],
            [place.start_us for place in missing],
        )
        found |= {UUID(event_id): body for event_id, body in rows}
    return [found[event_id] for event_id in ids]


def _run_of(used: frozenset[str]) -> str:
    """The Run object where no run has any other fields than `used` ones."""
    unused = _SETTABLE - used
    shown = (f"'{field.name}', NULL" if field.name in unused else _shown(field) for field in RUN_FIELDS)
    return f"json_object({', '.join(shown)})"


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
