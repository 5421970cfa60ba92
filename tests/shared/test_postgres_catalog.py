"""A lake whose catalog is in PostgreSQL and whose Parquet files are in S3-compatible storage: both are real here.

Any number of connections attach such a catalog, also in one process: so these tests write and read side by side.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import psycopg
import pytest
from psycopg import sql

from runlake.errors import LakeUnavailable, NoLakeYet
from runlake.lake import attach, duck, maintenance, schema
from runlake.lake.attach import CATALOG, open_watch, read_lake
from runlake.lake.durability import file_sync
from runlake.lake.maintenance import Limits, Maintainer, Step
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.lake.verify import check_files, check_rows
from support.objectstore import ObjectStore
from support.postgres import Postgres
from support.processes import wait_until

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"

WORKER = UUID("018d4f00-0000-7000-8000-00000000001b")
NOWHERE = Path("not-needed")
FLUSHED = f"SELECT max(last_seq), count(*) FROM {CATALOG}.flushes"


@pytest.fixture(scope="module", autouse=True)
def credentials(object_store: ObjectStore) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in object_store.env.items():
            patched.setenv(name, value)
        yield


@pytest.fixture
def nothing_yet(database: str, bucket: str) -> LakePlace:
    """Where a lake may be made."""
    return LakePlace(CatalogAddress(database), f"{bucket}a/lake/")


@pytest.fixture(scope="module")
def original(postgres: Postgres, object_store: ObjectStore, credentials: None) -> Iterator[LakePlace]:
    """A new lake, of which each test has a copy."""
    database = postgres.create_database()
    place = LakePlace(CatalogAddress(database), object_store.create_bucket())
    make(place)
    yield place
    postgres.drop_database(database)


@pytest.fixture
def place(original: LakePlace, postgres: Postgres) -> Iterator[LakePlace]:
    """A new lake of the test's own, which shares only the bucket with others."""
    name, template = f"copy_{uuid4().hex}", original.catalog.rpartition("/")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield LakePlace(CatalogAddress(postgres.url(name)), original.storage)
    postgres.drop_database(postgres.url(name))


def make(place: LakePlace) -> UUID:
    """As the worker opens it."""
    with attach.alone_in_catalog(place), duck.connect(place=place) as connection:
        attach.attach_for_writing(connection, place)
        schema.migrate(connection, CATALOG, uuid4(), file_sync(place))
        attach.inline_flushes(connection)
        maintenance.sort_by_time(connection)
        return schema.lake_id(connection, CATALOG)


class Writer:
    """Flushes one message at a time."""

    def __init__(self, place: LakePlace, worker: UUID = WORKER) -> None:
        self.worker = worker
        self.connection = duck.connect(place=place)
        self._ends = ExitStack()
        self.door = self._ends.enter_context(attach.write_through_door(self.connection, place))
        self.seq = 0

    def flush(self, times: int = 1) -> None:
        for _ in range(times):
            self.seq += 1
            worker, seq = f"'{self.worker}'::UUID AS worker", f"{self.seq}::BIGINT"
            self.connection.execute("BEGIN")
            self.connection.execute(
                f"INSERT INTO {CATALOG}.run_changes BY NAME SELECT {worker}, {seq} AS seq, now() AS received_at, 'p' AS"
                " producer, 'run.started' AS kind, uuid() AS event_id, uuid() AS run_event_id, now() AS ts,"
                " 'r' AS run_id"
            )
            self.connection.execute(
                f"INSERT INTO {CATALOG}.deliveries"
                f" VALUES ('{self.worker}', {seq}, now(), 'p', {seq}, {seq}, 1, 1, 0, 0)"
            )
            self.connection.execute(
                f"INSERT INTO {CATALOG}.flushes BY NAME SELECT {worker}, {seq} AS segment, {seq} AS first_seq,"
                f" {seq} AS last_seq, now() AS flushed_at"
            )
            self.connection.execute("COMMIT")

    def close(self) -> None:
        self._ends.close()


@contextmanager
def writing(place: LakePlace) -> Iterator[Writer]:
    with closing(Writer(place)) as writer:
        yield writer


