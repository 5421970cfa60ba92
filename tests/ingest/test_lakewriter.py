"""A segment becomes rows of the lake, whole, once, and durable; what DuckDB refuses harms no neighbour."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.completion import complete
from runlake.errors import LakeError, LakeUnavailable
from runlake.fields import CHANGE_FIELDS
from runlake.lake import duck
from runlake.lake.place import LakePlace
from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated, message_time
from runlake.wire import MAX_FRAME_BYTES
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.intake import LateId
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.lines import Rejected, raw_text, record_line
from support.journals import LAKE, WORKER, Logged, write_lines, write_segment
from support.messages import messages
from support.samples import START, event, events, started, updated


class Failing(CrashPoints):
    """Fails at a named point, the first time, as a lost connection would."""

    def __init__(self) -> None:
        super().__init__({})
        self.at = ""

    def passing(self, name: str) -> None:
        if name == self.at:
            self.at = ""
            raise OSError("the connection was lost")


class Lake:
    """A lake of its own, and the folder for its segments."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.catalog, self.storage = folder / "data" / "catalog.sqlite", folder / "data" / "lake"
        self.crash = Failing()
        self.logged = Logged()
        self.writer = LakeWriter(LakePlace.of_files(self.catalog, self.storage), self.crash, self.logged.log)
        self.id = self.writer.open()
        self.number, self.seq = 0, 0
        self._plain: duckdb.DuckDBPyConnection | None = None

    def segment(self, *groups: list[Message], extra: tuple[bytes, ...] = ()) -> Segment:
        self.number += 1
        segment = write_lines(self.journal, groups, self.number, self.seq + 1, lake=self.id, extra=extra)
        self.seq = segment.last_seq
        return segment

    def store(self, *groups: list[Message], extra: tuple[bytes, ...] = ()) -> Segment:
        segment = self.segment(*groups, extra=extra)
        self.writer.flush(segment)
        return segment

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read with plain DuckDB, as anyone can."""
        if self._plain is None:
            self._plain = duckdb.connect(config={"autoinstall_known_extensions": False})
            for name in duck.extensions_for(None):
                self._plain.load_extension(str(duck.extension_path(name)))
            self._plain.execute("SET TimeZone = 'UTC'")
            self._plain.execute(f"ATTACH 'ducklake:sqlite:{self.catalog}' AS lake (READ_ONLY)")
            self._plain.execute("USE lake")
        return self._plain.execute(sql).fetchall()

    def close(self) -> None:
        self.writer.close()
        if self._plain is not None:
            self._plain.close()

    def stored(self, columns: str, table: str, segment: Segment) -> list[tuple[Any, ...]]:
        """The rows of one segment, by position."""
        bounds = f"seq BETWEEN {segment.first_seq} AND {segment.last_seq}"
        return self.rows(f"SELECT {columns} FROM {table} WHERE {bounds} ORDER BY seq")

    def counts(self) -> tuple[Any, ...]:
        tables = ("run_changes", "events", "deliveries", "quarantine", "flushes")
        return self.rows("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables))[0]

    def parquet(self) -> set[str]:
        return {str(path) for path in self.storage.rglob("*.parquet")}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    lake = Lake(tmp_path)
    yield lake
    lake.close()


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """For tests that look at nothing but what they stored."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    yield lake
    lake.close()


def refused_line(raw: bytes = b"\x00\xff", **fields: Any) -> bytes:
    return record_line(Rejected(received_at=START, producer="p", reason="a reason", raw=raw_text(raw), **fields))


def commit(run: UUID) -> CommitAssociated:
    return CommitAssociated(
        event_id=uuid4(), run_event_id=run, ts=START, commit_hash="abcdef0", commit_source="ci", commit_author="A",
        commit_timestamp=START,
    )  # fmt: skip


