"""A COMMIT whose answer is lost may have landed, or go on at the server: what is in the lake stays whole and once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from runlake.errors import LakeUnavailable
from runlake.lake import filedoor
from runlake.lake.attach import CATALOG, read_lake
from runlake.lake.maintenance import Limits, Step
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.lake.verify import check_files, check_rows, live_files
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeWriter
from support.catalogproxy import FLUSH, MERGE, REMOVAL, CatalogProxy, Loss
from support.journals import WORKER, Logged, write_lines
from support.objectstore import ObjectStore
from support.postgres import Postgres
from support.samples import START, event, started, updated
from support.waiting import eventually

_LIMITS = Limits(keep_s=0.0, merge_bytes=2**25)
_NAME = f"runlake lake {WORKER.hex} t00000000"


class Lake:
    """A lake that a worker reaches through a proxy, and its journal."""

    def __init__(self, folder: Path, proxy: CatalogProxy, database: str, storage: str) -> None:
        self.proxy = proxy
        self.place = LakePlace(CatalogAddress(database), storage)
        self.logged = Logged()
        address = LakePlace(CatalogAddress(proxy.url), storage).named(_NAME)
        self.writer = LakeWriter(address, CrashPoints({}), self.logged.log, _LIMITS)
        self.id = self.writer.open()
        self.journal = folder / "journal"
        self._number = self._seq = 0

    def segment(self, runs: int = 1) -> Segment:
        """A start and an update for each run."""
        self._number += 1
        messages = [
            message
            for run in (started(f"run {self._number}.{number}", START) for number in range(runs))
            for message in (run, updated(run.event_id, START, status="success"))
        ]
        segment = write_lines(self.journal, [messages], self._number, self._seq + 1, lake=self.id)
        self._seq = segment.last_seq
        return segment

    def flush(self, times: int = 1) -> None:
        for _ in range(times):
            self.writer.flush(self.segment())

    def maintain(self, name: str, table: str = "") -> None:
        """Do the due steps of this name, and table. Raises what the first that fails does."""
        for step in self.writer.due()[1]:
            if step.name == name and table in step.table:
                self.writer.maintain(step)

    def files(self) -> set[str]:
        """Those of `run_changes`."""
        with read_lake(self.place) as connection:
            return {file for file in live_files(connection, self.place) if "/run_changes/" in file}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with read_lake(self.place) as connection:
            connection.execute(f"USE {CATALOG}")
            return connection.execute(query).fetchall()

    def is_whole(self) -> None:
        """Every file that the catalog has is there and can be read, and the rows are each there once."""
        with read_lake(self.place) as connection:
            checks = [check_files(connection, self.place, Limits(3_600, 1), datetime.now(UTC)), *check_rows(connection)]
        assert [check.wrong for check in checks] == [[]] * len(checks)

    def has(self, messages: int) -> None:
        self.is_whole()
        counts = "SELECT (SELECT count(*) FROM run_changes) + (SELECT count(*) FROM events)"
        assert self.rows(counts) == [(messages,)]


@pytest.fixture(params=["folder", "object storage"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return f"{tmp_path / 'lake'}/"
    store: ObjectStore = request.getfixturevalue("object_store")
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    return store.create_bucket()


@contextmanager
def opened(folder: Path, database: str, storage: str) -> Iterator[Lake]:
    with CatalogProxy(database) as proxy:
        lake = Lake(folder, proxy, database, storage)
        try:
            yield lake
        finally:
            lake.writer.close()


@pytest.fixture
def lake(tmp_path: Path, database: str, storage: str) -> Iterator[Lake]:
    with opened(tmp_path, database, storage) as lake:
        yield lake


@pytest.fixture
def folder_lake(tmp_path: Path, database: str) -> Iterator[Lake]:
    with opened(tmp_path, database, f"{tmp_path / 'lake'}/") as lake:
        yield lake


@pytest.mark.parametrize("what", ["answer", "commit"])
def test_p1_a_flush_whose_commit_is_lost_or_its_answer_is_in_the_lake_once_and_can_be_read(
    lake: Lake, what: Loss
) -> None:
    lake.flush()
    segment = lake.segment(runs=3)
    lake.proxy.lose(what, FLUSH)
    if what == "commit":
        with pytest.raises(LakeUnavailable, match="cannot be stored"):
            lake.writer.flush(segment)
    lake.writer.flush(segment)
    assert lake.proxy.lost == 1
    lake.has(8)
    events = lake.logged.events()
    assert events.count("commit_in_doubt") == 1
    assert events.count("commit_had_landed") == (what == "answer")
    lake.flush()
    lake.has(10)


@pytest.mark.parametrize("what", ["answer", "commit"])
def test_p1_a_merge_whose_commit_is_lost_or_its_answer_leaves_every_row_where_the_catalog_says(
    lake: Lake, what: Loss
) -> None:
    lake.flush(8)
    before = lake.files()
    lake.proxy.lose(what, MERGE)
    with pytest.raises(LakeUnavailable, match="'merge'"):
        lake.maintain("merge", "run_changes")
    assert lake.proxy.lost == 1
    assert (len(before & lake.files()) < 8) == (what == "answer")
    lake.has(16)
    lake.maintain("merge", "run_changes")
    for name in ("expire", "remove"):  # what was merged is gone: now the merged files alone have the rows
        lake.maintain(name)
    assert not before & lake.files()
    lake.has(16)


@pytest.mark.parametrize("what", ["answer", "commit"])
def test_p1_a_removal_whose_commit_is_lost_or_its_answer_is_done_once(lake: Lake, what: Loss) -> None:
    lake.writer.flush(lake.segment(runs=3))
    lake.proxy.lose(what, REMOVAL)
    retain = Step("retain", 0, least=int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
    with pytest.raises(LakeUnavailable, match="'retain'"):
        lake.writer.maintain(retain)
    assert lake.proxy.lost == 1
    lake.has(0 if what == "answer" else 6)
    assert lake.writer.maintain(retain).count == (0 if what == "answer" else 3)
    lake.has(0)
    assert lake.rows("SELECT sum(messages) FROM removals") == [(6,)]


def test_what_a_commit_that_did_not_land_leaves_behind_maintenance_removes(folder_lake: Lake) -> None:
    lake = folder_lake
    lake.flush()
    segment = lake.segment()
    lake.proxy.lose("commit", FLUSH)
    with pytest.raises(LakeUnavailable):
        lake.writer.flush(segment)
    lake.writer.flush(segment)
    left = lake.writer.maintain(Step("orphans", 0)).count
    assert left == 2
    lake.has(4)


def test_a_catalog_that_takes_nothing_is_asked_before_more_files_are_written(
    folder_lake: Lake, database: str, tmp_path: Path
) -> None:
    lake = folder_lake
    segment = lake.segment()
    with psycopg.connect(database, autocommit=True) as admin:
        name = database.rpartition("/")[2]
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        lake.proxy.cut()
        for _ in range(3):
            with pytest.raises(LakeUnavailable):
                lake.writer.open()
                lake.writer.flush(segment)
        assert len(list((tmp_path / "lake").rglob("*/run_changes/*.parquet"))) <= 1
        admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    lake.writer.open()
    lake.writer.flush(segment)
    lake.has(2)


def test_p2_a_flush_whose_commit_goes_on_after_its_connection_is_in_the_lake_once(
    folder_lake: Lake, postgres: Postgres, database: str
) -> None:
    lake = folder_lake
    lake.flush()
    segment = lake.segment()
    with ThreadPoolExecutor(1) as thread:
        with postgres.commits_wait():
            flushing = thread.submit(lake.writer.flush, segment)
            eventually(lambda: postgres.waiting_commits(database, _NAME))
            first = postgres.waiting_commits(database, _NAME)
            lake.proxy.cut()
            eventually(lambda: postgres.waiting_commits(database, _NAME) - first)  # the next connection, which writes
        flushing.result(30)
    lake.has(4)


def test_p2_while_an_earlier_connection_does_not_end_nothing_is_flushed_again(
    folder_lake: Lake, postgres: Postgres, database: str
) -> None:
    lake = folder_lake
    lake.flush()
    segment = lake.segment()
    with ThreadPoolExecutor(1) as thread, postgres.commits_wait():
        flushing = thread.submit(lake.writer.flush, segment)
        eventually(lambda: postgres.waiting_commits(database, _NAME))
        (backend,) = postgres.waiting_commits(database, _NAME)
        os.kill(backend, signal.SIGSTOP)
        try:
            lake.proxy.cut()
            with pytest.raises(LakeUnavailable, match="does not end"):
                flushing.result(30)
            with pytest.raises(LakeUnavailable):
                lake.writer.flush(segment)
        finally:
            os.kill(backend, signal.SIGCONT)
    lake.writer.open()
    lake.writer.flush(segment)
    lake.has(4)


def test_two_writers_of_one_worker_leave_each_other_alone(folder_lake: Lake) -> None:
    lake = folder_lake
    lake.flush()
    other = LakeWriter(lake.place.named(_NAME), CrashPoints({}), lake.logged.log, role="n")
    other.open()
    try:
        other.number_on([WORKER, UUID(int=1)])
        lake.writer.flush(write_lines(lake.journal, [[event(7)]], 2, other.flushed(WORKER)[1] + 1, lake=lake.id))
    finally:
        other.close()
    assert "commit_in_doubt" not in lake.logged.events()
    lake.has(3)


@pytest.mark.parametrize("how", ["another disk", "copied back"])
def test_p1_what_is_written_while_the_folder_is_replaced_goes_to_the_folder_that_is_there(
    tmp_path: Path, how: str
) -> None:
    storage, first, second = tmp_path / "lake", tmp_path / "first", tmp_path / "second"
    if how == "another disk":
        first.mkdir()
        storage.symlink_to(first)
    place = LakePlace.of_files(tmp_path / "catalog.sqlite", storage)
    writer = LakeWriter(place, CrashPoints({}), Logged().log, _LIMITS)
    with closing(writer):
        lake = writer.open()
        writer.flush(write_lines(tmp_path / "journal", [[event(1)]], 1, 1, lake=lake))
        if how == "another disk":
            shutil.copytree(first, second)
            (tmp_path / "link").symlink_to(second)
            (tmp_path / "link").rename(storage)
        else:
            storage.rename(first)
            shutil.copytree(first, storage)
        segment = write_lines(tmp_path / "journal", [[event(2), event(3)]], 2, 2, lake=lake)
        with pytest.raises(LakeUnavailable, match="another one"):
            writer.flush(segment)
        writer.flush(segment)
    shutil.rmtree(first)
    with read_lake(place) as connection:
        assert connection.execute(f"SELECT seq FROM {CATALOG}.events ORDER BY seq").fetchall() == [(1,), (2,), (3,)]


def test_a_lake_that_could_not_be_opened_anew_is_by_who_asks_what_is_to_be_removed(folder_lake: Lake) -> None:
    """Also where another worker has been elected for maintenance, and nothing is flushed."""
    folder_lake.flush()
    folder_lake.writer.close()
    assert folder_lake.writer.refused_rules()[1] == frozenset()
    with closing(folder_lake.writer.reader()) as reader:
        assert reader.flushed(WORKER)[0] == 1


def test_a_commit_that_readers_keep_from_beginning_is_in_no_doubt(
    folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filedoor, "_WAIT_S", 0.1)
    segment = folder_lake.segment()
    with closing(folder_lake.writer.reader()) as reader:
        with reader._door.passing(), pytest.raises(LakeUnavailable, match="does not get done"):
            folder_lake.writer.flush(segment)
        assert "commit_in_doubt" not in folder_lake.logged.events()
        assert reader.flushed(WORKER) == (0, 0)
    folder_lake.writer.flush(segment)
    folder_lake.has(2)
