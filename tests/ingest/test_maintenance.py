"""A lake that is written in many small flushes stays small, and no row, reader or crash is the worse for it."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runlake.lake.maintenance import File, Limits, Step, Survey, plan
from runlake.lake.place import LakePlace
from runlake.messages import Message
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.flusher import FlusherThread
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.maintenance import Maintenance
from support.journals import WORKER, Logged, write_lines
from support.messages import NOW
from support.samples import event, started, updated

KEPT = Limits(keep_s=3_600, merge_bytes=32 << 20)
AT_ONCE = Limits(keep_s=0, merge_bytes=32 << 20)
TABLES = ("run_changes", "events", "deliveries", "flushes")


class Passing(CrashPoints):
    """Calls `at` with the name of every place that is passed."""

    def __init__(self) -> None:
        super().__init__({})
        self.at: Callable[[str], None] = lambda name: None

    def passing(self, name: str) -> None:
        self.at(name)


class Lake:
    """A worker's lake in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.catalog, self.storage = folder / "data" / "catalog.sqlite", folder / "data" / "lake"
        self.place = LakePlace.of_files(self.catalog, self.storage)
        self.passing = Passing()
        self.logged = Logged()
        self.number = self.seq = 0
        self.writer = self.open(KEPT)

    def open(self, limits: Limits) -> LakeWriter:
        """The lake opened anew, with other limits."""
        if self.number:
            self.writer.close()
        self.writer = LakeWriter(self.place, self.passing, self.logged.log, limits)
        self.id = self.writer.open()
        return self.writer

    def segment(self) -> Segment:
        """A sealed segment with a run, a change of it and an event that is earlier than those before."""
        self.number += 1
        run = started(f"run-{self.number}", NOW, product="p")
        happening = event(self.number, ts=NOW - timedelta(minutes=self.number))
        groups: list[list[Message]] = [[run, happening], [updated(run.event_id, NOW, status="success")]]
        segment = write_lines(self.journal, groups, self.number, self.seq + 1, lake=self.id)
        self.seq = segment.last_seq
        return segment

    def flush(self, count: int) -> None:
        for _ in range(count):
            self.writer.flush(self.segment())

    def maintain(self) -> list[str]:
        """Do what is due once; returns the steps' names."""
        steps = self.writer.due()[1]
        for step in steps:
            self.writer.maintain(step)
        return [step.name for step in steps]

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        return self.writer._open.execute(query).fetchall()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, in an order of its own."""
        return {table: sorted(self.sql(f"SELECT * FROM lake.{table}"), key=repr) for table in (*TABLES, "runs")}

    def parquet(self) -> set[Path]:
        return set(self.storage.rglob("*.parquet"))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    lake = Lake(tmp_path)
    yield lake
    lake.writer.close()


def survey(sizes: list[int], **fields: Any) -> Survey:
    usual: dict[str, Any] = {
        "inlined_rows": 0, "snapshots": 1, "old_snapshots": 0, "replaced_files": 0, "old_replaced_files": 0
    }  # fmt: skip
    return Survey(files=[File("events", size, 1) for size in sizes], **{**usual, **fields})


def test_few_small_files_are_left_alone_and_eight_are_merged() -> None:
    assert plan(survey([3_000] * 7), KEPT) == []
    (step,) = plan(survey([3_000] * 8), KEPT)
    assert step == Step("merge", 8, table="events", least=0, below=1 << 20, size=24_000)


def test_files_are_merged_with_those_of_their_size_and_large_ones_never_again() -> None:
    sizes = [3_000] * 7 + [2 << 20] * 8 + [9 << 20] * 7 + [32 << 20] * 100
    (step,) = plan(survey(sizes), KEPT)
    assert (step.least, step.below, step.count) == (1 << 20, 8 << 20, 8)


def test_old_snapshots_go_before_the_files_that_they_may_need() -> None:
    steps = plan(survey([], inlined_rows=8, old_snapshots=3, old_replaced_files=5), KEPT)
    assert [(step.name, step.count) for step in steps] == [("inline", 8), ("expire", 3), ("remove", 5)]


def test_many_small_flushes_become_few_files_and_no_row_changes(lake: Lake) -> None:
    lake.flush(12)
    before, files = lake.contents(), lake.parquet()
    position = lake.writer.flushed(WORKER)
    assert lake.maintain() == ["inline", "merge", "merge", "merge"]
    assert lake.contents() == before
    assert len(before["flushes"]) == len(before["runs"]) == 12
    assert lake.writer.flushed(WORKER) == position == (12, 36)
    found = lake.writer.due()[0]
    assert sorted(file.table for file in found.files if file.table in TABLES) == sorted(TABLES)
    assert found.inlined_rows == 0
    assert lake.maintain() == []
    assert files < lake.parquet()
    kept = "SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory() WHERE tag = 'EXTERNAL_FILE_CACHE'"
    assert lake.sql(kept) == [(0,)]  # what a merge has read stays in nobody's memory


def test_merging_goes_on_over_earlier_merges_expired_snapshots_and_a_restart(lake: Lake) -> None:
    lake.open(AT_ONCE)
    for _ in range(3):
        lake.flush(8)
        before = lake.contents()
        assert {"inline", "merge", "expire"} <= {*lake.maintain()}
        lake.maintain()
        assert lake.contents() == before
        lake.open(AT_ONCE)
    schema_files = 4  # what a lake begins with: its identity, one for each migration, the built-in prices
    assert len(lake.writer.due()[0].files) <= schema_files + 7
    assert len(lake.parquet()) <= schema_files + 7


def test_merged_files_are_sorted_by_time(lake: Lake) -> None:
    lake.flush(10)
    lake.maintain()
    ((path, size),) = lake.sql(
        "SELECT filename, count(*) FROM (SELECT DISTINCT filename, rowid FROM lake.events) GROUP BY filename"
    )
    assert size == 10
    times = [row[0] for row in lake.sql(f"SELECT ts FROM read_parquet('{path}')")]
    assert times == sorted(times)
    assert times != [row[0] for row in lake.sql("SELECT ts FROM lake.events ORDER BY seq")]


def test_p1_a_merged_file_and_its_folder_are_on_disk_before_its_sources_are_let_go(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    lake.flush(8)
    before = lake.parquet()
    monkeypatch.setattr(os, "fsync", fsync)
    seen: list[str] = []

    def look(name: str) -> None:
        if name in ("maintain.inline.before_commit", "maintain.merge.before_commit"):
            seen.append(name)
            new = lake.parquet() - before
            assert len(new) == len(seen)
            assert {str(path) for path in new} <= synced
            assert {str(path.parent) for path in new} <= synced

    lake.passing.at = look
    lake.maintain()
    assert len(seen) == 4


def test_what_was_replaced_stays_for_as_long_as_a_read_may_take(lake: Lake) -> None:
    lake.flush(8)
    lake.maintain()
    snapshots, files = lake.sql("SELECT * FROM lake.snapshots()"), lake.parquet()
    assert lake.maintain() == []
    found = lake.writer.due()[0]
    assert (found.replaced_files, found.old_replaced_files, found.old_snapshots) == (24, 0, 0)
    for step in (Step("expire", 99), Step("remove", 99), Step("orphans", 0)):
        assert lake.writer.maintain(step).count == 0
    assert lake.sql("SELECT * FROM lake.snapshots()") == snapshots
    assert lake.parquet() == files
    before = lake.contents()
    lake.open(AT_ONCE)
    assert lake.maintain() == ["expire", "remove"]
    assert len(lake.sql("SELECT * FROM lake.snapshots()")) == 1
    assert len(files - lake.parquet()) == 24
    assert lake.contents() == before


def test_files_that_were_never_committed_are_removed_once_they_are_old_and_others_never(lake: Lake) -> None:
    lake.flush(1)
    known = lake.parquet()
    folder = lake.storage / "main" / "events"
    orphan = folder / "ducklake-01a205ee-d6a3-72fb-8499-54e6c92c2bfe.parquet"
    foreign = folder / "mine.parquet"
    for path in (orphan, foreign):
        path.write_bytes(b"PAR1")
    assert lake.writer.maintain(Step("orphans", 0)).count == 0
    assert orphan.exists()
    old = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    for path in lake.parquet():
        os.utime(path, (old, old))
    assert lake.writer.maintain(Step("orphans", 0)).count == 1
    assert lake.parquet() == {*known, foreign}


def test_a_failed_step_leaves_the_lake_as_it_was_is_told_once_and_does_not_hold_up_the_others(lake: Lake) -> None:
    lake.flush(8)
    before = lake.contents()
    source = next(iter((lake.storage / "main" / "events").iterdir()))
    hidden = source.rename(source.with_suffix(".hidden"))
    ticks = itertools.count()  # a cycle ends after 2 s: no machine is too slow for that here
    maintenance = Maintenance(lake.writer, lake.place, 0.001, lake.logged.log, lambda: next(ticks) / 1_000)
    _cycles(maintenance, 2)
    upkeep = maintenance.upkeep
    assert (upkeep.failures, upkeep.failing, upkeep.merged_files, upkeep.flushes_moved) == (2, 1, 16, 8)
    (line,) = lake.logged.of("maintenance_failed")
    assert "'merge' events" in line["reason"]
    hidden.rename(source)
    _cycles(maintenance, 1)
    assert (maintenance.upkeep.failing, maintenance.upkeep.merged_files) == (0, 24)
    assert lake.logged.of("maintenance_works_again")
    assert lake.contents() == before


def _cycles(maintenance: Maintenance, count: int) -> None:
    upto = maintenance.upkeep.cycles + count
    while maintenance.upkeep.cycles < upto:
        maintenance.work()


def test_a_cycle_ends_when_its_time_is_over_and_the_next_one_goes_on(lake: Lake) -> None:
    lake.flush(8)
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0  # every look at the clock is a second later
        return now[0]

    maintenance = Maintenance(lake.writer, lake.place, 100.0, lake.logged.log, clock)
    for moved, merged in ((8, 0), (8, 8), (8, 16), (8, 24)):
        maintenance.work()
        assert (maintenance.upkeep.flushes_moved, maintenance.upkeep.merged_files) == (moved, merged)
    assert maintenance.upkeep.cycles == 4
    assert [line["more"] for line in lake.logged.of("maintenance")] == [True] * 4
    assert (maintenance.due_in_s() or 0) > 90


def test_maintenance_that_is_off_is_never_due(lake: Lake) -> None:
    assert Maintenance(lake.writer, lake.place, 0, lake.logged.log).due_in_s() is None


def test_a_segment_waits_for_one_step_of_maintenance_at_most(lake: Lake) -> None:
    lake.flush(8)
    waiting = [lake.segment() for _ in range(3)]
    flushed: list[int] = []
    order: list[str] = []
    over = threading.Event()

    def note(name: str) -> None:
        if name == "flush.after_remove":
            order.append("flush")
        if name.startswith("maintain.") and name.endswith(".after_commit"):
            order.append("step")
            if len(order) == 1:
                for segment in waiting:
                    flusher.flush(segment)

    def done(segment: Segment, refused: frozenset[int], seconds: float) -> None:
        flushed.append(segment.number)
        if len(flushed) == len(waiting):
            over.set()

    lake.passing.at = note
    maintenance = Maintenance(lake.writer, lake.place, 0.001, lake.logged.log)
    failures: list[BaseException] = []
    flusher = FlusherThread(lake.writer, lake.passing, done, failures.append, lake.logged.log, maintenance)
    flusher.start()
    try:
        assert over.wait(20)
    finally:
        flusher.stop(20)
    assert failures == []
    assert flushed == [9, 10, 11]
    assert order.count("step") >= 3
    assert max(len(steps) for steps in "".join(name[0] for name in order).split("f")[:-1]) == 1


def test_the_step_at_hand_is_given_up_when_the_worker_stops(lake: Lake) -> None:
    lake.flush(8)
    (merge,) = [step for step in lake.writer.due()[1] if step.table == "events"]
    begun, stopped = threading.Event(), threading.Event()

    def stop() -> None:
        begun.wait(20)
        while not stopped.is_set():
            lake.writer.interrupt_maintenance()

    def hold(name: str) -> None:
        if name == "maintain.merge.before_commit":
            begun.set()
            lake.sql("SELECT count(*) FROM range(100_000_000_000) WHERE range % 7 = 1")  # far longer than a test

    lake.passing.at = hold
    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with pytest.raises(Exception, match=r"'merge' events failed: .*[Ii]nterrupt"):
            lake.writer.maintain(merge)
    finally:
        stopped.set()
        begun.set()
        stopper.join()
    lake.passing.at = lambda name: None
    assert len(lake.contents()["events"]) == 8
    assert lake.writer.maintain(merge).count == 8