def test_a_segment_fills_all_tables_in_one_transaction(lake: Lake) -> None:
    run = started("the run", START, product="p")
    change, association, happening = updated(run.event_id, status="success"), commit(run.event_id), event(7)
    segment = lake.store([run, happening], [change, association], extra=(refused_line(b"raw", batch=3, number=9),))
    changes = lake.rows(
        "SELECT seq, kind, event_id, run_event_id, run_id, status, worker FROM run_changes ORDER BY seq"
    )
    assert changes == [
        (1, "run.started", run.event_id, run.event_id, "the run", "running", WORKER),
        (3, "run.updated", change.event_id, run.event_id, None, "success", WORKER),
        (4, "commit.associated", association.event_id, run.event_id, None, None, WORKER),
    ]
    stored = lake.rows("SELECT seq, event_id, run_id, type, payload, producer, epoch_us(received_at) FROM events")
    us = int(START.timestamp() * 1_000_000)
    assert stored == [(2, happening.event_id, "run", "step", '{"number":7}', "producer", us)]
    assert lake.rows("SELECT received, accepted, duplicate, rejected, first_number FROM deliveries ORDER BY 5") == [
        (2, 2, 0, 0, 1),
        (2, 2, 0, 0, 3),
    ]
    assert lake.rows("SELECT producer, batch, number, messages, field, reason, raw FROM quarantine") == [
        ("p", 3, 9, 1, None, "a reason", b"raw")
    ]
    assert lake.rows("SELECT worker, segment, first_seq, last_seq FROM flushes") == [(WORKER, segment.number, 1, 4)]
    assert lake.writer.flushed(WORKER) == (1, 4)
    assert lake.rows("SELECT run_id, status, commit_hash, commit_author, product FROM runs") == [
        ("the run", "success", "abcdef0", "A", "p")
    ]


def test_a_segment_without_an_accepted_message_is_stored_too(lake: Lake) -> None:
    lake.store([], extra=(refused_line(),))
    assert lake.counts() == (0, 0, 1, 1, 1)
    assert lake.writer.flushed(WORKER) == (1, 0)


def test_storing_a_segment_again_changes_nothing(lake: Lake) -> None:
    first = lake.store(list(events(3)))
    second = lake.store(list(events(2)))
    before = lake.counts()
    lake.writer.flush(first)
    lake.writer.flush(second)
    assert lake.counts() == before == (0, 5, 2, 0, 2)


def test_workers_have_positions_of_their_own(lake: Lake) -> None:
    other = uuid4()
    lake.store(list(events(3)))
    lake.writer.flush(write_segment(lake.journal / "other", 1, (2,), worker=other))
    assert lake.writer.flushed(WORKER) == (1, 3)
    assert lake.writer.flushed(other) == (1, 2)
    assert lake.writer.flushed(uuid4()) == (0, 0)
    assert sorted(lake.rows("SELECT worker, count(*) FROM events GROUP BY 1")) == sorted([(WORKER, 3), (other, 2)])


_PAYLOADS: tuple[dict[str, Any], ...] = (
    {"text": "\x00 in the middle \x00"},
    {"\x00": 1, "": 2, "a.b": 3, '"': 4},
    {"emoji": "🦆👩‍🚀", "rtl": "\u202eabc", "bom": "\ufeff"},
    {"long": "x" * 900_000},
    {"escapes": "\x01" * 150_000},
    {"huge": 2**64 - 1, "least": -(2**63), "small": 5e-324, "big": 1.7976931348623157e308},
    {"nested": [[[{"a": [None, True, False, 0.1]}]]]},
    {"looks like": '{"kind":"group"}\n{"seq":1}'},
    {},
)


def test_payloads_are_stored_as_they_were_sent(shared_lake: Lake) -> None:
    sent = [RunEvent(event_id=uuid4(), run_id="r", ts=START, type="t", payload=payload) for payload in _PAYLOADS]
    found = shared_lake.stored("payload", "events", shared_lake.store(list(sent)))
    assert [json.loads(row[0]) for row in found] == list(_PAYLOADS)
    assert shared_lake.logged.lines() == []


_TEXTS = (
    "a\x00b", "\x00", "👩‍🚀", "line\nline\r\n\u2028", "'; DROP TABLE events; --", "\ufffe", "NULL", "null", "",
    "{}", " x ",
)  # fmt: skip


def test_texts_are_stored_as_they_were_sent(shared_lake: Lake) -> None:
    runs = [started("run " + text, START, product=text, output_summary=text) for text in _TEXTS]
    happenings = [event(1, run_id="run " + text) for text in _TEXTS]
    segment = shared_lake.store([*runs, *happenings])
    found = shared_lake.stored("run_id, product, output_summary", "run_changes", segment)
    assert found == [("run " + text, text, text) for text in _TEXTS]
    assert shared_lake.stored("run_id", "events", segment) == [("run " + text,) for text in _TEXTS]
    assert shared_lake.logged.lines() == []


