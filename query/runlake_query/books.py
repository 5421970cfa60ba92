"""Producers and their books, and the messages that were refused."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from runlake.sqlfile import load_queries
from runlake_query.jsontext import array, quoted
from runlake_query.parameters import Microseconds, Number, Parameters, encode_cursor
from runlake_query.problems import NotFound
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "books.sql")
_ISLANDS = load_queries("runlake_query", "apply.sql")["islands"].format(ranges=_SQL["all_ranges"])
_PRODUCERS = _SQL["producers"].format(islands=_ISLANDS)
_REFUSED = _SQL["refused"].format(id=_SQL["refused_id"])
_END_OF_TIME_US = 253_402_300_799_000_000  # 9999-12-31T23:59:59Z

PRODUCER_PARAMETERS = ("limit", "offset", "after")
QUARANTINE_PARAMETERS = ("limit", "cursor", "after")


class _Cursor(Struct, array_like=True, frozen=True):
    """The time of the last refused message of a page, and how many of that time were shown."""

    until_us: Microseconds
    shown: Number


def list_producers(snapshot: Snapshot, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/producers`."""
    limit, offset = parameters.limit(), parameters.offset()
    (total,) = snapshot.one(_SQL["count_producers"])
    rows = snapshot.rows(_PRODUCERS, {"limit": limit, "offset": offset})
    items = array(row[0] for row in rows)
    return f'{{"producers":{items},"total":{total},"limit":{limit},"offset":{offset}}}'.encode()


class RefusedMessage(NamedTuple):
    """A refused message as the API shows it, and the bytes that came."""

    shown: str
    raw: bytes


def find_refused(snapshot: Snapshot, identity: str) -> RefusedMessage:
    """The refused message of this id. Reads the lake. Raises NotFound."""
    query = _SQL["refused_one"].format(lake=snapshot.lake, refused=_REFUSED, id=_SQL["refused_id"])
    rows = snapshot.lake_rows(query, {"id": identity})
    if not rows:
        raise NotFound(f"Refused message not found: {identity}")
    return RefusedMessage(*rows[0])


def list_quarantine(snapshot: Snapshot, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/quarantine`. Reads the lake."""
    limit = parameters.limit()
    cursor = parameters.cursor(_Cursor) or _Cursor(_END_OF_TIME_US, 0)
    ((total, messages),) = snapshot.lake_rows(_SQL["count_quarantine"].format(lake=snapshot.lake))
    values = {"until": cursor.until_us, "skip": cursor.shown, "limit": limit + 1}
    rows = snapshot.lake_rows(_SQL["quarantine"].format(lake=snapshot.lake, refused=_REFUSED), values)
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = None
    if more:
        until = rows[-1][1]
        shown = sum(row[1] == until for row in rows) + (cursor.shown if until == cursor.until_us else 0)
        next_cursor = encode_cursor(_Cursor(until, shown))
    return (
        f'{{"quarantine":{array(row[0] for row in rows)},"total":{total},"messages":{messages},"limit":{limit},'
        f'"next_cursor":{quoted(next_cursor)}}}'
    ).encode()
