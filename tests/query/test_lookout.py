"""What following the lake, and asking it, costs for each of its versions: nothing that stays."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from runlake import wire
from runlake.lake.place import LakePlace
from runlake.lake.sqlitecatalog import SqliteWatch
from runlake_query import model as model_module
from runlake_query.books import QUARANTINE_PARAMETERS, list_quarantine
from runlake_query.events import PARAMETERS as EVENT_PARAMETERS
from runlake_query.events import list_events
from runlake_query.folder import Folder
from runlake_query.history import PARAMETERS as HISTORY_PARAMETERS
from runlake_query.history import show_history
from runlake_query.inventory import list_files
from runlake_query.lookout import LakeDatabase, Lookout
from runlake_query.missed import missed
from runlake_query.parameters import Parameters
from runlake_query.reader import Snapshot
from runlake_query.streambatch import Selection
from support.lakes import LakeWriter, Worker
from support.models import Model
from support.processes import Site
from support.producer import Producer
from support.samples import started

SOON = ("--flush-interval-ms", "100")
_SORTED = """
    SELECT number, '{salt}-' || number || repeat('{salt}', 300) AS text
    FROM range({rows}) AS numbers(number)
    ORDER BY hash(number + {salt}), text
"""
_THREADS = "SELECT current_setting('threads')::INTEGER - current_setting('external_threads')::INTEGER + 1"
_KEPT = """
    SELECT coalesce(sum(memory_usage_bytes), 0)::BIGINT FROM duckdb_memory()
    WHERE tag IN ('OBJECT_CACHE', 'EXTERNAL_FILE_CACHE')
"""


def kept(model: Model) -> int:
    """Bytes that the read model's DuckDB keeps of the versions of the lake it was asked about, and of its files."""
    ((count,),) = model.rows(_KEPT)
    return int(count)


def follow(model: Model, producer: Producer, versions: range) -> None:
    """Have this many versions of the lake, each with a message that the feed gave before."""
    for number in versions:
        ack = producer.deliver([started(f"run-{number}")])
        assert isinstance(ack, wire.Ack)
        model.confirmed({ack.worker: ack.first_seq})


def test_versions_of_the_lake_that_confirm_the_feed_leave_nothing_in_the_read_models_memory(
    site: Site, tmp_path: Path
) -> None:
    with (
        site.ingest(*SOON),
        Producer(site.ingest_endpoint) as producer,
        Model(site, tmp_path / "model", feed=site.feed_endpoint) as model,
    ):
        follow(model, producer, range(5))
        before = kept(model)
        follow(model, producer, range(5, 15))
        assert kept(model) == before  # each used to leave 127 KB
        assert model.rows("SELECT count(*) FROM runs") == [(15,)]


def ask(snapshot: Snapshot) -> tuple[int, int]:
    """All that is asked of the lake alone; returns how many changes and events of a run that has each."""
    list_quarantine(snapshot, Parameters([], QUARANTINE_PARAMETERS))
    list_files(snapshot)
    frames = missed(snapshot, Selection(), None, {}) or []
    assert len([frame for frame in frames if frame.kind == "event"]) == snapshot.one("SELECT sum(events) FROM runs")[0]
    changes = show_history(snapshot, "old", Parameters([], HISTORY_PARAMETERS)).body.count(b'"kind"')
    return changes, len(list_events(snapshot, "old", Parameters([], EVENT_PARAMETERS), with_lake=True).items)


