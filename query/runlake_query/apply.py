"""Applying the log to the read model: spans of one worker's positions, each in one transaction.

Rows come from the lake or from the feed, whichever has them first: a source stages them into the temporary tables
`new_changes` and `new_events`. The position stored with the rows decides what is new, so that applying a span twice
changes nothing, whichever way it comes. The lake stays the proof: what a producer's books say is summed from the lake
alone, and what the feed says of them stands beside it until the lake has the segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import duckdb

from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import quote
from runlake.lake.lines import LINE_COLUMNS, columns_literal
from runlake.lake.schema import changes_query, fold_query, present_query
from runlake.sqlfile import load_queries
from runlake_query.positions import Positions

_SQL = load_queries("runlake_query", "apply.sql")
_FOLD = _SQL["fold_changes"].format(
    fold=fold_query(f"{changes_query('new_changes')} UNION ALL BY NAME {_SQL['stored_runs']}")
)
_MERGE = _SQL["merge_runs"].format(present=present_query("folded"))
_MERGE_RANGES = _SQL["merge_ranges"].format(islands=_SQL["islands"].format(ranges=_SQL["new_ranges"]))

_UNREAD = frozenset(("prev_hash", "event_hash", "batch", "number", "messages", "field", "reason", "raw"))
_LINE_COLUMNS = {name: kind for name, kind in LINE_COLUMNS.items() if name not in _UNREAD}
"""What of the journal's lines the read model needs."""
_CHANGE_COLUMNS = ", ".join(field.name for field in CHANGE_FIELDS)
_READ_LINES = _SQL["read_lines"].replace("{columns}", columns_literal(_LINE_COLUMNS))
_BENCH = _SQL["bench"].format(
    line_columns=", ".join(f"{name} {kind}" for name, kind in _LINE_COLUMNS.items()),
    run_columns=", ".join(f"{field.name} {field.sql_type}" for field in CHANGE_FIELDS),
)

_SMALL = 10_000
"""Up to how many new messages the wide queries go as they were planned once; beyond, planning is worth its time."""
_WINDOW_SLACK = timedelta(hours=6)
"""How much older than the window events may get before they are forgotten: one deletion for many."""


class LogMismatch(Exception):  # noqa: N818 (named by what was found)
    """The lake's log of a worker is not the one that the read model was fed: the read model must be built anew."""


class UnreadableLines(Exception):  # noqa: N818 (named by what was found)
    """The lines of the feed are not those of the span: it must come from the lake."""


class Span(NamedTuple):
    """Positions `after` < seq ≤ `upto` of a worker, and its books from `books_after` on."""

    worker: UUID
    after: int
    upto: int
    books_after: int


class Stored(NamedTuple):
    """How far a worker's log is reflected: by whatever way, as the lake has confirmed, and by which segments."""

    seq: int = 0
    lake_seq: int = 0
    segment: int = 0
    feed_segment: int = 0


class Source(Protocol):
    """Where new rows come from."""

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        """Fill the temporary tables of new rows with those of a span."""


