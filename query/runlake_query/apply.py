"""Applying the log to the read model: spans of one worker's positions, each in one transaction.

Rows come from the lake or from the feed, whichever has them first. The position stored with the rows decides what is
new, so that applying a span twice changes nothing, whichever way it comes. The lake stays the proof: what a producer's
books say is summed from the lake alone, and what the feed says of them stands beside it until the lake has the segment.

What a span changes is in temporary tables until the commit: `touched` and `merged` (its runs), `new_events`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import duckdb

from runlake.lake.duck import quote
from runlake_query import largespan
from runlake_query.applystatements import (
    ASSOCIATE,
    BENCH,
    BOOKS,
    LOOSE,
    MERGE_ALONE,
    MERGE_FROM_LAKE,
    PREPARED,
    RECOUNT_UNSTARTED,
    SQL,
    fields_of,
    of_worker,
)
from runlake_query.copies import Copy
from runlake_query.feedlines import FeedRows, UnreadableLines, sort_lines
from runlake_query.fieldsused import FieldsUsed
from runlake_query.largespan import SpanRows, apply_rows, span_rows
from runlake_query.merges import Merges
from runlake_query.positions import Positions
from runlake_query.runcounts import COUNTED, RunCounts

_WINDOW_SLACK = timedelta(hours=6)
"""How much older than the window events may get before they are forgotten: one deletion for many."""
LEAP = "more was applied at once than a stream can tell"
"""Why those who listen to a stream are told nothing of some changes."""
_MAX_BATCHES = 20_000
"""Of how many batches at once the books are read ahead."""
_REFUSED = (
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
    duckdb.OutOfRangeException,
)
"""How DuckDB says that rows do not fit their columns."""


class LogMismatch(Exception):  # noqa: N818 (named by what was found)
    """The lake's log of a worker is not the one that the read model was fed: the read model must be built anew."""


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
    """Where new rows come from, other than the feed."""

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        """Fill the temporary tables of new rows with those of a span; without its messages where `rows` has them."""

    def rows(self, span: Span) -> SpanRows | None:
        """The messages of a large span where they are; None for a small one."""


class LakeBooks(NamedTuple):
    """What the lake says of a worker's batches after a position, as a JSON array."""

    worker: UUID
    after: int
    batches: str


class LakeSource:
    """New rows from a copy of the lake's catalog. `books` were read from it before.

    Those of a small span come through a file, from a DuckDB of the lake's own: what is asked of a version of the lake
    stays in the memory of the DuckDB that is asked (`lookout.py`), and while no feed is heard every version is.
    """

    def __init__(self, copy: Copy, books: LakeBooks | None = None) -> None:
        self._copy = copy
        self._name = copy.name
        self._books = books

    def stage(self, cursor: duckdb.DuckDBPyConnection, span: Span) -> None:
        values = {"worker": str(span.worker), "after": span.after, "upto": span.upto}
        if span.upto > span.after and self.rows(span) is None:
            self._stage_copied(cursor, "new_changes", "copy_changes", values)
            self._stage_copied(cursor, "new_events", "copy_events", values)
        if self._books is not None and self._books[:2] == (span.worker, span.books_after):
            cursor.execute(f"EXECUTE stage_books({quote(self._books.batches)}, '{span.upto}')")
        else:
            values["after"] = span.books_after
            cursor.execute(SQL["stage_deliveries"].format(lake=self._name), values)

    def _stage_copied(self, cursor: duckdb.DuckDBPyConnection, table: str, name: str, values: dict[str, Any]) -> None:
        file = self._copy.file.with_suffix(f".{table}")
        path = quote(str(file))
        try:
            with self._copy.cursor() as lake:
                lake.execute(SQL[name].format(lake=self._name, file=path), values)
            cursor.execute(SQL["stage_copied"].format(table=table, file=path))
        finally:
            file.unlink(missing_ok=True)

    def rows(self, span: Span) -> SpanRows | None:
        if span.upto - span.after < largespan.LEAST_MESSAGES:
            return None
        return span_rows(self._name, span.worker, span.after, span.upto)


MANY = 2**31
"""As many changed runs as nobody is told of one by one."""


