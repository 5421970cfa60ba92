"""The lake as it is made, attached, copied and read: by us, and by a DuckDB that knows nothing of us."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import duckdb
import pytest

from runlake.errors import LakeError, LakeUnavailable
from runlake.fields import RUN_FIELD_NAMES
from runlake.lake import duck, schema
from runlake.lake.attach import CATALOG, attach_for_writing, inline_flushes
from runlake.lake.durability import ParquetSync
from runlake.lake.place import LakePlace
from runlake.lake.sqlitecatalog import SqliteWatch, attach_copy
from runlake.sqlfile import load_queries

LAKE = UUID("018d4f00-0000-7000-8000-0000000000bb")
WORKER = UUID(int=99)
RUN = UUID(int=1)
TABLES = {"identity", "schema_migrations", "run_changes", "events", "deliveries", "quarantine", "flushes", "prices"}
TABLES |= {"horizons", "forgets", "removals"}


class Files:
    """Where a lake of a test is."""

    def __init__(self, folder: Path) -> None:
        self.catalog = folder / "catalog.sqlite"
        self.storage = folder / "lake"

    def open(self) -> duckdb.DuckDBPyConnection:
        connection = duck.connect()
        attach_for_writing(connection, LakePlace.of_files(self.catalog, self.storage))
        return connection

    def make(self, lake: UUID = LAKE) -> duckdb.DuckDBPyConnection:
        connection = self.open()
        schema.migrate(connection, CATALOG, lake, ParquetSync(self.storage))
        return connection


@pytest.fixture
def place(tmp_path: Path) -> Files:
    return Files(tmp_path / "data")


@pytest.fixture
def lake(place: Files) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = place.make()
    yield connection
    connection.close()


def start_a_run(connection: duckdb.DuckDBPyConnection, seq: int = 1, run: UUID = RUN) -> None:
    connection.execute(
        f"INSERT INTO {CATALOG}.run_changes BY NAME SELECT ?::UUID AS worker, ? AS seq, now() AS received_at,"
        " 'p' AS producer, 'run.started' AS kind, ?::UUID AS event_id, ?::UUID AS run_event_id, now() AS ts,"
        " 'r' AS run_id, 'a' AS agent_name, 'j' AS job_type, TIMESTAMPTZ '2026-01-28 10:30:00+00' AS start_time,"
        " TIMESTAMPTZ '2026-01-28 10:30:01+00' AS end_time, 0.25 AS cost_usd, '{\"n\": 1}'::JSON AS metrics_json",
        [str(WORKER), seq, str(run), str(run)],
    )


def test_a_new_lake_has_every_table_empty_and_the_view(lake: duckdb.DuckDBPyConnection) -> None:
    assert schema.stored_version(lake, CATALOG) == schema.latest_version() == 3
    assert schema.lake_id(lake, CATALOG) == LAKE
    found = lake.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [CATALOG]).fetchall()
    assert {name for (name,) in found} == TABLES
    for table in TABLES - {"identity", "schema_migrations", "prices"}:
        assert lake.execute(f"SELECT count(*) FROM {CATALOG}.{table}").fetchall() == [(0,)]
    assert [column[0] for column in lake.execute(f"DESCRIBE {CATALOG}.runs").fetchall()] == list(RUN_FIELD_NAMES)


def test_what_is_not_there_yet_has_version_nought(place: Files) -> None:
    with place.open() as connection:
        assert schema.stored_version(connection, CATALOG) == 0
        assert schema.check_version(connection, CATALOG) == 0


def test_migrating_again_changes_nothing_and_keeps_the_identity(place: Files) -> None:
    with place.make() as first:
        start_a_run(first)
    for _ in range(2):
        with place.make(uuid4()) as again:
            assert schema.lake_id(again, CATALOG) == LAKE
            assert again.execute(f"SELECT version FROM {CATALOG}.schema_migrations").fetchall() == [(1,), (2,), (3,)]
            assert again.execute(f"SELECT count(*) FROM {CATALOG}.runs").fetchall() == [(1,)]


def test_a_migration_that_fails_leaves_nothing_behind(place: Files) -> None:
    def fail() -> None:
        raise OSError("no space left on device")

    with place.open() as connection:
        with pytest.raises(OSError, match="no space left"):
            schema.migrate(connection, CATALOG, LAKE, fail)
        assert schema.stored_version(connection, CATALOG) == 0
        schema.migrate(connection, CATALOG, LAKE, ParquetSync(place.storage))
        assert schema.lake_id(connection, CATALOG) == LAKE


def test_the_files_of_a_migration_are_synced_before_it_is_committed(place: Files) -> None:
    seen: list[set[str]] = []
    with place.open() as connection:
        schema.migrate(
            connection, CATALOG, LAKE, lambda: seen.append({file.name for file in place.storage.rglob("*.parquet")})
        )
    assert seen
    assert seen[-1] == {file.name for file in place.storage.rglob("*.parquet")}
    assert seen[-1]


def test_a_lake_that_is_newer_is_refused_with_both_versions_named(place: Files) -> None:
    with place.make() as connection:
        connection.execute(f"INSERT INTO {CATALOG}.schema_migrations VALUES (99, now())")
        for refuse in (
            lambda: schema.check_version(connection, CATALOG),
            lambda: schema.migrate(connection, CATALOG, LAKE, lambda: None),
        ):
            with pytest.raises(LakeError, match=r"version 99, and this RunLake knows versions up to 3"):
                refuse()


def test_a_lake_without_an_identity_is_refused(place: Files) -> None:
    with place.make() as connection:
        connection.execute(f"DELETE FROM {CATALOG}.identity")
        with pytest.raises(LakeError, match="no identity"):
            schema.lake_id(connection, CATALOG)


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [number for number, _ in schema._migrations()] == list(range(1, schema.latest_version() + 1))


def test_rows_go_to_parquet_and_those_of_flushes_into_the_catalog(
    place: Files, lake: duckdb.DuckDBPyConnection
) -> None:
    inline_flushes(lake)
    before = set(place.storage.rglob("*.parquet"))
    lake.execute(f"INSERT INTO {CATALOG}.flushes VALUES (?::UUID, 1, 1, 1, now())", [str(WORKER)])
    assert set(place.storage.rglob("*.parquet")) == before
    start_a_run(lake)
    assert len(set(place.storage.rglob("*.parquet")) - before) == 1
    assert lake.execute(f"SELECT last_seq FROM {CATALOG}.flushes").fetchall() == [(1,)]


def test_p9_plain_duckdb_reads_the_runs_under_any_name(place: Files, tmp_path: Path) -> None:
    """Another process, which loads the two extensions and nothing of ours."""
    with place.make() as connection:
        start_a_run(connection)
    program = tmp_path / "plain.py"
    program.write_text(
        "import sys, duckdb\n"
        "connection = duckdb.connect(config={'autoinstall_known_extensions': False})\n"
        "for extension in sys.argv[2:]:\n"
        "    connection.load_extension(extension)\n"
        "connection.execute(f\"ATTACH 'ducklake:sqlite:{sys.argv[1]}' AS somewhere (READ_ONLY)\")\n"
        "columns = 'run_id, status, duration_ms, cost_usd, cost_source, metrics_json'\n"
        "print(connection.execute(f'SELECT {columns} FROM somewhere.runs').fetchall())\n"
        "connection.execute('USE somewhere')\n"
        "print(connection.execute('SELECT count(*) FROM runs').fetchall())\n"
        "assert 'runlake' not in sys.modules\n",
        "utf-8",
    )
    extensions = [str(duck.extension_path(name)) for name in duck.extensions_for(None)]
    done = subprocess.run(
        [sys.executable, str(program), str(place.catalog), *extensions],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env={"HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[('r', None, 1000, Decimal('0.250000000'), 'reported', '{\"n\": 1}')]",
        "[(1,)]",
    ]


def test_the_view_does_not_lean_on_the_schema_in_use(lake: duckdb.DuckDBPyConnection) -> None:
    """A table of the same name elsewhere is not what the view reads."""
    start_a_run(lake)
    lake.execute("CREATE TABLE memory.run_changes (x INTEGER)")
    lake.execute("USE memory")
    assert lake.execute(f"SELECT count(*) FROM {CATALOG}.runs").fetchall() == [(1,)]


def test_a_copy_of_the_catalog_is_read_while_the_worker_writes(place: Files, tmp_path: Path) -> None:
    """As the query process does it. The writer is another process: two SQLite libraries share no file in one."""
    place.make().close()
    watch = SqliteWatch(place.catalog)
    try:
        before = watch.version()
        assert watch.version() == before
        _start_a_run_elsewhere(place)
        assert watch.version() != before
        copy = tmp_path / "copy.sqlite"
        for _ in range(2):  # the second replaces the first
            watch.copy_to(copy)
        with duck.connect() as reader:
            attach_copy(reader, copy)
            assert schema.check_version(reader, CATALOG) == 3
            assert schema.lake_id(reader, CATALOG) == LAKE
            assert reader.execute(f"SELECT run_id FROM {CATALOG}.runs").fetchall() == [("r",)]
            with pytest.raises(duckdb.Error):
                start_a_run(reader)
    finally:
        watch.close()
        watch.close()


def _start_a_run_elsewhere(place: Files) -> None:
    program = (
        "import sys; from pathlib import Path; from runlake.lake import duck; from runlake.lake.attach import *\n"
        "place = LakePlace.of_files(*map(Path, sys.argv[1:]))\n"
        "connection = duck.connect(place=place); attach_for_writing(connection, place)\n"
        'connection.execute("INSERT INTO lake.run_changes BY NAME SELECT uuid() AS worker, 1 AS seq, now() AS'
        " received_at, 'p' AS producer, 'run.started' AS kind, uuid() AS event_id, uuid() AS run_event_id, now() AS ts,"
        " 'r' AS run_id\")\n"
        "connection.close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(place.catalog), str(place.storage)], timeout=60, check=True)


def test_a_catalog_that_is_not_there_is_a_reason_to_wait(place: Files) -> None:
    watch = SqliteWatch(place.catalog)
    with pytest.raises(LakeUnavailable, match="ingest worker makes it"):
        watch.version()
    place.catalog.parent.mkdir()
    assert not place.catalog.exists()
    place.make().close()
    assert watch.version() == watch.version()
    watch.close()


def test_a_catalog_that_is_no_database_is_a_reason_to_wait_and_not_another_error(place: Files, tmp_path: Path) -> None:
    place.catalog.parent.mkdir()
    place.catalog.write_bytes(b"not a database" * 1000)
    watch = SqliteWatch(place.catalog)
    with pytest.raises(LakeUnavailable, match="cannot be read"):
        watch.version()
        watch.copy_to(tmp_path / "copy.sqlite")
    watch.close()


@pytest.mark.parametrize("name", ["it's here", "100% #1?", "größer", "a b;c"])
def test_a_folder_of_any_name_is_a_folder(tmp_path: Path, name: str) -> None:
    place = Files(tmp_path / name)
    with place.make() as connection:
        start_a_run(connection)
        assert connection.execute(f"SELECT count(*) FROM {CATALOG}.runs").fetchall() == [(1,)]
    watch = SqliteWatch(place.catalog)
    watch.copy_to(tmp_path / "copy.sqlite")
    watch.close()
    with duck.connect() as reader:
        attach_copy(reader, tmp_path / "copy.sqlite")
        assert reader.execute(f"SELECT count(*) FROM {CATALOG}.runs").fetchall() == [(1,)]


def test_our_connections_never_download_and_speak_utc() -> None:
    with duck.connect(threads=1, memory_limit="100MB") as connection:
        settings = connection.execute(
            "SELECT current_setting('autoinstall_known_extensions'), current_setting('autoload_known_extensions'),"
            " current_setting('TimeZone'), current_setting('threads')"
        ).fetchone()
        assert settings == (False, False, "UTC", 1)


def test_a_missing_extension_is_named_with_what_to_install() -> None:
    with pytest.raises(LakeError, match=r"duckdb-extension-none-such is missing\. Install runlake\[server\]"):
        duck.extension_path("none_such")


def test_an_extension_for_another_duckdb_is_named_with_the_version_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duckdb, "__version__", "9.9.9")
    with pytest.raises(LakeError, match=r"Install duckdb-extension-ducklake==9\.9\.9"):
        duck.extension_path("ducklake")


def test_the_queries_of_the_fold_hold_no_text_that_formatting_would_touch() -> None:
    for name, query in load_queries("runlake.lake", "fold.sql").items():
        computed = {"duration_ms": "x", "cost_usd": "x", "cost_source": "x", "cost_table_version": "x"}
        filled = query.format(changes="x", ranked="x", folded="x", more="x", fields="x", name="x", **computed)
        assert filled.count("{") == filled.count("}") == 0, name


@pytest.mark.parametrize("text", ["", "x", "it's", "''", "a\\b", "é\n"])
def test_quoted_text_comes_back_from_sql(text: str) -> None:
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {duck.quote(text)}").fetchall() == [(text,)]