class LakeSource:
    """New rows from a copy of the lake's catalog, attached as `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        values = {"worker": str(span.worker), "after": span.after, "upto": span.upto}
        if span.upto > span.after:
            cursor.execute(_SQL["stage_changes"].format(lake=self._name), values)
            cursor.execute(_SQL["stage_events"].format(lake=self._name), values)
        books = {"worker": str(span.worker), "after": span.books_after}
        cursor.execute(_SQL["stage_deliveries"].format(lake=self._name), books)


class Changes(Protocol):
    """Who wants to know what is being applied. On the follower's thread."""

    def applying(self, cursor: duckdb.DuckDBPyConnection, worker: UUID, events: int, runs: int) -> None:
        """In the transaction: `merged` and `new_events` hold what will be visible after the commit."""

    def applied(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        """What was being applied is committed; the read model reflects `positions`."""

    def restarted(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        """The read model was opened, or built anew; it reflects `positions`."""


class Nobody:
    """Wants to know nothing."""

    def applying(self, cursor: duckdb.DuckDBPyConnection, worker: UUID, events: int, runs: int) -> None:
        pass

    def applied(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        pass

    def restarted(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        pass


class Applier:
    """Writes the read model through one cursor, of which nobody else makes use. `lines` is a file of its own."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, lines: Path, changes: Changes | None = None) -> None:
        self._cursor = cursor
        self._lines = lines
        self._changes = changes or Nobody()
        self._ready = False

    def stored(self, worker: UUID) -> Stored:
        """How far this worker's log is reflected."""
        row = self._cursor.execute(_SQL["stored_position"], {"worker": str(worker)}).fetchone()
        return Stored(*row) if row else Stored()

    def apply_lake(self, source: Source, worker: UUID, upto: int, segment: int, *, whole: bool = True) -> int:
        """Bring the read model up to `upto` of what the lake has; returns how many messages that added.

        `segment` is the last journal segment that is complete at `upto`; `whole` says that the lake has no more. Raises
        LogMismatch when the lake ends before what the feed gave of the same segments.
        """
        with self._transaction() as cursor:
            stored = self.stored(worker)
            if upto < stored.lake_seq or (upto == stored.lake_seq and segment <= stored.segment):
                return 0
            if whole and segment >= stored.feed_segment and upto < stored.seq:
                raise LogMismatch
            source.stage(cursor, Span(worker, min(stored.seq, upto), upto, stored.lake_seq))
            at = {"worker": str(worker), "upto": upto}
            counts = cursor.execute(_SQL["count_new"], {"upto": upto}).fetchone()
            changes, events, loose, deliveries = counts or (0, 0, 0, 0)
            self._apply_rows(worker, changes, events, loose, all_events=False)
            if deliveries:
                cursor.execute(_SQL["sum_deliveries"], at)
                cursor.execute(_MERGE_RANGES, at)
                self._each("replace_producers", worker=str(worker))
            reached = max(segment, stored.segment)
            self._each("replace_open_deliveries", **at, segment=reached, whole=whole)
            cursor.execute(_SQL["forget_flushed_events"], at)
            self._advance(worker, stored._replace(seq=max(stored.seq, upto), lake_seq=upto, segment=reached))
            return int(changes) + int(events)

    def apply_feed(self, worker: UUID, segment: int, upto: int, lines: bytes) -> int:
        """Bring the read model up to `upto` from the journal's own lines; returns how many messages that added.

        The lines must follow what is reflected without a gap, and be of one segment. Raises UnreadableLines when they
        do not hold each position once.
        """
        self._lines.write_bytes(lines)
        with self._transaction() as cursor:
            stored = self.stored(worker)
            if segment <= stored.segment:
                return 0
            after = stored.seq
            try:
                cursor.execute(_READ_LINES.replace("{path}", quote(str(self._lines))))
            except duckdb.Error as error:
                raise UnreadableLines(str(error)) from error
            wanted = (upto - after, after + 1, upto) if upto > after else (0, None, None)
            if cursor.execute(_SQL["check_lines"], {"after": after, "upto": upto}).fetchone() != wanted:
                raise UnreadableLines("The lines are not those of the span.")
            values = {"worker": str(worker), "after": after}
            if upto > after:
                cursor.execute(_SQL["lines_to_changes"].format(change_columns=_CHANGE_COLUMNS), values)
                cursor.execute(_SQL["lines_to_events"], values)
            cursor.execute(_SQL["lines_to_open_deliveries"], {**values, "segment": segment})
            counts = cursor.execute(_SQL["count_new"], {"upto": upto}).fetchone()
            changes, events, loose, _ = counts or (0, 0, 0, 0)
            self._apply_rows(worker, changes, events, loose, all_events=True)
            self._advance(worker, stored._replace(seq=max(after, upto), feed_segment=segment))
            return int(changes) + int(events)

    def _apply_rows(self, worker: UUID, changes: int, events: int, loose: int, *, all_events: bool) -> None:
        cursor = self._cursor
        runs = 0
        if changes or events > loose:
            cursor.execute(_SQL["touch"])
            stored, counted, runs = cursor.execute(_SQL["count_touched"]).fetchone() or (0, 0, 0)
            if stored:
                cursor.execute(_SQL["store"])
            if runs:
                small = changes + events <= _SMALL
                cursor.execute("EXECUTE fold_small" if small else _FOLD)
                cursor.execute("EXECUTE merge_small" if small else _MERGE)
                if stored:
                    cursor.execute(_SQL["drop_stored"])
                cursor.execute(_SQL["insert_merged"])
            if counted:
                cursor.execute(_SQL["add_event_counts"])
        if events:
            if loose:
                cursor.execute(_SQL["count_loose_events"])
                self._each("replace_loose_events")
            cursor.execute(_SQL["insert_events"], {"all": all_events})
        if runs or events:
            self._changes.applying(cursor, worker, events, runs)

    def _advance(self, worker: UUID, stored: Stored) -> None:
        self._each("advance", worker=str(worker), **stored._asdict())

    def _each(self, name: str, **values: Any) -> None:
        """Run the statements of a query one by one: DuckDB binds parameters to one statement only."""
        for statement in _SQL[name].split(";\n"):
            self._cursor.execute(statement, {key: value for key, value in values.items() if f"${key}" in statement})

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self._ready:
            self._make_bench()
        with _transaction(self._cursor):
            yield self._cursor
            self._each("clear")

    def _make_bench(self) -> None:
        """Make the temporary tables, and plan the two wide queries on them once: planning is most of a small apply.

        DuckDB plans with what it knows of the tables at that moment (an empty table, so an empty result) and does not
        look again; so these two are planned without the optimizer, which they do not need: they join small tables.
        """
        for statement in _BENCH.split(";\n"):
            self._cursor.execute(statement)
        self._cursor.execute("PRAGMA disable_optimizer")
        try:
            for name, query in (("fold_small", _FOLD), ("merge_small", _MERGE)):
                self._cursor.execute(f"PREPARE {name} AS {query}")
        finally:
            self._cursor.execute("PRAGMA enable_optimizer")
        self._ready = True


def lake_positions(cursor: duckdb.DuckDBPyConnection, lake: str) -> dict[UUID, tuple[int, int]]:
    """For each worker the last `seq` and the last journal segment in the lake attached as `lake`."""
    rows = cursor.execute(_SQL["lake_positions"].format(lake=lake)).fetchall()
    return {UUID(worker): (seq, segment) for worker, seq, segment in rows}


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