class Changes(Protocol):
    """Who wants to know what is being applied. On the follower's thread."""

    def applying(self, cursor: duckdb.DuckDBPyConnection, worker: UUID, events: int, runs: int) -> None:
        """In the transaction: `merged` and `new_events` hold what will be visible after the commit. Where `runs` is
        MANY they do not, and `touched` alone has the runs."""

    def applied(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        """What was being applied is committed; the read model reflects `positions`."""

    def repricing(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """In a transaction that gives runs other costs, before its commit."""

    def restarted(self, cursor: duckdb.DuckDBPyConnection, positions: Positions, why: str = LEAP) -> None:
        """The read model was opened, or built anew; it reflects `positions`."""


class Nobody:
    """Wants to know nothing."""

    def applying(self, cursor: duckdb.DuckDBPyConnection, worker: UUID, events: int, runs: int) -> None:
        pass

    def applied(self, cursor: duckdb.DuckDBPyConnection, positions: Positions) -> None:
        pass

    def repricing(self, cursor: duckdb.DuckDBPyConnection) -> None:
        pass

    def restarted(self, cursor: duckdb.DuckDBPyConnection, positions: Positions, why: str = LEAP) -> None:
        pass


class Applier:
    """Writes the read model through one cursor, of which nobody else makes use; nobody else writes positions."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, changes: Changes | None = None) -> None:
        self._cursor = cursor
        self._changes = changes or Nobody()
        self._ready = False
        self._stored: dict[UUID, Stored] = {}
        self._filled: set[str] = set()
        self._workers: dict[UUID, int] = {}
        self._merges = Merges(cursor)
        self._used = FieldsUsed(cursor)
        self._counts = RunCounts(cursor)

    def stored(self, worker: UUID) -> Stored:
        """How far this worker's log is reflected."""
        return self._known(worker) or Stored()

    def confirmed(self) -> dict[UUID, tuple[int, int]]:
        """How far the lake has confirmed each worker's log, as far as that was asked here: the position, and the
        segment. Costs no SQL."""
        return {worker: (stored.lake_seq, stored.segment) for worker, stored in self._stored.items()}

    def forget(self) -> None:
        """The read model was emptied: nothing is reflected any more."""
        self._stored.clear()
        self._used.forget()
        self._counts.forget()

    def apply_lake(self, source: Source, worker: UUID, upto: int, segment: int, *, whole: bool = True) -> int:
        """Bring the read model up to `upto` of what the lake has; returns how many messages that added.

        `segment` is the last journal segment that is complete at `upto`; `whole` says that the lake has no more. Raises
        LogMismatch when the lake ends before what the feed gave of the same segments.
        """
        stored = self.stored(worker)
        if upto < stored.lake_seq or (upto == stored.lake_seq and segment <= stored.segment):
            return 0
        if whole and segment >= stored.feed_segment and upto < stored.seq:
            raise LogMismatch
        with self.transaction() as cursor:
            self._filled |= {"new_deliveries"}
            if upto > stored.seq:
                self._filled |= {"new_changes", "new_events", "touched", "merged"}
            span = Span(worker, min(stored.seq, upto), upto, stored.lake_seq)
            source.stage(cursor, span)
            changes, events, runs, large = 0, 0, 0, None
            if upto > stored.seq:
                large = source.rows(span)
                changes, events, runs = (
                    self._apply_staged(cursor) if large is None else self._apply_large(cursor, large)
                )
            if runs or events:
                self._changes.applying(cursor, worker, events, runs if large is None else MANY)
            reached = max(segment, stored.segment)
            self._close_books(worker, reached, whole=whole)
            values = {"worker": str(worker), "after": stored.lake_seq, "upto": upto}
            cursor.execute(SQL["forget_flushed_events"], values)
            self._advance(worker, stored._replace(seq=max(stored.seq, upto), lake_seq=upto, segment=reached))
            return changes + events

    def _apply_staged(self, cursor: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
        """Apply the rows that were staged; returns how many changes, events, and changed runs they are."""
        changes, commits, events, loose = cursor.execute(SQL["count_new"]).fetchone() or (0, 0, 0, 0)
        runs = 0
        if changes or events > loose:
            cursor.execute(SQL["touch"])
            stored_runs, counted, runs = cursor.execute(SQL["count_touched"]).fetchone() or (0, 0, 0)
            if runs:
                cursor.execute(MERGE_FROM_LAKE)
            self._replace_runs(stored_runs, counted, runs)
        if changes:
            self._used.add_staged()
        if commits:
            cursor.execute(ASSOCIATE)
        if loose:
            for name in LOOSE:
                cursor.execute(SQL[name].format(rows=SQL["new_loose_events"]))
        if events:
            self._execute("insert_recent_events")
        return changes, events, runs

    def _apply_large(self, cursor: duckdb.DuckDBPyConnection, rows: SpanRows) -> tuple[int, int, int]:
        """The same for the rows of a large span, from where they are."""
        found = apply_rows(cursor, rows)
        self._used.add(found.fields)
        self._counts.add(rows.inserted)
        self._replace_runs(found.stored, found.counted, found.stored)
        for statement in RECOUNT_UNSTARTED:
            cursor.execute(statement)
        return found.changes, found.events, found.stored + found.new

    def refold(self, lake: str, runs: str) -> int:
        """In a transaction: fold runs anew from what the lake, attached as `lake`, has confirmed; `runs` is a query of
        their ids. Returns how many the lake knows. Raises duckdb.Error."""
        self.drop(runs)
        for name in ("stage_changes_of", "stage_events_of"):
            self._cursor.execute(SQL[name].format(lake=lake, runs=runs))
        self._filled |= {"new_changes", "new_events", "touched", "merged"}
        self._cursor.execute(SQL["touch"])
        _, _, known = self._cursor.execute(SQL["count_touched"]).fetchone() or (0, 0, 0)
        if known:
            self._cursor.execute(MERGE_ALONE)
        self._replace_runs(0, 0, known)
        return int(known)

    def drop(self, runs: str) -> int:
        """In a transaction: take runs out; `runs` is a query of their ids. Returns how many were there. Raises
        duckdb.Error."""
        self._counts.take_away(runs)
        ((dropped,),) = self._cursor.execute(SQL["drop_runs"].format(runs=runs)).fetchall()
        return int(dropped)

    def go_back(self, worker: UUID) -> None:
        """In a transaction: no more of a worker is reflected than the lake has confirmed."""
        stored = self.stored(worker)
        self._advance(worker, stored._replace(seq=stored.lake_seq, feed_segment=stored.segment))

    def apply_feed(self, worker: UUID, segment: int, upto: int, lines: bytes) -> int:
        """Bring the read model up to `upto` from the journal's own lines; returns how many messages that added.

        The lines must follow what is reflected without a gap, and be of one segment. Raises UnreadableLines when they
        do not hold each position once.
        """
        stored = self.stored(worker)
        if segment <= stored.segment:
            return 0
        rows = sort_lines(lines, stored.seq, upto)
        with self.transaction() as cursor:
            try:
                runs = self._apply_rows(worker, segment, rows)
            except _REFUSED as error:
                raise UnreadableLines(str(error)) from error
            if runs or rows.events_count:
                self._changes.applying(cursor, worker, rows.events_count, runs)
            self._advance(worker, stored._replace(seq=max(stored.seq, upto), feed_segment=segment))
        return rows.changes_count + rows.events_count

    def _apply_rows(self, worker: UUID, segment: int, rows: FeedRows) -> int:
        runs = 0
        number = self._number(worker)
        if rows.touched:
            self._filled |= {"touched"}
            places = self._execute("feed_touch", rows.touched).fetchall()
            stored_runs = sum(changed and stored for changed, stored in places)
            counted = sum(stored and not changed for changed, stored in places)
            runs = len(places) - counted
            if runs:
                self._filled |= {"merged"}
                fields = fields_of(rows.fields)
                merge = self._merges.name(worker, fields, stored=bool(stored_runs))
                self._used.add(fields)
                self._execute(merge, rows.changes or "[]")
            counts = runs > stored_runs or not COUNTED.isdisjoint(rows.fields)
            self._replace_runs(stored_runs, counted, runs, counts=counts)
        if rows.commits:
            self._execute(f"associate_{number}", rows.commits)
        if rows.loose:
            for name in LOOSE:
                self._execute(f"feed_{name}", rows.loose)
        if rows.events:
            self._filled |= {"new_events"}
            self._execute(f"feed_events_{number}", rows.events)
            self._execute("insert_all_events")
        if rows.deliveries:
            self._execute(f"feed_deliveries_{number}", rows.deliveries, str(segment))
        return runs

    def _close_books(self, worker: UUID, segment: int, *, whole: bool) -> None:
        """Add the batches that are done to the books, in the place of what the feed had said of the same segments."""
        done, undone = self._execute("count_deliveries").fetchone() or (0, 0)
        if done:
            self._filled |= {"summed", "merged_ranges"}
            number = self._number(worker)
            for name in BOOKS:
                self._execute(f"{name}_{number}")
        values = {"worker": str(worker), "segment": segment}
        self._cursor.execute(SQL["close_segments"], values)
        if undone and whole:
            self._cursor.execute(SQL["keep_open"], values)

    def _replace_runs(self, stored: int, counted: int, runs: int, *, counts: bool = True) -> None:
        """Put the `merged` runs in the place of those that are stored, and add the counts of new events to others;
        `counts`: it may change how many runs there are of some kind."""
        if runs and counts:
            self._counts.replace(stored=bool(stored))
        if stored:
            self._execute("drop_stored")
        if runs:
            unpriced, unstarted = self._execute("look_at_merged").fetchone() or (0, 0)
            if unpriced:
                self._execute("price_merged")
            self._execute("insert_merged")
            if unstarted:
                self._execute("forget_unstarted")
                self._execute("add_unstarted")
        if counted:
            self._execute("add_event_counts")

    def _known(self, worker: UUID) -> Stored | None:
        if worker not in self._stored:
            row = self._cursor.execute(SQL["stored_position"], {"worker": str(worker)}).fetchone()
            if row is None:
                return None
            self._stored[worker] = Stored(*row)
        return self._stored[worker]

    def _advance(self, worker: UUID, reached: Stored) -> None:
        if self._known(worker) is None:
            self._cursor.execute(SQL["begin_position"], {"worker": str(worker), **reached._asdict()})
        else:
            self._execute("advance", str(worker), *map(str, reached))
        self._stored[worker] = reached

    def _number(self, worker: UUID) -> int:
        """Which of the workers it is here; its statements have that in their names."""
        if worker not in self._workers:
            number = len(self._workers)
            for name, statement in of_worker(worker).items():
                self._cursor.execute(f"PREPARE {name}_{number} AS {statement}")
            self._workers[worker] = number
        return self._workers[worker]

    def _execute(self, name: str, *texts: str) -> duckdb.DuckDBPyConnection:
        """Run a prepared statement. EXECUTE takes literals, not bound values."""
        arguments = f"({', '.join(map(quote, texts))})" if texts else ""
        return self._cursor.execute(f"EXECUTE {name}{arguments}")

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction of the cursor that writes; what is staged in it is gone when it ends."""
        if not self._ready:
            self._prepare()
        try:
            with _transaction(self._cursor):
                yield self._cursor
                for table in sorted(self._filled):
                    self._execute(f"clear_{table}")
        except BaseException:
            self._stored.clear()
            self._used.forget()
            self._counts.forget()
            raise
        finally:
            self._filled.clear()

    def _prepare(self) -> None:
        """Make the temporary tables, and then the statements: a later change of any catalog would have each of them
        planned again whenever it is run."""
        for statement in BENCH.split(";\n"):
            self._cursor.execute(statement)
        for name, statement in PREPARED.items():
            self._cursor.execute(f"PREPARE {name} AS {statement}")
        self._ready = True


def lake_positions(cursor: duckdb.DuckDBPyConnection, lake: str) -> dict[UUID, tuple[int, int]]:
    """For each worker the last `seq` and the last journal segment in the lake attached as `lake`."""
    rows = cursor.execute(SQL["lake_positions"].format(lake=lake)).fetchall()
    return {UUID(worker): (seq, segment) for worker, seq, segment in rows}


def read_books(cursor: duckdb.DuckDBPyConnection, lake: str, worker: UUID, after: int) -> LakeBooks | None:
    """The books of one worker from a position on, in the lake attached as `lake`; None when they are long."""
    values = {"worker": str(worker), "after": after, "most": _MAX_BATCHES}
    ((batches, count),) = cursor.execute(SQL["read_books"].format(lake=lake), values).fetchall()
    return LakeBooks(worker, after, batches or "[]") if count <= _MAX_BATCHES else None


def move_window(cursor: duckdb.DuckDBPyConnection, since: datetime, lake: str) -> None:
    """Keep the run events from `since` on in the read model: forget older ones, or fetch them from the lake."""
    row = cursor.execute(SQL["events_since"]).fetchone()
    stored = datetime.fromtimestamp(row[0] / 1_000_000, UTC) if row else since
    if stored <= since < stored + _WINDOW_SLACK:
        return
    values = {"since": since.isoformat()}
    with _transaction(cursor):
        if since < stored:
            cursor.execute(SQL["remember_events"].format(lake=lake), values)
        else:
            cursor.execute(SQL["forget_events"], values)
        cursor.execute(SQL["set_events_since"], values)


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
