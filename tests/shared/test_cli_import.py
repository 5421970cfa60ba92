"""`runlake import sqlite`: a file of the earlier service, dirty rows and all, into a live worker."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from runlake.cli.import_rows import NAMESPACE, Skipped, event_message, run_message
from runlake.cli.import_state import state_file
from support.processes import Site, wait_until
from support.reading import one, rows
from support.runlake_command import Command

_RUNS = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, event_id TEXT, run_id TEXT, agent_name TEXT, job_type TEXT, status TEXT, start_time TEXT,
    end_time TEXT, duration_ms INTEGER, items_failed INTEGER, product TEXT, metrics_json TEXT, context_json TEXT,
    git_commit_hash TEXT, created_at TEXT, api_posted INTEGER
)
"""
_EVENTS = "CREATE TABLE events (event_id TEXT, run_id TEXT, ts TEXT, type TEXT, payload TEXT)"
GOOD: dict[str, Any] = {
    "event_id": "018d4f00-0000-7000-8000-000000000001", "run_id": "r1", "agent_name": "agent", "job_type": "job",
    "status": "completed", "start_time": "2026-01-28T10:30:00+02:00", "end_time": "2026-01-28 08:30:05",
    "metrics_json": '{"input_tokens": 5}', "context_json": '{"a": 1}', "git_commit_hash": "abcdef0", "api_posted": 1,
}  # fmt: skip


