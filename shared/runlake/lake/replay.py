"""The log of a lake as the messages that it was made of, in its order: what a lake can be made of again.

Workers come one after another, as their logs began (a lake has one worker at a time; one that was restored has another
one from then on), and each in the order of its positions. A message has what the log has of it: what RunLake derived at
the door (a canonical status, token counts from `metrics_json`) is in it as if it had been said, and is derived again to
the same. Read in spans, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import duckdb
import msgspec

from runlake.fields import CHANGE_FIELDS, Field
from runlake.messages import Message
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "replay.sql")
_SPAN = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Logged(NamedTuple):
    """A message of the log, and where and when it was received."""

    worker: str
    seq: int
    received_at: datetime
    producer: str
    message: Message


class _Head(msgspec.Struct):
    """What a line of a log that was written to a file says beside the message."""

    worker: str
    seq: int
    received_at: datetime
    producer: str


class Stretch(NamedTuple):
    """Positions `after` < seq ≤ `upto` of a worker."""

    worker: str
    after: int
    upto: int


_head: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)


def stretches(
    connection: duckdb.DuckDBPyConnection, lake: str, after: Mapping[str, int], until: Mapping[str, int] | None
) -> list[Stretch]:
    """What follows the positions `after` and is not beyond `until` (None: to the end), by worker, in the order of the
    log. Workers that `after` does not name begin at their start; those that `until` does not name have nothing.

    Raises duckdb.Error.
    """
    found = []
    for worker, first, last in connection.execute(_SQL["workers"].format(lake=lake)).fetchall():
        begin = max(after.get(worker, 0), first - 1)
        end = last if until is None else min(last, until.get(worker, 0))
        if end > begin:
            found.append(Stretch(worker, begin, end))
    return found


def count_messages(connection: duckdb.DuckDBPyConnection, lake: str, found: list[Stretch]) -> int:
    """How many messages these stretches hold. Raises duckdb.Error."""
    total = 0
    for stretch in found:
        row = connection.execute(_SQL["count"].format(lake=lake), stretch._asdict()).fetchone()
        total += int(row[0]) if row else 0
    return total


def read_log(connection: duckdb.DuckDBPyConnection, lake: str, found: list[Stretch]) -> Iterator[Logged]:
    """The messages of these stretches. Raises duckdb.Error."""
    query = _SQL["messages"].format(
        lake=lake, ts=_SQL["time"].format(name="ts"), change_fields=", ".join(map(_pair, CHANGE_FIELDS))
    )
    for worker, begin, upto in found:
        for after in range(begin, upto, _SPAN):
            values = {"worker": worker, "after": after, "upto": min(after + _SPAN, upto)}
            rows = connection.execute(query, values).fetchall()
            for seq, us, producer, text in rows:
                yield Logged(worker, seq, _EPOCH + timedelta(microseconds=us), producer, _decoder.decode(text))


def read_line(line: bytes) -> Logged:
    """A message as a line of a file has it: one JSON object. Raises msgspec.DecodeError."""
    head = _head.decode(line)
    return Logged(head.worker, head.seq, head.received_at, head.producer, _decoder.decode(line))


def _pair(field: Field) -> str:
    name, sql_type, _ = field
    match sql_type:
        case "TIMESTAMPTZ":
            return f"'{name}', {_SQL['time'].format(name=name)}"
        case "DECIMAL(18,9)":  # as text, exactly
            return f"'{name}', {name}::VARCHAR"
        case _:
            return f"'{name}', {name}"