def test_versions_that_come_from_the_lake_alone_and_are_asked_leave_nothing_in_the_read_models_memory(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker = Worker()
    run = worker.start("old")

    def another() -> None:
        worker.update(run, items_succeeded=worker.seq)
        worker.event("old", run, ts="2020-01-01T00:00:00Z")
        worker.event("old", run, ts="2026-04-14T00:00:00Z")
        worker.refuse("p", "reason", b"raw")
        lake.flush(worker)

    another()
    with Model(lake, tmp_path / "model", days=30) as model:
        model.caught_up(worker)
        assert model.read(ask) == (2, 2)
        before = kept(model)
        for number in range(2, 12):
            another()
            model.caught_up(worker)
            assert model.read(ask) == (number + 1, 2 * number)
        assert kept(model) == before
        assert not list((tmp_path / "model").glob("*.new_*"))


def test_a_database_of_versions_is_replaced_after_some_and_closed_with_the_last_that_is_lent(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    watch = SqliteWatch(lake.catalog)
    lookout = Lookout(LakePlace.of_files(lake.catalog, lake.storage), tmp_path, versions=3)

    def attach(number: int) -> LakeDatabase:
        return lookout.attach(watch, f"lake_{number}", tmp_path / f"copy-{number}")

    def runs(database: LakeDatabase, number: int) -> int:
        with database.cursor() as cursor:
            ((count,),) = cursor.execute(f"SELECT count(*) FROM lake_{number}.runs").fetchall()
            return int(count)

    first, second, third, fourth = (attach(number) for number in range(4))
    assert first is second is third is not fourth
    assert [runs(first, 0), runs(first, 2), runs(fourth, 3)] == [1, 1, 1]
    for number in (0, 1):
        first.detach(f"lake_{number}")
    assert runs(first, 2) == 1
    first.detach("lake_2")
    with pytest.raises(duckdb.ConnectionException):
        runs(first, 2)
    lookout.close()
    assert runs(fourth, 3) == 1
    fourth.detach("lake_3")
    with pytest.raises(duckdb.ConnectionException):
        runs(fourth, 3)
    watch.close()


def test_what_two_databases_spill_at_a_time_is_kept_apart_and_goes_with_them(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    rows = 200_000
    folder = tmp_path / "folder"
    folder.mkdir()
    watch = SqliteWatch(lake.catalog)
    lookout = Lookout(LakePlace.of_files(lake.catalog, lake.storage), folder, versions=1)
    first, second = (lookout.attach(watch, f"lake_{n}", tmp_path / f"copy-{n}") for n in (1, 2))

    def wrong(asked: duckdb.DuckDBPyConnection, salt: int, rows: int) -> int:
        """How many of the next rows do not say what they have to."""
        found = asked.fetchmany(rows)
        assert len(found) == rows
        return sum(text != f"{salt}-{number}{str(salt) * 300}" for number, text in found)

    with first.cursor() as one, second.cursor() as other:
        for salt, cursor in enumerate((one, other), start=1):
            cursor.execute("SET GLOBAL memory_limit = '64MiB'")
            cursor.execute(_SORTED.format(salt=salt, rows=rows))
        assert len([path for path in folder.rglob("*") if path.is_file()]) >= 2
        assert wrong(one, 1, rows // 2) + wrong(other, 2, rows) + wrong(one, 1, rows // 2) == 0
    second.detach("lake_2")
    first.detach("lake_1")
    assert list(folder.iterdir()) == []
    watch.close()


def test_what_a_killed_process_had_spilled_is_removed_by_the_next(tmp_path: Path) -> None:
    for name in ("lake-7.tmp", "model.duckdb.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"x")
    Folder(tmp_path).close()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_database_of_versions_works_on_as_many_threads_as_the_read_model(
    lake: LakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "MANY_RUNS", 2)
    worker = Worker()

    def threads(model: Model) -> tuple[int, int]:
        """How many work on a query of the read model, and on one of the lake."""
        model.caught_up(worker)
        with model.copies.borrow() as copy, copy.cursor() as cursor:
            ((of_lake,),) = cursor.execute(_THREADS).fetchall()
        ((of_model,),) = model.rows(_THREADS)
        return of_model, of_lake

    def flush(name: str) -> None:
        worker.start(name)
        lake.flush(worker)

    flush("first")
    with duckdb.connect() as any_one:
        ((most,),) = any_one.execute(_THREADS).fetchall()
    with Model(lake, tmp_path / "model") as model:
        assert threads(model) == (1, 1)
        flush("second")
        assert threads(model) == (most, most)
    with Model(lake, tmp_path / "model") as again:
        assert threads(again) == (most, most)


def test_databases_of_versions_that_follow_have_background_threads_too(lake: LakeWriter, tmp_path: Path) -> None:
    watch = SqliteWatch(lake.catalog)
    lookout = Lookout(LakePlace.of_files(lake.catalog, lake.storage), tmp_path, versions=1)
    with duckdb.connect() as any_one:
        most = any_one.execute(_THREADS).fetchall()
    for number, expected in enumerate(([(1,)], most, most)):
        if number == 1:
            lookout.have_background_threads()
        database = lookout.attach(watch, f"lake_{number}", tmp_path / f"copy-{number}")
        with database.cursor() as cursor:
            assert cursor.execute(_THREADS).fetchall() == expected
        database.detach(f"lake_{number}")
    watch.close()
