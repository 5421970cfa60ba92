"""Applying the log to the read model: one span of one worker's positions, in one transaction.

Where the rows come from is the source's business: it stages them into the temporary tables `new_changes`, `new_events`
and `new_deliveries`. The position stored with the rows decides what is new, so applying a span twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import duckdb

from runlake.lake.schema import changes_query, fold_query, present_query
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake_query", "apply.sql")
_FOLD = _SQL["fold_changes"].format(
    fold=fold_query(f"{changes_query('new_changes')} UNION ALL BY NAME {_SQL['stored_runs']}")
)
_MERGE = _SQL["merge_runs"].format(present=present_query("folded"))
_MERGE_RANGES = _SQL["merge_ranges"].format(islands=_SQL["islands"].format(ranges=_SQL["new_ranges"]))

_KEEP_STAGED = 10_000
"""How many new messages may stay in the temporary tables until the next span replaces them."""
_WINDOW_SLACK = timedelta(hours=6)
"""How much older than the window events may get before they are forgotten: one deletion for many."""


class Span(NamedTuple):
    """Positions `after` < seq ≤ `upto` of a worker. `segment` is the last journal segment that they complete."""

    worker: UUID
    after: int
    upto: int
    segment: int


class Source(Protocol):
    """Where new rows come from."""

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        """Fill the three temporary tables with the rows of a span."""


class LakeSource:
    """New rows from a copy of the lake's catalog, attached as `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        values = {"worker": str(span.worker), "after": span.after, "upto": span.upto}
        cursor.execute(_SQL["stage_changes"].format(lake=self._name), values)
        cursor.execute(_SQL["stage_events"].format(lake=self._name), values)
        cursor.execute(_SQL["stage_deliveries"].format(lake=self._name), _only(values, "worker", "after"))


def lake_positions(cursor: duckdb.DuckDBPyConnection, lake: str) -> dict[UUID, tuple[int, int]]:
    """For each worker the last `seq` and the last journal segment in the lake attached as `lake`."""
    rows = cursor.execute(_SQL["lake_positions"].format(lake=lake)).fetchall()
    return {UUID(worker): (seq, segment) for worker, seq, segment in rows}


def apply_span(cursor: duckdb.DuckDBPyConnection, source: Source, worker: UUID, upto: int, segment: int) -> int:
    """Bring the read model up to `upto` of a worker; returns how many messages that added.

    `segment` is the last journal segment that is whole at `upto`, or the one before when the span ends within one.
    """
    with _transaction(cursor):
        stored = cursor.execute(_SQL["stored_position"], {"worker": str(worker)}).fetchone()
        after, done = stored or (0, 0)
        if upto < after or (upto == after and segment <= done):
            return 0
        source.stage(cursor, Span(worker, after, upto, segment))
        at = {"worker": str(worker), "upto": upto}
        counts = cursor.execute(_SQL["count_new"], {"upto": upto}).fetchone()
        changes, events, loose, deliveries = counts or (0, 0, 0, 0)
        if changes:
            cursor.execute(_FOLD)
            cursor.execute(_MERGE)
            _each(cursor, "replace_runs")
        if events:
            if events > loose:
                cursor.execute(_SQL["count_events"])
                cursor.execute(_SQL["make_missing_runs"])
                cursor.execute(_SQL["add_event_counts"])
            if loose:
                cursor.execute(_SQL["count_loose_events"])
                _each(cursor, "replace_loose_events")
            cursor.execute(_SQL["insert_events"])
        if deliveries:
            cursor.execute(_SQL["sum_deliveries"], at)
            cursor.execute(_MERGE_RANGES, at)
            _each(cursor, "replace_producers", worker=str(worker))
        _each(cursor, "replace_open_deliveries", **at)
        _each(cursor, "advance", **at, segment=max(segment, done))
        if changes + events > _KEEP_STAGED:
            _each(cursor, "release")
        return int(changes) + int(events)


def move_window(cursor: duckdb.DuckDBPyConnection, since: datetime, lake: str) -> None:
    """Keep the run events from `since` on in the read model: forget older ones, or fetch them from the lake."""
    row = cursor.execute(_SQL["events_since"]).fetchone()
    stored = datetime.fromtimestamp(row[0] / 1_000_000, UTC) if row else since
    if stored <= since < stored + _WINDOW_SLACK:
        return
    values = {"since": since.isoformat()}
    with _transaction(cursor):
        if since < stored:
            cursor.execute(_SQL["remember_events"].format(lake=lake), values)
        else:
            cursor.execute(_SQL["forget_events"], values)
        cursor.execute(_SQL["set_events_since"], values)


def _each(cursor: duckdb.DuckDBPyConnection, name: str, **values: Any) -> None:
    """Run the statements of a query one by one: DuckDB binds parameters to one statement only."""
    for statement in _SQL[name].split(";\n"):
        cursor.execute(statement, {key: value for key, value in values.items() if f"${key}" in statement})


def _only(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
            cursor.execute("ROLLBACK")
        raise