def test_costs_are_stored_exactly(shared_lake: Lake) -> None:
    costs = [Decimal(cost) for cost in ("1e-9", "0", "123.456789012", "999999999.999999999", "1E+2", "-0", "0.1")]
    runs = [started(cost_usd=cost) for cost in costs]
    runs += [started(metrics_json={"api_cost_usd": str(cost)}) for cost in costs]
    runs += [started(metrics_json={"api_cost_usd": 1e-9})]
    found = shared_lake.stored("cost_usd", "run_changes", shared_lake.store(list(runs)))
    assert found == [(cost,) for cost in (*costs, *costs, Decimal("1e-9"))]


def _plain(value: Any) -> Any:
    """A value of a message as DuckDB gives it back: times in Unix microseconds, maps as JSON gives them."""
    match value:
        case datetime():
            return (value - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
        case _:
            return value


_TIMES = {field.name for field in CHANGE_FIELDS if field.sql_type == "TIMESTAMPTZ"}
_MAPS = {field.name for field in CHANGE_FIELDS if field.sql_type == "JSON"}
_CHANGE_COLUMNS = [field.name for field in CHANGE_FIELDS if field.name not in _MAPS]


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(messages(), min_size=1, max_size=15, unique_by=lambda message: message.event_id))
def test_every_valid_message_is_stored_as_it_was_sent(batch: list[Message], shared_lake: Lake) -> None:
    lake = shared_lake
    logged = len(lake.logged.lines())
    segment = lake.segment(batch)
    lake.writer.flush(segment)
    assert lake.logged.lines()[logged:] == []
    bounds = f"seq BETWEEN {segment.first_seq} AND {segment.last_seq}"
    columns = [f"epoch_us({name})" if name in _TIMES else name for name in _CHANGE_COLUMNS]
    changes = {
        row[0]: row[1:]
        for row in lake.rows(f"SELECT event_id, epoch_us(ts), {', '.join(columns)} FROM run_changes WHERE {bounds}")
    }
    names = ["run_id", "run_event_id", "type", "trace_id", "span_id", "parent_span_id", "prev_hash", "event_hash"]
    happenings = {
        row[0]: row[1:]
        for row in lake.rows(f"SELECT event_id, epoch_us(ts), {', '.join(names)} FROM events WHERE {bounds}")
    }
    assert len(changes) + len(happenings) == len(batch)
    for message in batch:
        expected = complete(message) if isinstance(message, RunStarted | RunUpdated) else message
        found, wanted = (happenings, names) if isinstance(message, RunEvent) else (changes, _CHANGE_COLUMNS)
        values = tuple(_plain(getattr(expected, name, None)) for name in wanted)
        assert found[message.event_id] == (_plain(message_time(message)), *values)


def _line(seq: int, **fields: Any) -> bytes:
    usual = {"seq": seq, "received_at": "2026-01-28T10:30:00Z", "producer": "p", "kind": "run.event",
             "event_id": str(uuid4()), "run_id": "r", "ts": "2026-01-28T10:30:00Z", "type": "t"}  # fmt: skip
    return json.dumps(usual | fields).encode() + b"\n"


_BAD_LINES = {
    2: _line(2, ts="the other day"),
    3: _line(3, event_id="no uuid"),
    5: _line(5, kind="run.started", start_time="2026-01-28T10:30:00Z", duration_ms=2**63),
    6: b'{"seq":6,"kind":"run.event", broken\n',
    8: b'{"seq":8,"kind":"run.event","producer":"\xff\xfe"}\n',
}


def test_lines_that_duckdb_refuses_go_to_quarantine_and_the_rest_is_stored(lake: Lake) -> None:
    lines = [_BAD_LINES.get(seq) or _line(seq) for seq in range(1, 10)]
    lake.writer.flush(_segment_of(lake, 1, [*lines, refused_line()], 9))
    assert [row[0] for row in lake.rows("SELECT seq FROM events ORDER BY seq")] == [1, 4, 7, 9]
    kept = dict(lake.rows("SELECT raw, reason FROM quarantine WHERE reason <> 'a reason'"))
    assert set(kept) == set(_BAD_LINES.values())
    assert all(reason.startswith("The lake refused the line: ") for reason in kept.values())
    assert lake.counts() == (0, 4, 0, 6, 1)
    assert lake.writer.flushed(WORKER) == (1, 9)
    assert len(lake.logged.of("line_quarantined")) == 5
    assert [path for path in lake.journal.iterdir() if path.suffix == ".tmp"] == []


