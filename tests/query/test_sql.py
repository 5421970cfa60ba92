"""`POST /api/v1/sql`: what it answers, how it is bounded, and what becomes of the processes behind it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from runlake.fields import RUN_FIELD_NAMES
from runlake_query.sql.service import MAX_RESULT_BYTES
from support.api import Api, Start
from support.contract import new_run, problem
from support.download import Download, download
from support.fleet import Fleet, make_fleet
from support.lakes import LakeWriter, Worker
from support.processes import Process, Site, wait_until
from support.tables import pa, pq

SQL = "/api/v1/sql"
ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c WHERE a.range + b.range = -c.range"


class Served(NamedTuple):
    api: Api
    process: Process
    fleet: Fleet
    site: Site

    def ask(self, sql: str, **rest: Any) -> Any:
        """The body of an answer that must be a 200."""
        reply = self.api.post(SQL, {"sql": sql, **rest})
        assert reply.status == 200, reply.text
        return reply.json

    def fetch(self, sql: str, kind: str, **rest: Any) -> Download:
        return download(f"{self.api.url}{SQL}", body={"sql": sql, **rest}, format=kind)

    def sandboxes(self) -> list[int]:
        """The process ids of those that live."""
        started = [line["pid"] for line in self.process.log if line["event"] == "sandbox_started"]
        return [pid for pid in started if Path(f"/proc/{pid}").exists()]


@contextmanager
def serve(folder: Path, deadline_ms: int, runs: int) -> Iterator[Served]:
    site = Site(folder)
    with LakeWriter(site.data) as writer:
        fleet = make_fleet(writer, runs)
        process, url = site.query("--sql", "on", "--sql-timeout-ms", str(deadline_ms))
        with process:
            api = Api(url)
            yield Served(api, process, fleet, site)
            api.close()
            assert process.terminate() == 0
    assert not (site.data / "query" / "sql").exists(), "nothing is left behind"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With time for every statement, however busy the machine is."""
    with serve(tmp_path_factory.mktemp("sql"), 60_000, 400) as served:
        yield served


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With a second for each statement."""
    with serve(tmp_path_factory.mktemp("hurried"), 1_000, 10) as served:
        yield served


def answers_again(served: Served) -> bool:
    reply = served.api.post(SQL, {"sql": "SELECT 1 AS x"})
    return reply.status == 200 and reply.json["rows"] == [{"x": 1}]


def test_the_view_runs_has_every_run_and_every_field_as_the_api_shows_it(served: Served) -> None:
    shown = served.api.ok("/api/v1/runs", limit=1000)["runs"]
    lines = served.fetch("SELECT * FROM runs ORDER BY start_time DESC, event_id DESC", "ndjson").lines
    assert lines == shown
    assert tuple(lines[0]) == RUN_FIELD_NAMES


def test_the_view_events_has_every_event_of_the_lake(served: Served) -> None:
    counted = served.ask(
        "SELECT coalesce(run_event_id, latest.event_id)::VARCHAR AS run, count(*) AS events FROM events LEFT JOIN"
        " (SELECT run_id, arg_max(event_id, (created_at, event_id)) AS event_id FROM runs GROUP BY run_id) AS latest"
        " ON events.run_event_id IS NULL AND latest.run_id = events.run_id GROUP BY 1",
    )["rows"]
    assert {row["run"]: row["events"] for row in counted} == {k: n for k, n in served.fleet.events.items() if n}


@pytest.mark.parametrize("view", ["runs", "events"])
def test_the_documented_columns_are_those_of_the_views(served: Served, view: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")
    section = text.partition(f"## The view `{view}`")[2].partition("## ")[0]
    columns = served.ask(f"SELECT * FROM {view} LIMIT 0")["columns"]
    assert re.findall(r"^\| `(\w+)` \| `([^`]+)` \|$", section, re.MULTILINE) == [
        (column["name"], column["type"]) for column in columns
    ]


def test_an_answer_names_its_columns_types_and_position(served: Served) -> None:
    reply = served.api.post(SQL, {"sql": "SELECT 1 AS one, 1.5::DECIMAL(9,3) AS two, now() AS three, NULL AS four"})
    body = reply.json
    assert [(column["name"], column["type"]) for column in body["columns"]] == [
        ("one", "INTEGER"), ("two", "DECIMAL(9,3)"), ("three", "TIMESTAMP WITH TIME ZONE"), ("four", "INTEGER"),
    ]  # fmt: skip
    assert body["rows"][0]["three"].endswith("Z")
    assert (body["rows"][0]["one"], body["rows"][0]["two"], body["rows"][0]["four"]) == (1, 1.5, None)
    assert body["position"] == reply.headers["runlake-position"] == ",".join(sorted(served.fleet.position.split(",")))
    assert (body["truncated"], reply.headers["runlake-truncated"], reply.headers["runlake-rows"]) == (
        False, "false", "1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "parameters", "rows"),
    [
        ("SELECT ? + ? AS x", [1, 2], [{"x": 3}]),
        ("SELECT $2 || $1 AS x", ["a", "b"], [{"x": "ba"}]),
        ("SELECT $name AS x, $other IS NULL AS y;", {"name": "'; DROP", "other": None}, [{"x": "'; DROP", "y": True}]),
        ("SELECT ';' AS x ; -- the end", [], [{"x": ";"}]),
        ("/* ; */ SELECT 'ü' AS ü /* x */ ; ; ", [], [{"ü": "ü"}]),
        ("WITH runs AS (SELECT 7 AS x) SELECT * FROM runs", [], [{"x": 7}]),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT max(n) AS x FROM t", [],
         [{"x": 9}]),
        ("SELECT x FROM (VALUES (1), (2)) AS v(x) WHERE x IN (SELECT unnest([2, 3]))", [], [{"x": 2}]),
        ("SELECT 'NaN'::DOUBLE AS x, 'inf'::FLOAT AS y", [], [{"x": None, "y": None}]),
        ("SELECT ['NaN'::DOUBLE, 1, '-inf'] AS x, {'a': {'b': 'inf'::FLOAT, 'c': ', nan \"-inf'}} AS y", [],
         [{"x": [None, 1.0, None], "y": {"a": {"b": None, "c": ', nan "-inf'}}}]),
        ("SELECT to_json(['NaN'::DOUBLE]) AS x, '[nan, -Infinity, {\"inf\":  NaN}]'::JSON AS y, 'nan'::JSON AS z", [],
         [{"x": [None], "y": [None, None, {"inf": None}], "z": None}]),
        ("SELECT map {'nan': 'inf'::DOUBLE} AS nan, ' inf' AS x", [], [{"nan": {"nan": None}, "x": " inf"}]),
        ("SELECT 1 AS rowid, 2 AS result, 3 AS rowid", [], [{"rowid": 1, "result": 2, "rowid_1": 3}]),
        ("SELECT count(*) AS x FROM runs WHERE false", [], [{"x": 0}]),
    ],
)  # fmt: skip
def test_a_select_answers_rows(served: Served, sql: str, parameters: Any, rows: Any) -> None:
    assert served.ask(sql, parameters=parameters)["rows"] == rows


def test_more_rows_than_the_limit_are_said_to_be_cut(served: Served) -> None:
    cut = served.ask("SELECT run_id FROM runs ORDER BY start_time, event_id", limit=3)
    whole = served.ask("SELECT run_id FROM runs ORDER BY start_time, event_id")
    assert (cut["truncated"], whole["truncated"]) == (True, False)
    assert cut["rows"] == whole["rows"][:3]
    assert len(whole["rows"]) == 400


def test_a_result_that_is_too_large_is_cut_between_rows_and_says_so(served: Served) -> None:
    body = served.ask("SELECT range AS i, repeat('x', 20000) AS x FROM range(3000)")
    assert body["truncated"]
    sizes = [len(json.dumps(row, separators=(",", ":"))) + 1 for row in body["rows"]]
    assert MAX_RESULT_BYTES - max(sizes) < sum(sizes) <= MAX_RESULT_BYTES
    assert [row["i"] for row in body["rows"]] == list(range(len(sizes)))


def test_a_result_comes_as_csv_ndjson_parquet_and_arrow(served: Served) -> None:
    sql = "SELECT run_id, start_time, cost_usd, sum(items_failed) OVER () AS failed FROM runs ORDER BY event_id"
    rows = served.ask(sql)["rows"]
    lines = served.fetch(sql, "ndjson")
    assert (lines.headers["content-type"], lines.lines) == ("application/x-ndjson", rows)
    table = list(csv.DictReader(io.StringIO(served.fetch(sql, "csv").body.decode())))
    assert [(row["run_id"], row["start_time"]) for row in table] == [(row["run_id"], row["start_time"]) for row in rows]
    parquet = pq.read_table(io.BytesIO(served.fetch(sql, "parquet").body))
    arrow = pa.ipc.open_stream(served.fetch(sql, "arrow").body).read_all()
    for found in (parquet, arrow):
        assert found.column("run_id").to_pylist() == [row["run_id"] for row in rows]
        assert found.column("failed").type == pa.decimal128(38, 0), "no sum loses digits"
        assert found.column("cost_usd").to_pylist() == [
            None if row["cost_usd"] is None else Decimal(str(row["cost_usd"])).quantize(Decimal("1e-9")) for row in rows
        ]
        assert str(found.schema.field("start_time").type) == "timestamp[us, tz=UTC]"


def test_accept_chooses_a_format_too_and_format_goes_before_it(served: Served) -> None:
    headers = {"Accept": "text/csv;q=0.9, application/json"}
    body = {"sql": "SELECT 1 AS x"}
    assert served.api.post(SQL, body, headers).text.splitlines() == ["x", "1"]
    assert served.api.post(f"{SQL}?format=json", body, headers).json["rows"] == [{"x": 1}]
    assert "format" in problem(served.api.post(f"{SQL}?format=cvs", body), 400)["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "sql"), ({"sql": ""}, "sql"), ({"sql": 1}, "sql"), ({"sql": "SELECT nope"}, "sql"),
        ({"sql": "SELECT ?"}, "sql"), ({"sql": "SELECT 1", "limit": 0}, "limit"),
        ({"sql": "SELECT 1", "parameters": [1]}, "sql"), ({"sql": "SELECT ?", "parameters": [{}]}, "parameters"),
        ({"sql": "SELECT 1 / x FROM (SELECT 'a'::INTEGER AS x)"}, "sql"), ({"sql": "SELECT \0"}, "sql"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_its_field(served: Served, body: Any, field: str) -> None:
    refused = problem(served.api.post(SQL, body), 400)
    assert refused["errors"][0]["field"].startswith(field)
    assert "/tmp" not in refused["detail"]
    assert str(served.site.data) not in refused["detail"]


def test_it_is_off_unless_it_is_enabled(api: Api) -> None:
    assert "RUNLAKE_SQL" in problem(api.post(SQL, {"sql": "SELECT 1"}), 403)["detail"]


def test_a_token_for_reading_is_enough(site: Site, lake: LakeWriter) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    tokens = {"RUNLAKE_TOKEN": "only-for-this-test-0123456789", "RUNLAKE_READ_TOKEN": "reads-of-this-test-0123456789"}
    process = Process(
        "runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0", "--ingest", site.ingest_endpoint,
        "--feed", site.feed_endpoint, "--sql", "on", env=tokens,
    )  # fmt: skip
    with process:
        url = f"http://{process.wait_for('listening')['http']}{SQL}"
        process.wait_for("caught_up")
        reading = {"Authorization": f"Bearer {tokens['RUNLAKE_READ_TOKEN']}"}
        assert download(url, reading, {"sql": "SELECT count(*) AS n FROM runs"}).status == 200
        assert download(url, {}, {"sql": "SELECT 1"}).status == 401
        pid = process.wait_for("sandbox_started")["pid"]
        assert Path(f"/proc/{pid}/environ").read_bytes() == b"", "no secret is in a sandbox's environment"


def test_it_sees_what_was_just_acknowledged_before_the_lake_has_it(tmp_path: Path) -> None:
    """P5: what is not in the lake's files yet comes from the read model."""
    site = Site(tmp_path)
    with site.ingest("--flush-interval-ms", "600000"):
        query, url = site.query("--sql", "on")
        with query:
            api = Api(url)
            served = Served(api, query, Fleet(), site)
            for number in range(1, 4):
                run = new_run()
                assert api.post("/api/v1/runs", run).status == 201
                event = {"event_id": str(uuid4()), "type": "step", "payload": {"n": [number, None]}}
                wrote = api.post(f"/api/v1/runs/{run['event_id']}/events", event)
                assert wrote.status == 201, wrote.text
                body = served.ask("SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM events) AS events")
                assert body["rows"] == [{"runs": number, "events": number}]
                assert body["position"] == wrote.headers["runlake-position"]
            found = served.ask("SELECT payload, payload->>'$.n[0]' AS n FROM events ORDER BY seq DESC LIMIT 1")["rows"]
            assert found == [{"payload": {"n": [3, None]}, "n": "3"}]
            again = api.post(f"{SQL}?after={body['position']}", {"sql": "SELECT 1"})
            assert again.headers["runlake-position"] == body["position"]
            api.close()


