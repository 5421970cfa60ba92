"""Statements that mean harm: none writes, reads another file, reaches the network, changes a setting, or stays.

Three fences are tested apart: the look at the statement, DuckDB's own locks behind it, and the kernel's behind those.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import msgspec
import pytest

from runlake_query.sql.messages import Ask
from runlake_query.sql.service import default_threads
from runlake_query.sql.statement import Refused, limited
from support.api import Api
from support.contract import problem
from support.lakes import LakeWriter, Worker
from support.processes import Process, Site, wait_until

SQL = "/api/v1/sql"
SECRET = "only-the-owner-reads-this"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that anyone of this user may read."""
    path = tmp_path_factory.mktemp("secret") / "secret.csv"
    path.write_text(f"x\n{SECRET}\n")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Process, Site]]:
    site = Site(tmp_path_factory.mktemp("hostile"))
    with LakeWriter(site.data) as lake:
        worker = Worker()
        worker.event("run", worker.start("run"))
        lake.flush(worker)
        process, url = site.query("--sql", "on", "--sql-timeout-ms", "60000", "--sql-memory-mb", "128")
        with process:
            api = Api(url)
            yield api, process, site
            api.close()


def hostile(secret: Path) -> list[str]:
    return [
        # other files, by every way that DuckDB has
        f"SELECT * FROM '{secret}'", f"FROM read_csv('{secret}')", f"FROM read_text('{secret}')",
        f"FROM read_blob('{secret}')", f"FROM read_json('{secret}')", f"FROM read_csv_auto(['{secret}'])",
        f"FROM sniff_csv('{secret}')", f"FROM glob('{secret.parent}/*')", f"SELECT (FROM read_text('{secret}'))",
        "FROM read_parquet('/etc/passwd')", "FROM '/etc/passwd'", "FROM parquet_metadata('/x')",
        "FROM read_duckdb('x')",
        f"WITH a AS (FROM read_text('{secret}')) FROM a", f"FROM runs, LATERAL (FROM read_text('{secret}'))",
        f"FROM query('FROM read_text(''{secret}'')')", "FROM query_table('runs')", "FROM sqlite_scan('x.db', 'x')",
        f'FROM "{secret}"', f"SELECT 1 WHERE EXISTS (FROM read_text('{secret}'))",
        f"SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{secret}')))",
        # the network
        "FROM 'http://127.0.0.1:9/x.parquet'", "FROM read_csv('https://127.0.0.1:9/x')", "FROM 's3://bucket/x.parquet'",
        # writing, settings, other databases, extensions
        f"COPY runs TO '{secret.parent}/out.csv'", f"EXPORT DATABASE '{secret.parent}/out'",
        f"ATTACH '{secret.parent}/out.db'", "INSTALL httpfs", "LOAD httpfs", "LOAD sqlite_scanner",
        "PRAGMA database_list", "PRAGMA enable_profiling", "SET threads = 64", "SET GLOBAL memory_limit = '64GB'",
        "RESET lock_configuration", "CALL pragma_version()", "CREATE TABLE x (i INT)", "CREATE MACRO x() AS 1",
        "CREATE OR REPLACE VIEW runs AS SELECT 1", "INSERT INTO runs VALUES (1)", "DELETE FROM runs", "DROP VIEW runs",
        "CHECKPOINT", "VACUUM", "BEGIN", "PREPARE x AS SELECT 1", "EXECUTE x", "DETACH memory", "USE memory",
        "CREATE SECRET (TYPE s3)", "EXPLAIN ANALYZE SELECT 1", "LOAD '/tmp/x.so'", "SUMMARIZE runs", "DESCRIBE runs",
        "SHOW ALL TABLES", "PIVOT runs ON run_id USING count(*)", "FROM (DESCRIBE runs)", "FROM (SHOW TABLES)",
        # what it runs on
        "SELECT getenv('HOME')", "SELECT current_setting('temp_directory')", "SELECT getvariable('x')",
        "FROM duckdb_settings()", "FROM duckdb_secrets()", "FROM duckdb_tables()", "FROM duckdb_extensions()",
        "FROM duckdb_temporary_files()", "FROM sqlite_master", "FROM information_schema.tables", "FROM pg_tables",
        "FROM pragma_database_size()", "FROM main.runs", "FROM memory.main.runs", "FROM result", "FROM system.main.x",
        "WITH duckdb_settings AS (SELECT 1) SELECT * FROM duckdb_settings", "FROM duckdb_logs()",
        "FROM (WITH pg_tables AS (SELECT 1) FROM pg_tables), pg_tables",
        f"WITH \"{secret}\" AS (SELECT 1) FROM \"{secret}\"",
        # more than one statement, and texts that look like one
        "SELECT 1; SELECT 2", "SELECT 1; DROP VIEW runs; --", "SELECT 1) TO '/tmp/x'; --", "SELECT 1 /* ",
        "SELECT 1 */",
        f"SELECT 1); COPY runs TO '{secret.parent}/out.csv'; SELECT (1", "SELECT 1\0; SELECT 2", "", ";", "-- nothing",
        "SELECT 1 INTO x", "json_execute_serialized_sql('x')", "FROM json_execute_serialized_sql('x')",
        "SELECT json_serialize_sql('SELECT 1')", "SELECT 1 FROM runs AT (VERSION => 1)",
    ]  # fmt: skip