def test_several_bad_lines_among_many_are_all_found(lake: Lake) -> None:
    bad = {1, 77, 78, 500}
    lines = [_line(seq, ts="never") if seq in bad else _line(seq) for seq in range(1, 501)]
    lake.writer.flush(_segment_of(lake, 1, lines, 500))
    assert lake.counts() == (0, 496, 0, 4, 1)
    assert {json.loads(row[0])["seq"] for row in lake.rows("SELECT raw::BLOB FROM quarantine")} == bad


def _segment_of(lake: Lake, number: int, lines: list[bytes], last_seq: int) -> Segment:
    from runlake_ingest.journal import SegmentWriter

    lake.journal.mkdir(exist_ok=True)
    writer = SegmentWriter(lake.journal, lake.id, WORKER, number, 1, CrashPoints({}))
    writer.write_group(lines, last_seq)
    return writer.seal()


def test_a_line_too_large_for_duckdb_goes_to_quarantine_as_far_as_it_can_be_kept(lake: Lake) -> None:
    line = refused_line(b"\x93" * (40 * 1024 * 1024))
    lake.store([event()], extra=(line,))
    ((kept, reason),) = lake.rows("SELECT raw, reason FROM quarantine")
    assert len(kept) == MAX_FRAME_BYTES and line.startswith(kept)
    assert "maximum_object_size" in reason
    assert lake.counts() == (0, 1, 1, 1, 1)


def test_a_segment_that_holds_less_than_its_groups_say_is_not_stored(lake: Lake) -> None:
    segment = _segment_of(lake, 1, [_line(1), _line(2)], 3)
    with pytest.raises(LakeError, match="holds 2 messages; its groups say 3"):
        lake.writer.flush(segment)
    assert lake.counts() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("point", ["flush.before_begin", "flush.after_insert", "flush.before_commit"])
def test_a_failure_before_the_commit_stores_nothing_and_trying_again_stores_all(point: str, lake: Lake) -> None:
    segment = lake.segment(list(events(3)), [started()])
    lake.crash.at = point
    with pytest.raises((LakeUnavailable, OSError)):
        lake.writer.flush(segment)
    assert lake.writer.flushed(WORKER) == (0, 0)
    assert lake.counts() == (0, 0, 0, 0, 0)
    lake.writer.flush(segment)
    assert lake.counts() == (1, 3, 2, 0, 1)


def test_after_a_commit_of_unknown_outcome_the_lake_is_asked_before_anything_is_tried_again(lake: Lake) -> None:
    segment = lake.segment(list(events(3)))
    lake.crash.at = "flush.after_commit"
    lake.writer.flush(segment)
    lake.writer.flush(segment)
    assert lake.counts() == (0, 3, 1, 0, 1)
    lake.store(list(events(2)))
    assert lake.counts() == (0, 5, 2, 0, 2)


def test_a_segment_that_cannot_be_read_is_not_taken_for_bad_lines(lake: Lake) -> None:
    segment = lake.segment(list(events(3)))
    hidden = segment.path.rename(segment.path.with_suffix(".hidden"))
    with pytest.raises(LakeUnavailable):
        lake.writer.flush(segment)
    hidden.rename(segment.path)
    lake.writer.flush(segment)
    assert lake.counts() == (0, 3, 1, 0, 1)


def test_a_shortage_of_memory_is_not_taken_for_bad_lines(lake: Lake) -> None:
    messages: list[Message] = [event(number, text="x" * 100_000) for number in range(100)]
    segment = lake.segment(messages)
    connection = lake.writer._open
    connection.execute("SET memory_limit = '6MB'")
    connection.execute("SET temp_directory = ''")
    with pytest.raises(LakeUnavailable):
        lake.writer.flush(segment)
    assert lake.logged.of("segment_refused") == []
    lake.writer.open()
    lake.writer.flush(segment)
    assert lake.counts() == (0, 100, 1, 0, 1)