def reads(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[int, int]:
    """How many flushes and messages are seen through an attachment."""
    row = connection.execute(
        f"SELECT (SELECT count(*) FROM {name}.flushes), (SELECT count(*) FROM {name}.run_changes)"
    ).fetchone()
    assert row is not None
    return row


def test_a_lake_is_made_written_and_read_as_on_one_machine(
    nothing_yet: LakePlace, object_store: ObjectStore, bucket: str
) -> None:
    place = nothing_yet
    lake = make(place)
    with writing(place) as writer:
        writer.flush(3)
    with read_lake(place) as reader:
        assert schema.check_version(reader, CATALOG) == schema.latest_version()
        assert schema.lake_id(reader, CATALOG) == lake
        assert reader.execute(FLUSHED).fetchall() == [(3, 3)]
        assert reader.execute(f"SELECT count(*) FROM {CATALOG}.runs").fetchall() == [(3,)]
        with pytest.raises(duckdb.Error, match="read-only"):
            reader.execute(f"DELETE FROM {CATALOG}.run_changes")
    keys = object_store.keys(bucket)
    assert sum(key.startswith("a/lake/main/run_changes/") for key in keys) == 3
    assert not any("flushes" in key for key in keys), "the small rows are in the catalog itself"
    assert attach.catalog_bytes(place) > 1_000_000


def test_a_catalog_on_this_machine_goes_with_object_storage_too(bucket: str, tmp_path: Path) -> None:
    place = LakePlace(CatalogAddress(f"sqlite:{tmp_path}/catalog.sqlite"), bucket)
    lake = make(place)
    with writing(place) as writer:
        writer.flush()
    with closing(open_watch(place)) as watch, duck.connect() as reader:
        for number in range(2):
            watch.attach(reader, f"lake_{number}", tmp_path / f"copy-{number}.sqlite")
            assert reads(reader, f"lake_{number}") == (1, 1)
            assert schema.lake_id(reader, f"lake_{number}") == lake


def test_workers_that_start_at_once_make_one_lake(nothing_yet: LakePlace) -> None:
    place = nothing_yet
    made: list[UUID] = []
    threads = [threading.Thread(target=lambda: made.append(make(place))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(made) == 4
    assert len(set(made)) == 1
    with read_lake(place) as reader:
        versions = reader.execute(f"SELECT version FROM {CATALOG}.schema_migrations ORDER BY 1").fetchall()
        assert versions == [(number,) for number in range(1, schema.latest_version() + 1)]


def test_an_attachment_shows_the_lake_as_it_stood_whatever_is_written_merged_or_moved(place: LakePlace) -> None:
    watch = open_watch(place)
    with writing(place) as writer, duck.connect() as reader, closing(watch):
        for number in range(1, 4):
            writer.flush(8)
            watch.attach(reader, f"lake_{number}", NOWHERE)
        shown = {"lake_1": (8, 8), "lake_2": (16, 16), "lake_3": (24, 24)}
        assert {name: reads(reader, name) for name in shown} == shown
        with closing(file_sync(place)) as sync:
            maintainer = Maintainer(writer.connection, place, Limits(3_600, 2**25), sync, writer.door)
            names = {maintainer.run(step).step.name for step in maintainer.plan()[1]}
        assert {"inline", "merge"} <= names
        writer.flush()
        assert {name: reads(reader, name) for name in shown} == shown
        watch.attach(reader, "lake_4", NOWHERE)
        assert reads(reader, "lake_4") == (25, 25)


def test_where_no_lake_is_yet_there_is_a_reason_to_wait(nothing_yet: LakePlace) -> None:
    with closing(open_watch(nothing_yet)) as watch:
        for _ in range(2):
            with pytest.raises(NoLakeYet, match=r"There is no lake in .* yet: the ingest worker makes it"):
                watch.version()


def test_a_version_changes_with_a_commit_and_with_nothing_else(place: LakePlace) -> None:
    with writing(place) as writer, closing(open_watch(place)) as watch:
        before = watch.version()
        assert watch.version() == before
        writer.flush()
        after = watch.version()
        assert after != before
        watch.close()
        assert watch.version() == after


def _connections(postgres: Postgres, database: str) -> int:
    ((count,),) = postgres.rows(_CONNECTIONS, database.rpartition("/")[2])
    return int(count)


def test_many_attachments_take_one_connection_each_and_give_it_back(place: LakePlace, postgres: Postgres) -> None:
    database = place.catalog
    with writing(place) as writer:
        writer.flush()
    wait_until(lambda: _connections(postgres, database) == 0, "the writer's connections are gone")
    with closing(open_watch(place)) as watch, duck.connect() as reader:
        for number in range(12):
            watch.attach(reader, f"lake_{number}", NOWHERE)
            assert reads(reader, f"lake_{number}") == (1, 1)
        assert _connections(postgres, database) <= 2 * 12 + 1
        for number in range(11):
            reader.execute(f"DETACH lake_{number}")
        wait_until(lambda: _connections(postgres, database) <= 3, "connections are given back")
        assert reads(reader, "lake_11") == (1, 1)


def test_after_postgresql_was_away_everything_works_again_by_itself(place: LakePlace, postgres: Postgres) -> None:
    with writing(place) as writer, closing(open_watch(place)) as watch, duck.connect() as reader:
        writer.flush()
        watch.attach(reader, "pinned", NOWHERE)
        seen = watch.version()
        postgres.stop()
        try:
            for _ in range(2):
                with pytest.raises(LakeUnavailable, match="cannot be reached"):
                    watch.version()
                with pytest.raises(duckdb.Error):
                    reads(reader, "pinned")
        finally:
            postgres.start()
        assert reads(reader, "pinned") == (1, 1)
        assert watch.version() == seen
        writer.flush()
        assert watch.version() != seen
        assert reads(reader, "pinned") == (1, 1)
        writer.connection.execute("BEGIN")
        writer.connection.execute(FLUSHED)
        postgres.restart()
        with pytest.raises(duckdb.Error):
            writer.flush()
        with pytest.raises(duckdb.Error):
            writer.connection.execute("ROLLBACK")
        with read_lake(place) as other:
            ((writer.seq, _),) = other.execute(FLUSHED).fetchall()
        writer.flush()
        assert writer.connection.execute(FLUSHED).fetchall() == [(3, 3)]


class _Refusing(BaseHTTPRequestHandler):
    """S3 that is overloaded."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(503)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (names of the library)

    def _answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _readable(store: ObjectStore) -> type[_Refusing]:
    """The S3 server, for who may read and do nothing else."""

    class ReadOnly(_Refusing):
        def do_GET(self) -> None:
            connection = HTTPConnection(store.host, store.port)
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "date")}
            self._answer(answer.status, kept, answer.read())
            connection.close()

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(403)

        do_HEAD = do_GET  # noqa: N815
        do_POST = do_DELETE = do_PUT  # noqa: N815

    return ReadOnly


@contextmanager
def serving(handler: type[_Refusing]) -> Iterator[str]:
    """An S3 of another kind; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _reader_of(postgres: Postgres, database: str) -> str:
    """The URL of a role that may read what the lake's owner makes, and nothing else."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE lake_reader LOGIN PASSWORD 'reader-of-this-test'")
        connection.execute("GRANT USAGE ON SCHEMA public TO lake_reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO lake_reader")
        connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO lake_reader")
    return database.replace(f"runlake:{postgres.password}@", "lake_reader:reader-of-this-test@")


@pytest.fixture
def reading_role(postgres: Postgres, place: LakePlace) -> Iterator[str]:
    yield _reader_of(postgres, place.catalog)
    with psycopg.connect(place.catalog, autocommit=True) as connection:
        connection.execute("DROP OWNED BY lake_reader")
        connection.execute("DROP ROLE lake_reader")


def test_readers_need_the_right_to_select_and_to_get_objects_and_no_other(
    place: LakePlace, reading_role: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = LakePlace(CatalogAddress(reading_role), place.storage)
    with writing(place) as writer, serving(_readable(object_store)) as front:
        writer.flush(9)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", front)
        with closing(open_watch(reading)) as watch, duck.connect() as reader:
            before = watch.version()
            watch.attach(reader, CATALOG, NOWHERE)
            assert reads(reader, CATALOG) == (9, 9)
            writer.flush()
            assert watch.version() != before
        with read_lake(reading) as lake:
            assert check_files(lake, reading, Limits(3_600, 1), datetime.now(UTC)).wrong == []
            assert [check.wrong for check in check_rows(lake)] == [[], [], [], []]
        with duck.connect(place=place) as intruder:
            attach.attach_for_writing(intruder, place)
            with pytest.raises(duckdb.Error, match="403"):
                intruder.execute(f"INSERT INTO {CATALOG}.identity VALUES (uuid(), now())")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store.endpoint)
        with duck.connect(place=reading) as intruder:
            attach.attach_for_writing(intruder, reading)
            with pytest.raises(duckdb.Error, match="permission denied"):
                intruder.execute(f"INSERT INTO {CATALOG}.identity VALUES (uuid(), now())")


def test_workers_that_write_at_once_beside_maintenance_lose_nothing_and_need_not_try_again(place: LakePlace) -> None:
    def write(worker: UUID) -> None:
        with closing(Writer(place, worker)) as writer:
            writer.flush(12)

    with (
        ThreadPoolExecutor(3) as threads,
        writing(place) as maintaining,
        closing(file_sync(place)) as sync,
    ):
        at_work = [threads.submit(write, uuid4()) for _ in range(3)]
        maintainer = Maintainer(maintaining.connection, place, Limits(3_600, 2**25), sync, maintaining.door)
        while not all(future.done() for future in at_work):
            for step in maintainer.plan()[1]:
                maintainer.run(step)
        for future in at_work:
            future.result()
    with read_lake(place) as reader:
        assert reads(reader, CATALOG) == (36, 36)
        assert [check.wrong for check in check_rows(reader)] == [[], [], [], []]


def test_what_maintenance_does_to_a_cluster_loses_nothing_and_leaves_files_of_others_alone(
    nothing_yet: LakePlace, object_store: ObjectStore, bucket: str
) -> None:
    place = nothing_yet
    make(place)
    with writing(place) as writer, closing(file_sync(place)) as sync:
        writer.flush(9)
        orphan = f"{place.storage}main/run_changes/ducklake-{uuid4()}.parquet"
        writer.connection.execute(f"COPY (SELECT 1 AS x) TO '{orphan}' (FORMAT parquet)")
        before = object_store.keys(bucket)
        limits = Limits(0.0, 2**25)
        maintainer = Maintainer(writer.connection, place, limits, sync, writer.door)
        done: dict[str, int] = {}
        for _ in range(3):
            for step in [Step("orphans", 0), *maintainer.plan()[1]]:
                done[step.name] = done.get(step.name, 0) + maintainer.run(step).count
        assert {name for name, count in done.items() if count} >= {"orphans", "inline", "merge", "expire", "remove"}
        assert done["orphans"] == 1
        assert maintainer.survey().old_replaced_files == 0
        left = object_store.keys(bucket)
        assert len(left) == len(maintainer.survey().files) < len(before)
        with read_lake(place) as reader:
            assert reads(reader, CATALOG) == (9, 9)
            found = check_files(reader, place, Limits(0.0, 1), datetime.now(UTC) + timedelta(hours=1))
            assert (found.wrong, found.notes) == ([], [])
            assert [check.wrong for check in check_rows(reader)] == [[], [], [], []]
        for path in (orphan, f"{place.storage}main/run_changes/not-ours.parquet"):
            writer.connection.execute(f"COPY (SELECT 1 AS x) TO '{path}' (FORMAT parquet)")
        assert maintainer.run(Step("orphans", 0)).count == 0
    assert len(object_store.keys(bucket)) == len(left) + 2


def _errors(*attempts: Callable[[], Any]) -> Iterator[str]:
    for attempt in attempts:
        with pytest.raises((LakeUnavailable, duckdb.Error)) as failed:
            attempt()
        yield str(failed.value)


def test_no_error_shows_the_password(place: LakePlace, postgres: Postgres) -> None:
    wrong = "wrong-one-of-this-test"
    addresses = {
        wrong: place.catalog.replace(postgres.password, wrong),
        postgres.password: place.catalog.replace(f":{postgres.port}/", ":1/"),
    }
    for password, address in addresses.items():
        assert password in address
        elsewhere = LakePlace(CatalogAddress(address), place.storage)

        def write(elsewhere: LakePlace = elsewhere) -> None:
            with duck.connect(place=elsewhere) as connection:
                attach.attach_for_writing(connection, elsewhere)

        def make_it(elsewhere: LakePlace = elsewhere) -> None:
            make(elsewhere)

        for said in _errors(write, make_it, open_watch(elsewhere).version):
            assert password not in said
            assert "127.0.0.1" in said


def test_storage_that_does_not_answer_is_an_error_when_its_time_is_over(
    place: LakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(place) as writer:
        writer.flush()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with read_lake(place) as reader:
            reader.execute("SET http_timeout = 1")
            reader.execute("SET http_retries = 0")
            with pytest.raises(duckdb.IOException, match="Timeout was reached"):
                reads(reader, CATALOG)


def test_storage_that_answers_503_is_an_error_and_no_hang(place: LakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(place) as writer:
        writer.flush()
    with serving(_Refusing) as overloaded:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", overloaded)
        with read_lake(place) as reader, pytest.raises(duckdb.Error, match="503") as failed:
            reads(reader, CATALOG)
        assert "testing-secret" not in str(failed.value)
        with writing(place) as writer, pytest.raises(duckdb.Error, match="503"):
            writer.flush()


def test_a_server_that_takes_no_connection_of_duckdb_s_is_away_and_is_told_without_parameters(place: LakePlace) -> None:
    database = sql.Identifier(place.catalog.rpartition("/")[2])
    with closing(open_watch(place)) as watch, duck.connect(place=place) as connection:
        assert watch.version()  # its own connection stays
        with psycopg.connect(place.catalog.rpartition("/")[0] + "/postgres", autocommit=True) as server:
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            server.execute(allow.format(database, sql.SQL("false")))
            with pytest.raises(LakeUnavailable) as refused:
                watch.attach(connection, "away", NOWHERE)
            said = str(refused.value)
            assert "cannot be reached: " in said and "not currently accepting connections" in said
            assert "connect_timeout" not in said
            server.execute(allow.format(database, sql.SQL("true")))
        watch.attach(connection, "again", NOWHERE)
        assert reads(connection, "again") == (0, 0)
