"""The history of a run: every accepted change, with its position, its times, its producer and the fields that it set.

The read model keeps what a run is, and the lake keeps what was said; so histories come from the lake, which may be a
flush behind what the read model reflects.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from runlake.fields import CHANGE_FIELDS, Field
from runlake.sqlfile import load_queries
from runlake_query.jsontext import encode, quoted
from runlake_query.parameters import Number, Parameters, encode_cursor, one_of
from runlake_query.reader import Snapshot
from runlake_query.runs import find_run

_SQL = load_queries("runlake_query", "history.sql")
_FIELD_NAMES = tuple(field.name for field in CHANGE_FIELDS)
_ABSENT = Raw(b"null")

PARAMETERS = ("field", "limit", "cursor", "after")


def _said(field: Field) -> str:
    value = f"rfc3339({field.name})" if field.sql_type == "TIMESTAMPTZ" else field.name
    return f"'{field.name}', {value}"


_FIELDS = f"json_object({', '.join(map(_said, CHANGE_FIELDS))})"
_decode = msgspec.json.Decoder(dict[str, Raw]).decode


class _Cursor(Struct, array_like=True, frozen=True):
    """The position of the last change of a page."""

    worker: UUID
    seq: Number


class History(NamedTuple):
    """A body, and whether the lake has all that the read model reflects of the run."""

    body: bytes
    complete: bool


def show_history(snapshot: Snapshot, run_id: str, parameters: Parameters) -> History:
    """The body of `GET /api/v1/runs/{run_id}/history`. Reads the lake. Raises NotFound, InvalidParameter."""
    limit, cursor, field = parameters.limit(), parameters.cursor(_Cursor), parameters.text("field")
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit + 1}
    if field is not None:
        conditions.append(_SQL["of_field"].format(field=one_of("field", field, _FIELD_NAMES)))
    if cursor is not None:
        conditions.append(_SQL["after_cursor"])
        values |= {"cursor_worker": str(cursor.worker), "cursor_seq": cursor.seq}
    event_id = find_run(snapshot, run_id)
    complete, since, until = snapshot.one(_SQL["run"], {"event_id": event_id})
    query = _SQL["changes"].format(lake=snapshot.lake, fields=_FIELDS, conditions=" AND ".join(conditions))
    values |= {"event_id": event_id, "since": since, "until": until, **snapshot.followed()}
    rows = snapshot.lake_rows(query, values)
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor(_Cursor(UUID(rows[-1][0]), rows[-1][1])) if more else None
    changes = ",".join(_change(*row) for row in rows)
    body = (
        f'{{"event_id":"{event_id}","changes":[{changes}],"complete":{"true" if complete else "false"},'
        f'"limit":{limit},"next_cursor":{quoted(next_cursor)}}}'
    )
    return History(body.encode(), bool(complete))


def _change(
    worker: str, seq: int, received_at: str, producer: str, kind: str, event_id: str, ts: str, fields: str
) -> str:
    said = {name: value for name, value in _decode(fields).items() if value != _ABSENT}
    return (
        f'{{"position":"{worker}:{seq}","received_at":"{received_at}","producer":{quoted(producer)},"kind":"{kind}",'
        f'"event_id":"{event_id}","ts":"{ts}","fields":{encode(said).decode()}}}'
    )