def test_p1_no_parquet_file_is_committed_before_it_and_its_folder_are_on_disk(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    seen: list[tuple[set[str], set[str]]] = []

    class Watching(CrashPoints):
        def passing(self, name: str) -> None:
            if name == "flush.before_commit":
                seen.append((lake.parquet(), set(synced)))

    lake.writer.close()
    lake.writer = LakeWriter(LakePlace.of_files(lake.catalog, lake.storage), Watching({}), lake.logged.log)
    lake.writer.open()
    old = lake.parquet()
    for _ in range(3):
        synced.clear()
        lake.store([started(), event()], extra=(refused_line(),))
        files, durable = seen.pop()
        assert len(files - old) == 4
        assert files - old <= durable
        assert {str(Path(file).parent) for file in files - old} <= durable
        assert lake.parquet() == files
        old = files


def test_the_window_is_read_back_from_the_newest_messages(lake: Lake) -> None:
    old, new = events(5, ts=START.replace(year=2020)), events(3, ts=START)
    lake.store([*old, *new])
    horizon, ids = lake.writer.window(max_ids=3)
    assert {event_id for event_id, _ in ids} == {message.event_id.int for message in new}
    assert START.replace(year=2020).timestamp() < horizon <= START.timestamp()
    horizon, ids = lake.writer.window(max_ids=8)
    assert horizon == 0
    assert {event_id for event_id, _ in ids} == {message.event_id.int for message in (*old, *new)}
    assert list(lake.writer.window(max_ids=1)[1]) == []


def test_late_messages_are_looked_up_by_id_and_time(lake: Lake) -> None:
    run, happening = started(start_time=START.replace(microsecond=123_456)), event(ts=START.replace(year=1970))
    lake.store([run, happening])
    us = int(START.timestamp()) * 1_000_000 + 123_456
    past = int(START.replace(year=1970).timestamp()) * 1_000_000
    with closing(lake.writer.reader()) as reader:
        wanted = [(run.event_id.int, us), (happening.event_id.int, past), (uuid4().int, us), (5, past)]
        assert reader.known([LateId(*each) for each in wanted]) == {run.event_id.int, happening.event_id.int}
        assert reader.known([LateId(run.event_id.int, us - 1)]) == set()


def test_a_run_is_looked_up_behind_a_position_whatever_its_time(lake: Lake) -> None:
    first, second = started(), started()
    lake.store([first, second])
    with closing(lake.writer.reader()) as reader:
        for after, found in ((0, {first, second}), (1, {second}), (2, set())):
            asked = [LateId(each.event_id.int, None, after) for each in (first, second, started())]
            assert reader.known(asked) == {each.event_id.int for each in found}


def test_a_lake_keeps_its_id_when_it_is_opened_again(lake: Lake) -> None:
    assert lake.writer.open() == lake.id != LAKE


def test_a_catalog_that_is_no_catalog_is_unavailable(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.sqlite"
    catalog.write_bytes(b"not a database" * 100)
    writer = LakeWriter(LakePlace.of_files(catalog, tmp_path / "lake"), CrashPoints({}), Logged().log)
    with pytest.raises(LakeUnavailable, match=r"catalog\.sqlite cannot be opened"):
        writer.open()


def test_a_window_that_cannot_be_read_to_its_end_is_a_lake_that_is_away(lake: Lake) -> None:
    lake.store([started()])
    writing = lake.writer._open
    writing.execute(
        f"INSERT INTO lake.events BY NAME SELECT '{WORKER}'::UUID AS worker, 1 AS seq, now() AS received_at,"
        " 'p' AS producer, uuid() AS event_id, 'r' AS run_id, now() AS ts, 'step' AS type FROM range(1500000)"
    )
    largest = max(lake.storage.rglob("*/events/*.parquet"), key=lambda path: path.stat().st_size)
    horizon, ids = lake.writer.window(max_ids=10**9)
    assert horizon == 0
    next(ids)
    damaged = bytearray(largest.read_bytes())
    half, footer = len(damaged) // 2, 1 << 16
    damaged[half:-footer] = bytes(len(damaged) - footer - half)
    with largest.open("r+b") as file:
        file.write(damaged)
    with pytest.raises(LakeUnavailable, match="window cannot be read"):
        for _ in ids:
            pass
    largest.unlink()
    with pytest.raises(LakeUnavailable, match="window cannot be read"):
        list(lake.writer.window(max_ids=10**9)[1])