def test_events_that_were_removed_from_the_lake_are_not_shown(site: Site, lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for number in range(6):
        worker.event(f"run-{number % 3}")
    lake.flush(worker)
    lake.sql("DELETE FROM lake.events WHERE run_id = 'run-1'")
    process, api = start("--sql", "on")
    served = Served(api, process, Fleet(), site)
    body = served.ask("SELECT run_id, count(*) AS n FROM events GROUP BY ALL ORDER BY ALL")
    assert body["rows"] == [{"run_id": "run-0", "n": 2}, {"run_id": "run-2", "n": 2}]


def test_a_statement_that_takes_too_long_is_ended_and_the_next_one_is_answered(hurried: Served) -> None:
    reply = hurried.api.post(SQL, {"sql": ENDLESS})
    assert "longer than 1 s" in problem(reply, 503)["detail"]
    assert reply.headers["retry-after"]
    wait_until(lambda: answers_again(hurried), "the next one is answered")


def test_a_sandbox_that_does_not_obey_is_killed(hurried: Served) -> None:
    wait_until(lambda: answers_again(hurried), "there is a sandbox")
    stopped = hurried.sandboxes()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert hurried.api.post(SQL, {"sql": "SELECT 1"}).status == 503
    wait_until(lambda: not set(stopped) <= set(hurried.sandboxes()), "the sandbox is gone")

    def killed() -> set[int]:
        return {line["pid"] for line in hurried.process.log if line["event"] == "sandbox_killed"}

    wait_until(lambda: bool(killed() & set(stopped)), "that is told")
    for pid in hurried.sandboxes():
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: answers_again(hurried), "another one answers")


def test_a_sandbox_that_dies_is_replaced(served: Served) -> None:
    served.ask("SELECT 1")
    for pid in served.sandboxes():
        os.kill(pid, signal.SIGKILL)
    reply = served.api.post(SQL, {"sql": "SELECT 1 AS x"})
    assert reply.status in (200, 400), "400 when its death was not noticed before"
    assert served.ask("SELECT 1 AS x")["rows"] == [{"x": 1}]


def test_who_leaves_takes_his_statement_with_him(served: Served) -> None:
    served.ask("SELECT 1")
    before = set(served.sandboxes())
    work = served.site.data / "query" / "sql" / "work"
    body = json.dumps({"sql": ENDLESS}).encode()
    address = urlsplit(served.api.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as client:
        lines = [f"POST {SQL} HTTP/1.1", f"Host: {address.netloc}", "Content-Type: application/json"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        client.sendall(head.encode() + body)
        wait_until(lambda: any(work.iterdir()), "the statement runs")
    wait_until(lambda: not before <= set(served.sandboxes()), "its process has ended")
    wait_until(lambda: not any(work.iterdir()), "its folder is gone")
    assert not any(line["event"] == "sandbox_killed" for line in served.process.log), "not by the deadline"
