"""The lake as the worker uses it: opened, written a segment at a time, and asked what it holds.

One thread uses a `LakeWriter`; the look-up thread has a `LakeReader` of its own on the same DuckDB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
import msgspec

from runlake.errors import LakeError, LakeUnavailable
from runlake.fields import CHANGE_FIELDS
from runlake.ids import Uuid7Source
from runlake.lake import attach, duck, maintenance, schema
from runlake.lake.durability import FileSync, file_sync
from runlake.lake.filedoor import FileDoor
from runlake.lake.lines import LINE_COLUMNS, columns_literal
from runlake.lake.place import LakePlace
from runlake.lake.retention import forgotten_runs, horizon_of
from runlake.logs import Log
from runlake.sqlfile import load_queries
from runlake.wire import MAX_FRAME_BYTES
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.dedupe import BUCKET_SECONDS
from runlake_ingest.intake import LateId
from runlake_ingest.journal import Segment
from runlake_ingest.lines import Rejected, raw_text, record_line

_SQL = load_queries("runlake_ingest", "flush.sql")
_REFUSED = (duckdb.DataError, duckdb.InvalidInputException)
"""What DuckDB raises for what is in a line; for a lack of memory or a disk that fails it raises others."""
_IDS_AT_ONCE = 100_000
_TABLES = ("run_changes", "events", "deliveries", "quarantine")

_COLUMNS_LITERAL = columns_literal(LINE_COLUMNS)
_CHANGE_COLUMNS = ", ".join(field.name for field in CHANGE_FIELDS)


class _HasId(msgspec.Struct):
    event_id: UUID


class _Refused(NamedTuple):
    """Accepted messages that DuckDB refused: how many, and their ids as far as they can be read."""

    messages: int
    ids: frozenset[int]


_NOTHING = _Refused(0, frozenset())


class _Open(NamedTuple):
    """A lake that is open."""

    connection: duckdb.DuckDBPyConnection
    door: FileDoor
    sync: FileSync
    ends: ExitStack


class LakeWriter:
    """The worker's connection to its lake. Not thread-safe.

    `open` makes and migrates the lake where needed. Methods raise LakeError when the lake cannot be used as it is, and
    LakeUnavailable when trying again later may help; after that, `open` again. `before_commit` is called right before
    each COMMIT of a flush; what it raises prevents that, and is passed on.

    In a cluster the catalog's address names the worker's connections, and `role`, a letter, is this writer's among the
    worker's own: before it opens the lake again, all connections that it had have ended at the server. So what a COMMIT
    of unknown outcome did is settled then: it is seen, or it never comes.
    """

    def __init__(
        self,
        place: LakePlace,
        crash: CrashPoints,
        log: Log,
        limits: maintenance.Limits = maintenance.DEFAULTS,
        before_commit: Callable[[], object] = lambda: None,
        role: str = "w",
    ) -> None:
        self._place = place
        self._role = role
        self._openings = 0
        self._in_doubt = False
        self._crash = crash
        self._log = log
        self._limits = limits
        self._before_commit = before_commit
        self._maintaining = threading.Lock()
        self._interruptible = False
        self._lake: _Open | None = None

    def open(self) -> UUID:
        """Attach the lake, at the latest schema; returns its UUID."""
        self.close()
        try:
            place = self._place_of_new_name()
            with attach.alone_in_catalog(place), ExitStack() as ends:
                connection = duck.connect(place=place)
                connection.execute(_SQL["keep_no_files"])
                if place.is_clustered:
                    connection.execute(_SQL["patience"])
                door = ends.enter_context(attach.write_through_door(connection, place))
                sync = ends.enter_context(closing(file_sync(place)))
                schema.migrate(connection, attach.CATALOG, Uuid7Source()(), sync, door.commit)
                attach.inline_flushes(connection)
                maintenance.sort_by_time(connection)
                lake = schema.lake_id(connection, attach.CATALOG)
                if self._in_doubt:
                    attach.write_nothing(connection)
                    self._in_doubt = False
                self._lake = _Open(connection, door, sync, ends.pop_all())
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailable(f"The lake {self._place.told} cannot be opened: {error}") from error
        return lake

    def close(self) -> None:
        if self._lake is not None:
            self._lake.ends.close()
            self._lake = None

    def _place_of_new_name(self) -> LakePlace:
        name = self._place.application
        if not name:
            return self._place
        from runlake.lake.backends import end_backends  # noqa: PLC0415 (an extra)

        end_backends(self._place, f"{name}{self._role}")
        self._openings += 1
        return self._place.named(f"{name}{self._role}{self._openings % 10_000_000:07}")

    def reader(self) -> LakeReader:
        """A reader on the same lake, for another thread. This one method may be called from there. Raises
        LakeUnavailable."""
        lake = self._opened
        try:
            return LakeReader(lake.connection.cursor(), lake.door)
        except duckdb.Error as error:
            raise LakeUnavailable(f"The lake cannot be read: {error}") from error

    def flushed(self, worker: UUID) -> tuple[int, int]:
        """The number of the worker's last flushed segment, and its last flushed `seq`."""
        return LakeReader(self._open, self._opened.door).flushed(worker)

    def last_of_any(self) -> int:
        """The last `seq` that any worker flushed: where one that is new to a lake that has rows begins."""
        try:
            row = self._open.execute(_SQL["last_of_any"]).fetchone()
        except duckdb.Error as error:
            raise LakeUnavailable(f"The flushed positions cannot be read: {error}") from error
        return int(row[0]) if row else 0

    def number_on(self, workers: Sequence[UUID]) -> None:
        """Have these workers, who have flushed all, go on behind a position that none of them has given out, and say so
        in the lake: each worker's log has a gap there, so that nobody takes what follows for what came before."""
        values = {"workers": msgspec.json.encode([str(worker) for worker in workers]).decode()}
        try:
            self._open.execute("BEGIN")
            self._open.execute(_SQL["number_on"], values)
            self._before_commit()
            self._opened.door.commit(self._open)
        except (duckdb.Error, OSError) as error:
            raise LakeUnavailable(f"Where the workers go on cannot be written: {error}") from error

    def flush(self, segment: Segment) -> frozenset[int]:
        """Store a segment whole, in one transaction. Storing it again changes nothing. Returns the ids of messages that
        the lake refused: they are in quarantine, and may come again."""
        refused = _NOTHING
        if self._has_landed(segment):
            return refused.ids
        self._crash.passing("flush.before_begin")
        try:
            refused = self._read(segment)
            self._store(segment, refused.messages)
        except (duckdb.Error, OSError, LakeUnavailable) as error:
            if self._in_doubt:
                self._log.warning("commit_in_doubt", segment=segment.number, reason=str(error))
                self.open()
                if self._has_landed(segment):
                    return refused.ids
            self._rollback()
            raise LakeUnavailable(f"The segment {segment.path.name} cannot be stored: {error}") from error
        return refused.ids

    def refused_rules(self) -> tuple[int, frozenset[int]]:
        """Before when messages are expired, Unix seconds, and which runs are to be forgotten."""
        if self._lake is None:
            self.open()
        try:
            return horizon_of(self._open, attach.CATALOG), forgotten_runs(self._open, attach.CATALOG)
        except duckdb.Error as error:
            raise LakeUnavailable(f"What is to be removed cannot be read: {error}") from error

    def due(self) -> tuple[maintenance.Survey, list[maintenance.Step]]:
        """How the lake stands, and what maintenance has to do."""
        try:
            return self._maintainer().plan()
        except duckdb.Error as error:
            self._open_unless_usable()
            raise LakeUnavailable(f"The lake cannot be surveyed: {error}") from error

    def maintain(self, step: maintenance.Step) -> maintenance.Done:
        """Do one step of maintenance, whole or not at all."""
        try:
            with self._may_be_interrupted():
                return self._maintainer().run(step)
        except (duckdb.Error, OSError) as error:
            self._open_unless_usable()
            raise LakeUnavailable(f"The step {step.name!r} {step.table} failed: {error}") from error

    def interrupt_maintenance(self) -> None:
        """Have `maintain` give up the step at hand, if there is one. From any thread."""
        with self._maintaining:
            if self._interruptible and (lake := self._lake) is not None:
                lake.connection.interrupt()

    def window(self, max_ids: int) -> tuple[int, Iterator[tuple[int, int]]]:
        """The horizon (Unix seconds) of a window of at most `max_ids` ids, and the (id, Unix seconds) after it."""
        return LakeReader(self._open, self._opened.door).window(max_ids)

    @property
    def _opened(self) -> _Open:
        if self._lake is None:
            raise LakeUnavailable("The lake is not open.")
        return self._lake

    @property
    def _open(self) -> duckdb.DuckDBPyConnection:
        return self._opened.connection

    def _read(self, segment: Segment) -> _Refused:
        """Read the lines into the table `segment`; returns what of them DuckDB refused."""
        try:
            self._read_file(segment.path)
        except _REFUSED as error:
            self._log.warning("segment_refused", segment=segment.path.name, reason=str(error))
            return self._read_without_bad_lines(segment)
        return _NOTHING

    def _read_file(self, path: Path) -> None:
        self._open.execute(_SQL["read"].format(path=duck.quote(str(path)), columns=_COLUMNS_LITERAL))

    def _read_without_bad_lines(self, segment: Segment) -> _Refused:
        """Bisect the segment: what DuckDB refuses goes to quarantine, the rest goes in."""
        working = segment.path.with_suffix(".tmp")
        lines = segment.path.read_bytes().splitlines(keepends=True)

        def refused(part: Sequence[bytes]) -> str | None:
            working.write_bytes(b"".join(part))
            try:
                self._read_file(working)
            except _REFUSED as error:
                return str(error)
            return None

        try:
            bad = dict(_bad_lines(lines, 0, refused))
            kept = [line for index, line in enumerate(lines) if index not in bad]
            kept += [record_line(_quarantined(lines[index], reason)) for index, reason in bad.items()]
            working.write_bytes(b"".join(kept))
            self._read_file(working)
        finally:
            working.unlink(missing_ok=True)
        for reason in bad.values():
            self._log.error("line_quarantined", segment=segment.path.name, reason=reason)
        messages = [lines[index] for index in bad if b'"seq":' in lines[index]]
        return _Refused(len(messages), frozenset(found for line in messages for found in _id_in(line)))

    def _store(self, segment: Segment, lost: int) -> None:
        connection = self._open
        worker = {"worker": str(segment.worker)}
        counts = connection.execute(_SQL["counts"]).fetchone()
        assert counts is not None
        if counts[0] + counts[1] + lost != segment.messages:
            raise LakeError(
                f"The segment {segment.path} holds {counts[0] + counts[1]} messages; its groups say {segment.messages}."
            )
        connection.execute("BEGIN")
        for table, rows in zip(_TABLES, counts, strict=True):
            if rows:
                connection.execute(_SQL[table].format(change_columns=_CHANGE_COLUMNS), worker)
        position = {"segment": segment.number, "first_seq": segment.first_seq, "last_seq": segment.last_seq}
        connection.execute(_SQL["flushes"], worker | position)
        self._crash.passing("flush.after_insert")
        self._opened.sync()
        self._crash.passing("flush.before_commit")
        self._before_commit()
        self._in_doubt = True
        try:
            self._opened.door.commit(connection)
        except BaseException:
            self._in_doubt = self._opened.door.stays_shut
            raise
        self._crash.passing("flush.after_commit")
        self._in_doubt = False

    def _has_landed(self, segment: Segment) -> bool:
        if self.flushed(segment.worker)[0] < segment.number:
            return False
        self._log.info("commit_had_landed", segment=segment.number)
        return True

    def _maintainer(self) -> maintenance.Maintainer:
        if self._lake is None:
            self.open()
        lake = self._opened

        def passing(place: str) -> None:
            self._crash.passing(f"maintain.{place}")

        return maintenance.Maintainer(lake.connection, self._place, self._limits, lake.sync, lake.door, passing)

    @contextmanager
    def _may_be_interrupted(self) -> Iterator[None]:
        with self._maintaining:
            self._interruptible = True
        try:
            yield
        finally:
            with self._maintaining:
                self._interruptible = False

    def _open_unless_usable(self) -> None:
        self._in_doubt = self._in_doubt or self._opened.door.stays_shut
        if self._in_doubt:
            self.open()
            return
        try:
            self._open.execute("SELECT 1")
        except duckdb.Error:
            self.open()

    def _rollback(self) -> None:
        if self._lake is None:
            return
        try:
            self._open.execute("ROLLBACK")
        except duckdb.Error:  # there was no transaction, or the connection is beyond use: open afresh
            self.open()


