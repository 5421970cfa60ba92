"""The events of a run."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from runlake.sqlfile import load_queries
from runlake_query.parameters import Microseconds, Number, Parameters, encode_cursor
from runlake_query.reader import Snapshot
from runlake_query.runs import find_run

_SQL = load_queries("runlake_query", "events.sql")
EVENT = _SQL["event"]
"""An event as the API shows it: SQL on the columns of `events`."""
_NO_LIMIT = 2**62

PARAMETERS = ("limit", "cursor", "type", "after")


class _Cursor(Struct, array_like=True, frozen=True):
    """The last event of a page: its time in microseconds, and its position."""

    us: Microseconds
    worker: UUID
    seq: Number


class Events(NamedTuple):
    """Events as JSON texts, and the cursor of the next page when there is one."""

    items: list[str]
    next_cursor: str | None


class NeedsLake(Exception):  # noqa: N818 (named by what to do)
    """Some of the events are older than the read model's window: read again, with the lake."""


def list_events(
    snapshot: Snapshot, run_id: str, parameters: Parameters, *, with_lake: bool, only: Sequence[UUID] = ()
) -> Events:
    """The events of the run that `run_id` means; `only` those of these ids, when there are any.

    Raises NotFound, NeedsLake.
    """
    limit = parameters.limit() if parameters.text("limit") or parameters.text("cursor") else _NO_LIMIT
    cursor = parameters.cursor(_Cursor)
    kind = parameters.text("type")
    event_id = find_run(snapshot, run_id)
    loose_run_id, first, last, has_older, since = _bounds(snapshot, event_id)
    if first is None:
        return Events([], None)
    if has_older and not with_lake:
        raise NeedsLake
    values: dict[str, Any] = {"event_id": event_id, "first": first, "last": last, "limit": limit + 1}
    of_run = _SQL["of_run"]
    if loose_run_id is not None:
        of_run = _SQL["of_run_or_loose"]
        values["loose_run_id"] = loose_run_id
    conditions = ["true"]
    if kind is not None:
        conditions.append(_SQL["of_type"])
        values["type"] = kind
    if only:
        conditions.append(_SQL["of_ids"])
        values["ids"] = [str(event_id) for event_id in only]
    if cursor is not None:
        conditions.append(_SQL["after_cursor"])
        values |= {"cursor_time": cursor.us, "cursor_worker": str(cursor.worker), "cursor_seq": cursor.seq}
    parts = {"event": EVENT, "conditions": " AND ".join(conditions)}
    rows = snapshot.rows(_SQL["events"].format(source=_SQL["recent"].format(of_run=of_run), **parts), values)
    if has_older:
        older = _SQL["older"].format(of_run=of_run, lake=snapshot.lake)
        followed = {"since": since, **snapshot.followed()}
        rows += snapshot.lake_rows(_SQL["events"].format(source=older, **parts), values | followed)
        rows.sort(key=itemgetter(1, 2, 3))
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor(_Cursor(rows[-1][1], UUID(rows[-1][2]), rows[-1][3])) if more else None
    return Events([row[0] for row in rows], next_cursor)


def _bounds(snapshot: Snapshot, event_id: str) -> tuple[Any, ...]:
    """The run_id of the loose events that belong to a run, when there are any; and what the query `bounds` says."""
    run_id, *bounds = snapshot.one(_SQL["bounds"], {"event_id": event_id})
    values = {"event_id": event_id, "run_id": run_id, "first": bounds[0], "last": bounds[1]}
    loose = snapshot.rows(_SQL["loose_bounds"], values)
    return loose[0] if loose else (None, *bounds)
