"""`runlake.connect`, `runlake sql` and `runlake export` against a real query process."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

import runlake
from runlake import clientrows
from runlake.client import Client
from runlake.clientrows import Rows, TableLibraryMissing
from runlake.errors import ApiBusy, ApiRefused, ApiUnreachable
from support.fleet import Fleet, make_fleet
from support.lakes import LakeWriter
from support.processes import Process, Site
from support.tables import pa, pq


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Fleet]]:
    site = Site(tmp_path_factory.mktemp("client"))
    with LakeWriter(site.data) as writer:
        fleet = make_fleet(writer)
    process, url = site.query("--sql", "on", "--sql-timeout-ms", "60000")
    with process:
        yield url, fleet


@pytest.fixture
def lake(served: tuple[str, Fleet]) -> Client:
    return runlake.connect(served[0])


def test_runs_are_plain_rows_with_real_values(lake: Client, served: tuple[str, Fleet]) -> None:
    runs = lake.runs()
    assert isinstance(runs, list)
    assert len(runs) == 400
    assert runs.position == ",".join(sorted(served[1].position.split(",")))
    assert {type(run["start_time"]) for run in runs} == {datetime}
    assert all(run["start_time"].tzinfo is not None for run in runs)
    assert {run["cost_usd"] for run in runs} <= {None, Decimal("1E-9"), Decimal("1.25")}
    assert {type(run["cost_usd"]) for run in runs} == {Decimal, type(None)}
    assert runs == sorted(runs, key=lambda run: (run["start_time"], run["event_id"]), reverse=True)
    assert lake.run(runs[0]["event_id"]) == runs[0]


def test_filters_take_values_lists_and_times(lake: Client) -> None:
    some = lake.runs(status=["success", "failure"], since=datetime(2026, 3, 28, tzinfo=UTC), root=True)
    expected = [
        run for run in lake.runs()
        if run["status"] in ("success", "failure") and run["parent_run_id"] is None
        and run["start_time"] >= datetime(2026, 3, 28, tzinfo=UTC)
    ]  # fmt: skip
    assert some == expected
    assert lake.runs(limit=3) == lake.runs()[:3]
    assert (lake.runs(limit=3).truncated, lake.runs().truncated) == (True, False)


def test_a_rollup_has_rows_and_totals(lake: Client) -> None:
    rows = lake.rollup(
        group_by=["agent_name", "status"], bucket="day", tz="Europe/Berlin", measures=["runs", "cost_usd"]
    )
    assert sum(row["runs"] for row in rows) == 400
    assert rows.totals is not None
    assert rows.totals["runs"] == 400
    assert sum(row["cost_usd"] for row in rows) == rows.totals["cost_usd"]
    assert isinstance(rows[0]["bucket"], datetime)
    assert type(lake.rollup()[0]["success_rate"]) is float


def test_sql_binds_values_and_types_columns(lake: Client) -> None:
    since = datetime(2026, 3, 28, tzinfo=UTC)
    rows = lake.sql(
        "SELECT max(start_time) AS latest, sum(cost_usd) AS usd, count(*) AS n, 0.5::DOUBLE AS half"
        " FROM runs WHERE start_time >= $since::TIMESTAMPTZ AND status = $status",
        since=since, status="success",
    )  # fmt: skip
    runs = lake.runs(status="success", since=since)
    assert rows == [{
        "latest": max(run["start_time"] for run in runs), "usd": sum(run["cost_usd"] or 0 for run in runs),
        "n": len(runs), "half": 0.5,
    }]  # fmt: skip
    assert [type(value) for value in rows[0].values()] == [datetime, Decimal, int, float]
    assert lake.sql("SELECT ? + ? AS x", [1, 2]) == [{"x": 3}]
    assert lake.sql("FROM range(5)", limit=2).truncated
    with pytest.raises(TypeError, match="not both"):
        lake.sql("SELECT 1", [1], x=1)


def test_events_of_a_run(lake: Client, served: tuple[str, Fleet]) -> None:
    run, count = served[1].events.most_common(1)[0]
    events = lake.events(run)
    assert len(events) == count
    assert {type(event["ts"]) for event in events} == {datetime}


def test_rows_become_tables_when_asked(lake: Client) -> None:
    runs = lake.runs()
    frame, table = runs.to_pandas(), runs.to_arrow()
    assert len(frame) == table.num_rows == 400
    assert list(frame.columns) == table.column_names
    assert str(frame["start_time"].dtype).endswith("UTC]")
    assert pa.types.is_decimal(table.schema.field("cost_usd").type)
    assert Rows([]).to_pandas().empty


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TableLibraryMissing, match="pip install pandas"):
        clientrows.Rows([{"x": 1}]).to_pandas()


def test_errors_say_what_to_do(lake: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiRefused, match="did you mean 'agent_name'"):
        lake.runs(agent_nme="x")
    with pytest.raises(ApiRefused, match="Run not found") as missing:
        lake.run("no/such run")
    assert missing.value.status == 404
    with pytest.raises(ApiRefused, match="exactly one SELECT"):
        lake.sql("DROP VIEW runs")
    with pytest.raises(ValueError, match="is like http://"):
        runlake.connect("localhost")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(ApiUnreachable, match="runlake up"):
            runlake.connect(f"http://127.0.0.1:{holder.getsockname()[1]}").runs()
    process, url = Site(tmp_path).query(caught_up=False)
    with process, pytest.raises(ApiBusy, match="not caught up"):
        runlake.connect(url).runs()


def test_a_token_is_sent_and_asked_for(tmp_path: Path) -> None:
    site, token = Site(tmp_path), "only-for-this-test-0123456789"
    with LakeWriter(site.data):
        process = Process("runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0", "--ingest",
                          site.ingest_endpoint, "--feed", site.feed_endpoint, env={"RUNLAKE_TOKEN": token})  # fmt: skip
        with process:
            url = f"http://{process.wait_for('listening')['http']}"
            process.wait_for("caught_up")
            assert runlake.connect(url, token).runs() == []
            with pytest.raises(ApiRefused, match=r"token=…") as refused:
                runlake.connect(url).runs()
            assert refused.value.status == 401


def test_asking_loads_nothing_beyond_msgspec_and_pyzmq(served: tuple[str, Fleet]) -> None:
    program = (
        "import msgspec, zmq, sys; before = set(sys.modules); import runlake;"
        f"runlake.connect({served[0]!r}).runs(limit=1);"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'runlake'}"


def runlake_command(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runlake.cli", *arguments, "--http", url.removeprefix("http://")],
        capture_output=True, text=True, timeout=60, check=False, input=stdin,
    )  # fmt: skip


def test_runlake_sql_prints_the_answer_and_writes_files(served: tuple[str, Fleet], tmp_path: Path) -> None:
    statement = "SELECT status, count(*) AS n FROM runs WHERE status = $s GROUP BY ALL"
    said = runlake_command(served[0], "sql", statement, "--param", "s=success")
    assert said.returncode == 0, said.stderr
    expected = json.loads(said.stdout)["rows"]
    assert expected[0]["status"] == "success"
    path = tmp_path / "out.parquet"
    assert (
        runlake_command(
            served[0], "sql", "-", "--param", "s=success", "--output", str(path), stdin=statement
        ).returncode
        == 0
    )
    assert pq.read_table(path).to_pylist() == expected
    cut = runlake_command(served[0], "sql", "FROM range(9)", "--limit", "2", "--format", "csv")
    assert cut.stdout.splitlines() == ["range", "0", "1"]
    assert "there are more rows" in cut.stderr
    wrong = runlake_command(served[0], "sql", "SELECT nope")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("runlake: sql: ")
    assert runlake_command(served[0], "sql", "SELECT $s", "--param", "s").returncode == 2


def test_runlake_export_writes_all_that_match(served: tuple[str, Fleet], lake: Client, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    done = runlake_command(served[0], "export", "runs", "--status", "success", "--output", str(path))
    assert done.returncode == 0, done.stderr
    runs = lake.runs(status="success")
    written = csv.DictReader(path.read_text("utf-8").splitlines())
    assert sorted(row["event_id"] for row in written) == sorted(run["event_id"] for run in runs)
    assert f"runs: {len(runs)} of {len(runs)}\n" in done.stderr
    assert f"position {runs.position}" in done.stderr
    events = runlake_command(served[0], "export", "events", "--since", "2026-03-28")
    assert all(json.loads(line)["ts"] >= "2026-03-28" for line in events.stdout.splitlines())
    assert len(events.stdout.splitlines()) > 100
    groups = tmp_path / "groups.parquet"
    assert runlake_command(served[0], "export", "rollup", "--by", "status", "--output", str(groups)).returncode == 0
    assert sum(row["runs"] for row in pq.read_table(groups).to_pylist()) == 400
    refused = runlake_command(served[0], "export", "runs", "--output", str(tmp_path / "none" / "x.csv"))
    assert refused.returncode == 1
    assert "cannot be written" in refused.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"runs.csv", "groups.parquet"}
