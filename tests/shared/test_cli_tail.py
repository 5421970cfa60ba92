"""`runlake tail` and `runlake runs show --follow`, beside real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runlake.cli.follow import Told, read_events
from runlake.cli.tail import line_of, print_told
from support.processes import Process, Site
from support.producer import Producer
from support.samples import event, started, updated


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.ingest():
        yield site


@pytest.fixture
def served(site: Site) -> Iterator[tuple[Process, str]]:
    process, url = site.query()
    with process:
        process.wait_for("feed_heard")
        yield process, url.removeprefix("http://")


@contextmanager
def runlake(*arguments: str, http: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNLAKE_")} | dict(env or {})
    command = [sys.executable, "-m", "runlake.cli", *arguments, "--http", http]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert process.stdout
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_tail_prints_json_lines_into_a_pipe_and_ends_after_count(site: Site, served: tuple[Process, str]) -> None:
    with (
        Producer(site.ingest_endpoint) as producer,
        runlake("tail", "--agent-name", "wanted", "--count", "3", http=served[1]) as tail,
    ):
        (begin,) = lines(tail, 1)
        assert begin["kind"] == "position"
        wanted, other = (structs.replace(started(name), agent_name=name) for name in ("wanted", "other"))
        own = structs.replace(event(1, "wanted"), run_event_id=wanted.event_id)
        ack = producer.deliver([other, wanted, own])
        told = lines(tail, 2)  # before the next: what comes at once is told as one change of the run
        producer.deliver([updated(other.event_id, status="failure"), updated(wanted.event_id, status="success")])
        told += lines(tail, 1)
        assert [(line["kind"], line["data"]["run_id"]) for line in told] == [
            ("run", "wanted"), ("event", "wanted"), ("run", "wanted"),
        ]  # fmt: skip
        assert told[0]["position"] == f"{ack.worker}:2"
        assert told[2]["data"]["status"] == "success"
        assert tail.wait(20) == 0
    with runlake("tail", "--from", told[0]["position"], "--count", "1", "--type", "step", http=served[1]) as tail:
        assert lines(tail, 1)[0]["data"]["payload"] == {"number": 1}
        assert tail.wait(20) == 0


def test_tail_goes_on_when_the_process_comes_back(site: Site) -> None:
    process, url = site.query()
    http = url.removeprefix("http://")
    with Producer(site.ingest_endpoint) as producer, process, runlake("tail", http=http) as tail:
        assert lines(tail, 1)[0]["kind"] == "position"
        producer.deliver([started("one")])
        assert lines(tail, 1)[0]["data"]["run_id"] == "one"
        process.kill()
        producer.deliver([started("two")])
        process, _ = site.query("--http", http)
        with process:
            producer.deliver([started("three")])
            assert [line["data"]["run_id"] for line in lines(tail, 2)] == ["two", "three"]


def test_show_follow_prints_the_events_of_a_run_and_goes_on(site: Site, served: tuple[Process, str]) -> None:
    with Producer(site.ingest_endpoint) as producer:
        run = started("r")
        producer.deliver([run, structs.replace(event(1), run_event_id=run.event_id)])
        producer.flush()
        with runlake("runs", "show", "r", "--follow", http=served[1]) as show:
            assert lines(show, 1)[0]["data"]["payload"] == {"number": 1}
            producer.deliver([structs.replace(event(2), run_event_id=run.event_id), event(3, "another")])
            producer.deliver([event(4, "r")])
            assert [line["data"]["payload"]["number"] for line in lines(show, 2)] == [2, 4]


TOKEN = "only-for-this-test-0123456789"


def test_both_send_the_token_of_the_settings_and_never_show_it(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    process, url = site.query("--token-file", str(file))
    http = url.removeprefix("http://")
    with process, Producer(site.ingest_endpoint) as producer:
        run = started("r")
        producer.deliver([run, structs.replace(event(1, "r"), run_event_id=run.event_id)])
        said = ""
        for env in ({"RUNLAKE_TOKEN": TOKEN}, {"RUNLAKE_TOKEN_FILE": str(file)}):
            for command in ("tail --from= --count 2", "runs show r --follow"):
                with runlake(*command.split(), http=http, env=env) as told:
                    heard = lines(told, 1)
                    assert heard[0]["data"]["run_id"] == "r"
                    assert TOKEN not in Path(f"/proc/{told.pid}/cmdline").read_text()
                    told.terminate()
                    said += "".join(told.communicate(timeout=20))
        for env in ({}, {"RUNLAKE_TOKEN": TOKEN[::-1]}):
            for command in ("tail", "runs show r --follow"):
                with runlake(*command.split(), http=http, env=env) as refused:
                    said += "".join(refused.communicate(timeout=20))
                    assert refused.returncode == 1
        assert said.count("Authorization") + said.count("token") > 0
        assert TOKEN not in said
        assert TOKEN[::-1] not in said


@pytest.mark.parametrize("command", [("tail", "--status", "odd"), ("tail", "--from", "yesterday")])
def test_what_the_api_refuses_is_said_in_one_line(command: tuple[str, ...], served: tuple[Process, str]) -> None:
    with runlake(*command, http=served[1]) as tail:
        said = tail.communicate(timeout=20)[1]
        assert tail.returncode == 1
        assert said.startswith("runlake: ")
        assert said.count("\n") == 1


def test_where_nobody_answers_it_says_how_to_start() -> None:
    with runlake("tail", http="127.0.0.1:1") as tail:
        assert "Start RunLake with `runlake up`" in tail.communicate(timeout=20)[1]
        assert tail.returncode == 1


RUN = {"agent_name": "a\x1b[31m", "job_type": "j", "status": "failure", "duration_ms": 1500, "run_id": "r",
       "error_summary": "it broke", "updated_at": "2026-01-28T10:30:00Z"}  # fmt: skip


def test_people_read_one_line_for_each_and_recorded_text_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    told = [
        Told("position", "", {"position": ""}),
        Told("run", "w:1", RUN),
        Told("event", "w:2", {"type": "step", "run_id": "r", "payload": {"n": 1}, "ts": "2026-01-28T10:30:01.5Z"}),
        Told("coalesced", "w:3", {"events": 1200, "changes": 3}),
        Told("dropped", "", {"reason": "too slow"}),
    ]
    print_told(told, people=True)
    assert capsys.readouterr().out.splitlines() == [
        "10:30:00  a\\x1b[31m  j  failure  1.5 s  r  it broke",
        '10:30:01    step  r  {"n":1}',
        "… 1,200 events and 3 changes more than can be shown",
        "… too slow",
    ]
    assert line_of(told[1])[1] == "red"


def test_stale_runs_are_told_and_listed(site: Site, served: tuple[Process, str]) -> None:
    run = started("quiet", heartbeat_until=datetime.now(UTC) + timedelta(seconds=0.2))
    with Producer(site.ingest_endpoint) as producer, runlake("tail", http=served[1]) as tail:
        lines(tail, 1)
        producer.deliver([run, started("other")])
        told = lines(tail, 3)[-1]
        assert (told["kind"], told["data"]["run_id"], told["data"]["status"]) == ("stale", "quiet", "running")
        with runlake("runs", "--stale", "--json", http=served[1]) as listed:
            assert [one["run_id"] for one in json.loads(listed.communicate(timeout=60)[0])["runs"]] == ["quiet"]


def test_people_read_who_is_silent_since_when_and_who_came_back() -> None:
    data = {"agent_name": "a", "job_type": "j", "run_id": "r", "status": "running", "since": "2026-01-28T10:30:00Z"}
    assert line_of(Told("stale", "", data)) == ("10:30:00  a  j  r  stale: silent since then", "yellow")
    assert line_of(Told("revived", "", data)) == ("          a  j  r  revived: running", "green")


def test_a_stream_is_read_event_by_event_and_comments_are_left_out() -> None:
    text = b': hello\n\nid: w:1\nevent: run\ndata: {"a":\ndata: 1}\n\nevent: lost\ndata: {}\n\nid: w:2\ndata: {'
    assert list(read_events(iter(text.splitlines(keepends=True)))) == [
        Told("run", "w:1", {"a": 1}),
        Told("lost", "", {}),
    ]