def test_every_hostile_statement_is_refused_and_tells_nothing(served: tuple[Api, Process, Site], secret: Path) -> None:
    api, _, site = served
    for statement in hostile(secret):
        reply = api.post(SQL, {"sql": statement})
        told = problem(reply, 400)["detail"]
        assert SECRET not in reply.text, statement
        assert str(site.data) not in told, statement
    assert sorted(path.name for path in secret.parent.iterdir()) == [secret.name], "nothing was written"
    assert api.post(SQL, {"sql": "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM events) AS n"}).json[
        "rows"
    ] == [{"n": 2}], "and it answers as before"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT repeat('x', 5000000000)",
        "SELECT repeat(repeat('x', 1000000), 4000)",
        "SELECT list_transform(range(1000000), lambda x: repeat('y', 1000))",
        "SELECT string_agg(repeat('x', 100000), '') FROM range(100000)",
        "SELECT list(a.range) FROM range(1000000) a, range(1000) b",
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT 1" + " UNION ALL SELECT 1" * 5_000 + " FROM nowhere",
        "SELECT [" * 2_000 + "1" + "]" * 2_000,
    ],
    ids=lambda statement: statement[:40],
)
def test_what_takes_more_memory_than_there_is_ends_and_harms_nobody(
    served: tuple[Api, Process, Site], statement: str
) -> None:
    api, process, _ = served
    reply = api.post(SQL, {"sql": statement})
    assert reply.status in (400, 503), reply.text[:300]
    assert api.post(SQL, {"sql": "SELECT 1 AS x"}).json["rows"] == [{"x": 1}]
    assert api.get("/health").status == 200
    assert not any(line["event"] == "request_failed" for line in process.log)


def test_a_sandbox_is_held_by_the_kernel(served: tuple[Api, Process, Site]) -> None:
    api, process, _ = served
    assert api.post(SQL, {"sql": "SELECT 1"}).status == 200
    alive = [
        line for line in process.log if line["event"] == "sandbox_started" and Path(f"/proc/{line['pid']}").exists()
    ]
    pid = alive[-1]["pid"]
    proc = Path(f"/proc/{pid}")
    assert (proc / "environ").read_bytes() == b""
    assert (proc / "oom_score_adj").read_text().strip() == "1000"
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 15
    assert os.getsid(pid) == pid
    assert "NoNewPrivs:\t1" in (proc / "status").read_text()
    limits = {line[:25].strip(): line[25:].split()[0] for line in (proc / "limits").read_text().splitlines()[1:]}
    assert int(limits["Max address space"]) < 4 * 2**30
    assert int(limits["Max file size"]) == 256 * 2**20
    assert int(limits["Max core file size"]) == 0
    assert int(limits["Max cpu time"]) < 600
    opened = {str(link.readlink()) for link in (proc / "fd").iterdir() if int(link.name) > 2}
    assert not {name for name in opened if name.startswith("socket:")}, "no socket of its parent is open in it"
    assert not {name for name in opened if name.endswith(("model.duckdb", "lock", ".sqlite"))}
    if alive[-1]["network"] == "namespace":
        assert (proc / "ns" / "net").readlink() != Path("/proc/self/ns/net").readlink()