def make_file(path: Path, runs: list[dict[str, Any]], events: list[dict[str, Any]]) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_RUNS)
        connection.execute(_EVENTS)
        for table, found in (("runs", runs), ("events", events)):
            for row in found:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    return path


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command beside a running worker."""
    command = Command(tmp_path)
    site = Site(tmp_path)
    site.ingest_endpoint, site.push_endpoint, site.feed_endpoint = (
        command.settings[f"RUNLAKE_{name}"] for name in ("INGEST", "PUSH", "FEED")
    )
    with site.ingest("--flush-interval-ms", "20") as worker:
        yield command
        assert worker.terminate() == 0


def imported(command: Command, path: Path, *flags: str) -> dict[str, Any]:
    done = command("import", "sqlite", str(path), *flags)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def dirty() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    runs: list[dict[str, Any]] = [
        GOOD,
        GOOD | {
            "event_id": "not-a-uuid", "run_id": "r2", "status": "weird", "metrics_json": "{broken", "duration_ms": -5,
        },
        {**GOOD, "event_id": None, "run_id": "r3", "items_failed": "many", "end_time": "never"},
        {**GOOD, "event_id": str(uuid4()), "start_time": "yesterday"},
        {**GOOD, "event_id": str(uuid4()), "start_time": "1066-10-14T00:00:00Z"},
        {**GOOD, "event_id": str(uuid4()), "agent_name": None},
        {**GOOD, "product": "the same event_id again"},
        {**GOOD, "event_id": str(uuid4()), "run_id": "r4", "product": "x" * 5_000, "context_json": "[1, 2]"},
    ]  # fmt: skip
    events: list[dict[str, Any]] = [
        {"event_id": str(uuid4()), "run_id": "r1", "ts": "2026-01-28T08:30:01Z", "type": "page", "payload": '{"n": 1}'},
        {"event_id": "e-2", "run_id": "r1", "ts": "2026-01-28 08:30:02", "type": None, "payload": "no json"},
        {"event_id": None, "run_id": None, "ts": "2026-01-28T08:30:03Z", "type": "page", "payload": None},
        {"event_id": None, "run_id": "r1", "ts": "soon", "type": "page", "payload": None},
    ]  # fmt: skip
    return runs, events


def test_everything_usable_is_taken_and_the_rest_is_told_with_its_reason(command: Command, tmp_path: Path) -> None:
    report = imported(command, make_file(tmp_path / "old.sqlite", *dirty()))
    runs, events = report["runs"], report["events"]
    assert (runs["rows"], runs["taken"], runs["known"], runs["skipped"]) == (8, 4, 1, 3)
    assert (events["rows"], events["taken"], events["known"], events["skipped"]) == (4, 2, 0, 2)
    assert sorted(rowid for reason in runs["reasons"] for rowid in reason["examples"]) == [4, 5, 6]
    assert all(reason["reason"].startswith(("start_time: ", "agent_name: ")) for reason in runs["reasons"])
    catalog = command.data / "catalog.sqlite"
    wait_until(lambda: one(catalog, "SELECT count(*) FROM run_changes") == 4, "the runs are in the lake")
    found = rows(
        catalog,
        "SELECT run_id, event_id::VARCHAR, status, epoch_us(start_time), epoch_us(end_time), commit_hash, input_tokens,"
        " context_json FROM runs ORDER BY run_id",
    )
    first, second, third, fourth = found
    assert first[1:7] == (GOOD["event_id"], "success", 1_769_589_000_000_000, 1_769_589_005_000_000, "abcdef0", 5)
    assert json.loads(first[7]) == {"a": 1, "api_posted": 1}
    kept = json.loads(second[7])
    assert (kept["original_event_id"], kept["status"], kept["metrics_json"], kept["duration_ms"]) == (
        "not-a-uuid", "weird", "{broken", -5,
    )  # fmt: skip
    assert UUID(second[1]).version == UUID(third[1]).version == 5
    assert json.loads(third[7])["end_time"] == "never"
    assert json.loads(fourth[7])["value"] == [1, 2]


def test_running_it_again_adds_nothing_with_and_without_what_it_remembers(command: Command, tmp_path: Path) -> None:
    path = make_file(tmp_path / "old.sqlite", *dirty())
    imported(command, path)
    again = imported(command, path)
    assert (again["runs"]["resumed_after"], again["runs"]["taken"], again["runs"]["known"]) == (8, 0, 0)
    anew = imported(command, path, "--again")
    assert (anew["runs"]["taken"], anew["runs"]["known"]) == (0, 5)
    assert (anew["events"]["taken"], anew["events"]["known"]) == (0, 2)


def test_rows_that_came_later_are_taken_by_the_next_run(command: Command, tmp_path: Path) -> None:
    path = make_file(tmp_path / "old.sqlite", [GOOD], [])
    imported(command, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (event_id, run_id, agent_name, job_type, start_time) VALUES (?, 'new', 'a', 'j', ?)",
            [str(uuid4()), "2026-01-29T00:00:00Z"],
        )
    report = imported(command, path)["runs"]
    assert (report["resumed_after"], report["taken"]) == (1, 1)


def test_thousands_of_rows_arrive_once(command: Command, tmp_path: Path) -> None:
    many = [{**GOOD, "event_id": str(uuid4()), "run_id": f"r{number}"} for number in range(3_000)]
    report = imported(command, make_file(tmp_path / "old.sqlite", many, []))["runs"]
    assert (report["taken"], report["skipped"]) == (3_000, 0)


def test_an_import_that_is_killed_goes_on_where_it_was_and_loses_and_doubles_nothing(
    command: Command, tmp_path: Path
) -> None:
    total, odd = 40_000, 17
    many = [
        {
            **GOOD,
            "event_id": str(uuid4()),
            "run_id": f"r{number}",
            **({"agent_name": None} if number % odd == 0 else {}),
        }
        for number in range(total)
    ]
    happened = {"run_id": "r1", "ts": "2026-01-28T08:30:01Z", "type": "page"}
    path = make_file(tmp_path / "old.sqlite", many, [{**happened, "event_id": str(uuid4())} for _ in range(100)])
    state = state_file(path)
    killed = subprocess.Popen(
        [sys.executable, "-m", "runlake.cli", "import", "sqlite", str(path)], env=command.environment, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: state.exists() and 0 < json.loads(state.read_bytes())["runs"] < total, "some rows are stored")
    killed.kill()
    assert killed.wait(30) == -signal.SIGKILL
    done = json.loads(state.read_bytes())["runs"]
    assert 0 < done < total, "it was not killed in the middle"
    report = imported(command, path)
    runs, events = report["runs"], report["events"]
    left = many[done:]
    skipped = sum(row["agent_name"] is None for row in left)
    assert (runs["rows"], runs["resumed_after"], runs["skipped"]) == (total, done, skipped)
    assert runs["taken"] + runs["known"] == len(left) - skipped
    assert runs["taken"] > 0
    assert events["taken"] == 100
    good = sum(row["agent_name"] is not None for row in many)
    catalog = command.data / "catalog.sqlite"
    count = "SELECT count(*) FROM run_changes"
    wait_until(lambda: one(catalog, count) >= good, "the runs are in the lake")
    assert rows(catalog, "SELECT count(*), count(DISTINCT event_id), count(DISTINCT run_id) FROM run_changes") == [
        (good, good, good)
    ]


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_file_that_is_no_such_database_is_told(command: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(content)
    for wrong, says in ((path, "runs"), (tmp_path / "none", "is no file")):
        done = command("import", "sqlite", str(wrong))
        assert done.returncode == 1
        assert says in done.stderr or "cannot be read" in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_worker_it_says_so(tmp_path: Path) -> None:
    done = Command(tmp_path)("import", "sqlite", str(make_file(tmp_path / "old.sqlite", [GOOD], [])))
    assert done.returncode == 1
    assert "runlake up" in done.stderr


def test_a_row_makes_the_same_message_every_time() -> None:
    row = {**GOOD, "event_id": "x"}
    assert msgspec.msgpack.encode(run_message(row)) == msgspec.msgpack.encode(run_message(row))
    event = {"run_id": "r", "ts": "2026-01-28T08:30:01Z"}
    assert event_message(event, 7).event_id == event_message(event, 7).event_id != event_message(event, 8).event_id
    assert NAMESPACE.version == 5


def test_a_row_without_what_a_run_is_made_of_is_skipped_with_the_name_of_it() -> None:
    for name in ("run_id", "agent_name", "job_type", "start_time"):
        with pytest.raises(Skipped, match=name):
            run_message({**GOOD, name: None})