class LakeReader:
    """Asks the lake what dedupe and numbering have to know. Not thread-safe. Methods raise LakeUnavailable."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, door: FileDoor) -> None:
        self._connection = connection
        self._door = door

    def close(self) -> None:
        self._connection.close()

    def flushed(self, worker: UUID) -> tuple[int, int]:
        """The number of a worker's last flushed segment, and its last flushed `seq`."""
        try:
            with self._door.passing():
                row = self._connection.execute(_SQL["flushed"], {"worker": str(worker)}).fetchone()
        except duckdb.Error as error:
            raise LakeUnavailable(f"The flushed position cannot be read: {error}") from error
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def window(self, max_ids: int) -> tuple[int, Iterator[tuple[int, int]]]:
        """The horizon (Unix seconds) of a window of at most `max_ids` ids, and the (id, Unix seconds) after it, which
        raise LakeUnavailable too."""
        try:
            with self._door.passing():
                horizon = self._horizon(max_ids)
        except duckdb.Error as error:
            raise _no_window(error) from error
        return horizon, self._ids_after(horizon)

    def known(self, wanted: Sequence[LateId]) -> set[int]:
        """Which of the wanted ids the lake holds, as far as it was asked to look."""
        at_time = [(late.event_id, late.us) for late in wanted if late.us is not None]
        behind = [(late.event_id, late.after) for late in wanted if late.after is not None]
        try:
            with self._door.passing():
                return self._at_their_time(at_time) | self._behind(behind)
        except duckdb.Error as error:
            raise LakeUnavailable(f"Late messages cannot be looked up: {error}") from error

    def _ids_after(self, horizon: int) -> Iterator[tuple[int, int]]:
        try:
            with self._door.passing():
                found = self._connection.execute(_SQL["window"], {"horizon": horizon})
                while rows := found.fetchmany(_IDS_AT_ONCE):
                    for raw, seconds in rows:
                        yield int.from_bytes(raw, "big"), seconds
        except duckdb.Error as error:
            raise _no_window(error) from error

    def _horizon(self, max_ids: int) -> int:
        found = self._connection.execute(_SQL["buckets"], {"bucket_us": BUCKET_SECONDS * 1_000_000})
        held = 0
        while row := found.fetchone():
            held += row[1]
            if held > max_ids:
                return (int(row[0]) + 1) * BUCKET_SECONDS
        return 0

    def _at_their_time(self, wanted: Sequence[tuple[int, int]]) -> set[int]:
        if not wanted:
            return set()
        rows = [{"id": str(UUID(int=event_id)), "us": us} for event_id, us in wanted]
        times = [us for _, us in wanted]
        return self._ids("known", wanted=msgspec.json.encode(rows).decode(), first=min(times), last=max(times))

    def _behind(self, wanted: Sequence[tuple[int, int]]) -> set[int]:
        if not wanted:
            return set()
        ids = [str(UUID(int=event_id)) for event_id, _ in wanted]
        return self._ids("known_behind", wanted=msgspec.json.encode(ids).decode(), after=min(seq for _, seq in wanted))

    def _ids(self, query: str, **parameters: object) -> set[int]:
        found = self._connection.execute(_SQL[query], parameters).fetchall()
        return {int.from_bytes(row[0], "big") for row in found}


def _no_window(error: duckdb.Error) -> LakeUnavailable:
    return LakeUnavailable(f"The dedupe window cannot be read from the lake: {error}")


def _bad_lines(
    lines: Sequence[bytes], offset: int, refused: Callable[[Sequence[bytes]], str | None]
) -> Iterable[tuple[int, str]]:
    """The indexes of the lines that are refused on their own, each with the reason."""
    reason = refused(lines)
    if reason is None:
        return
    if len(lines) == 1:
        yield offset, reason
        return
    middle = len(lines) // 2
    yield from _bad_lines(lines[:middle], offset, refused)
    yield from _bad_lines(lines[middle:], offset + middle, refused)


def _id_in(line: bytes) -> Iterator[int]:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        yield msgspec.json.decode(line, type=_HasId).event_id.int


def _quarantined(line: bytes, reason: str) -> Rejected:
    """A line that the lake refused, as a row of the quarantine."""
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = {}
    return Rejected(
        received_at=datetime.now(UTC),
        producer=str(said.get("producer", "")),
        reason=f"The lake refused the line: {reason}",
        raw=raw_text(line[:MAX_FRAME_BYTES]),
    )