_LOCKED = """
import json, sys
from runlake_query.sql import answering
from runlake_query.sql.messages import Ask
import msgspec
ask = msgspec.json.decode(sys.argv[1], type=Ask)
connection = answering._connect(ask)
answering._prepare(connection, ask)
told = {}
for statement in json.loads(sys.argv[2]):
    try:
        told[statement] = [True, str(connection.execute(statement).fetchall())[:200]]
    except Exception as error:
        told[statement] = [False, str(error)]
print(json.dumps(told))
"""


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A question whose files are there."""
    connection = duckdb.connect()
    columns = "NULL::UUID AS worker, 1 AS seq, NULL::UUID AS event_id, 'r' AS run_id, NULL::UUID AS run_event_id"
    rest = "now() AS ts, 't' AS type, NULL::JSON AS payload, NULL AS trace_id, NULL AS span_id, NULL AS parent_span_id"
    connection.execute(f"COPY (SELECT {columns}, {rest}) TO '{tmp_path}/recent.parquet'")
    connection.execute(f"COPY (SELECT 'r' AS run_id) TO '{tmp_path}/runs.parquet'")
    connection.close()
    return Ask(
        sql="", parameters=[], runs=f"{tmp_path}/runs.parquet", recent=f"{tmp_path}/recent.parquet", events=[],
        deletes=[], positions={}, folder=str(tmp_path), format="json", max_rows=1, max_bytes=1000, memory_mib=64,
        spill_mib=64, threads=1, deadline_s=30,
    )  # fmt: skip


def test_behind_the_look_at_the_statement_duckdb_itself_is_locked(ask: Ask, secret: Path, tmp_path: Path) -> None:
    reads = [f"FROM read_csv('{secret}')", f"FROM read_text('{secret}')", f"FROM '{secret}'", "FROM glob('/*')",
             f"FROM glob('{tmp_path}/*')", "FROM read_parquet('http://127.0.0.1:9/x')", f"FROM sniff_csv('{secret}')",
             "FROM sqlite_scan('x', 'y')", "SELECT getenv('HOME')"]  # fmt: skip
    writes = [f"COPY runs TO '{tmp_path}/out.csv'", f"ATTACH '{tmp_path}/out.db'", "INSTALL httpfs", "LOAD httpfs",
              "LOAD sqlite_scanner", f"EXPORT DATABASE '{tmp_path}/out'", "SET threads = 64", "SET memory_limit = '9G'",
              "SET enable_external_access = true", "SET lock_configuration = false", "RESET threads",
              f"SET allowed_paths = ['{secret}']", "SET temp_directory = '/tmp'", "PRAGMA threads = 64"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _LOCKED, msgspec.json.encode(ask).decode(), json.dumps([*reads, *writes, "FROM runs"])],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    assert told.pop("FROM runs") == [True, "[('r',)]"]
    assert {statement: text for statement, (worked, text) in told.items() if worked} == {}
    assert not list(tmp_path.glob("out*"))


_CONFINED = """
import json, socket, sys
from pathlib import Path
from runlake_query.sql.confinement import Limits, confine, library_folders
allowed, secret, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
held = confine(Limits(4096, 1), [allowed, *library_folders()], allowed / "work")
def tried(work):
    try:
        work()
        return True
    except OSError:
        return False
print(json.dumps({
    "files": held.files, "network": held.network,
    "read_allowed": tried((allowed / "x").read_bytes), "write_work": tried(lambda: (allowed / "work/x").write_text("")),
    "read_other": tried(secret.read_bytes), "list_other": tried(lambda: list(secret.parent.iterdir())),
    "write_other": tried(lambda: (secret.parent / "y").write_text("")), "write_beside": tried((allowed / "y").touch),
    "write_large": tried(lambda: (allowed / "work/large").write_bytes(bytes(2**20 + 1))),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", port), 5)),
}))
"""


def test_behind_duckdb_the_kernel_gives_no_other_file_and_no_network(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "x").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", _CONFINED, str(tmp_path), str(secret), str(server.getsockname()[1])],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    told = json.loads(done.stdout)
    free_files, free_network = told["files"] != "landlock", told["network"] != "namespace"
    assert told == {
        "files": told["files"], "network": told["network"], "read_allowed": True, "write_work": True,
        "read_other": free_files, "list_other": free_files, "write_other": free_files, "write_beside": free_files,
        "write_large": False, "connect": free_network and free_files,
    }, "what the kernel cannot hold is told"  # fmt: skip


def test_the_look_at_a_statement_needs_no_file_to_be_there() -> None:
    """A name that only looks harmless: nothing is opened to find out."""
    connection = duckdb.connect()
    for statement in ("FROM x.csv", "FROM 'x.parquet'", "FROM runs JOIN 'x' ON true", "FROM events, other"):
        with pytest.raises(Refused):
            limited(connection, statement)
    assert limited(connection, "SELECT * FROM runs; -- x").split() == ["(", "SELECT", "*", "FROM", "runs", ")"]
    connection.close()


def _ticks(pid: int) -> dict[int, int]:
    """The processor time that each thread of a process has had, in the kernel's ticks."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            found[int(task.name)] = int(fields[11]) + int(fields[12])
    return found


def test_others_are_answered_while_as_many_hostile_statements_run_as_may(
    served: tuple[Api, Process, Site],
) -> None:
    """Two at a time, each on the threads that it may have, at low priority; who leaves takes his statement with him."""
    api, process, _ = served
    # Of a cross product one side is in memory: the small one, so that the statement does not end for want of space.
    body = json.dumps({"sql": "SELECT sum(a.range * b.range % 7) FROM range(1000000000000) a, range(1000) b"})

    def at_work() -> list[int]:
        alive = [line["pid"] for line in process.log if line["event"] == "sandbox_started"]
        return [pid for pid in alive if sum(_ticks(pid).values()) > 50]

    with ExitStack() as askers:
        for _ in range(3):
            asker = askers.enter_context(closing(HTTPConnection(urlsplit(api.url).netloc, timeout=60)))
            asker.request("POST", SQL, body, {"Content-Type": "application/json"})
        wait_until(lambda: len(at_work()) == 2, "two statements are at work")
        pids = at_work()
        before = {pid: _ticks(pid) for pid in pids}
        (run,) = api.ok("/api/v1/runs")["runs"]
        answered = 0
        while answered < 50 or any(sum(_ticks(pid).values()) < sum(before[pid].values()) + 50 for pid in pids):
            assert api.ok(f"/api/v1/runs/{run['event_id']}")["run_id"] == "run"
            assert api.ok("/api/v1/rollups", measures="runs")["totals"] == {"runs": 1}
            answered += 1
        assert at_work() == pids, "the same two, and no third, were at work all the time"
        for pid in pids:
            more = {task: ticks - before[pid].get(task, 0) for task, ticks in _ticks(pid).items()}
            busy = [task for task, ticks in more.items() if ticks > sum(more.values()) / 10]
            assert 1 <= len(busy) <= default_threads()
            assert {task for task in more if os.getpriority(os.PRIO_PROCESS, task) < 15} == set()
    wait_until(lambda: not any(_ticks(pid) for pid in pids), "the statements have gone with their askers")
    idle = {pid: _ticks(pid) for pid in at_work()}  # to start takes time too
    assert api.ok("/api/v1/rollups", measures="runs")["totals"] == {"runs": 1}
    assert all(sum(_ticks(pid).values()) < sum(ticks.values()) + 50 for pid, ticks in idle.items())
    assert api.post(SQL, {"sql": "SELECT 1 AS x"}).json["rows"] == [{"x": 1}]


def test_a_sandbox_has_one_thread_when_it_is_confined() -> None:
    """With more, an ordinary user's process cannot leave the network, and those others keep their priority."""
    program = "import os, runlake_query.sql.sandbox; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"
