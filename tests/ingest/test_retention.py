"""Old runs and runs to be forgotten are removed whole, do not come back, and every position stays accounted for."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from ingest.test_maintenance_process import told
from runlake.lake.filehold import hold_files
from support.api import Api
from support.lakes import LakeWriter, Worker, at
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.reading import one, rows
from support.runlake_command import Command
from support.samples import START, event, started, updated

OFTEN = ("--maintenance-interval-ms", "50", "--maintenance-keep-s", "1")
KEEP_MONTH = (*OFTEN, "--retention-days", "30")
NEVER = ("--maintenance-interval-ms", "0")
NO_QUERY = "127.0.0.1:0"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def old_runs(site: Site, count: int) -> list[UUID]:
    """A lake with runs of January, three messages each."""
    worker = Worker()
    with LakeWriter(site.data) as lake:
        runs = [worker.start(f"old-{number}", start_time=at(number)) for number in range(count)]
        for run in runs:
            worker.update(run, status="success")
            worker.event("x", run, ts=at(1))
        worker.delivery("p", 1, worker.seq, first_seq=1)
        worker.refuse("p", "no", b"\x00", at(0))
        lake.flush(worker)
    return runs


def left(site: Site) -> dict[str, int]:
    """How many changes and events each run still has in the lake."""
    query = (
        "SELECT run_event_id::VARCHAR, count(*) FROM (SELECT run_event_id FROM run_changes UNION ALL"
        " SELECT run_event_id FROM events) GROUP BY 1"
    )
    with hold_files(site.data / "lake"):  # a busy machine may read for longer than files are kept
        return dict(rows(site.catalog, query))


def assert_whole(command: Command) -> None:
    done = command("verify")
    assert done.returncode == 0, done.stdout


def test_old_runs_go_whole_and_do_not_come_back(site: Site, command: Command) -> None:
    alive = old_runs(site, 4)[3]
    files = [path for table in ("run_changes", "events") for path in (site.data / "lake" / "main" / table).iterdir()]
    with site.ingest(*NEVER) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([updated(alive, error_summary="still at it")])
        assert worker.terminate() == 0
    dry = command("maintain", "--dry-run", "--retention-days", "30", "--quarantine-days", "30")
    assert "3 runs to remove that were older than the retention" in dry.stdout
    assert "1 refused messages to remove" in dry.stdout
    query, url = site.query()
    with query, closing(Api(url)) as api:
        command.http = url.removeprefix("http://")
        assert api.ok("/api/v1/runs")["total"] == 4
        with site.ingest(*KEEP_MONTH, "--quarantine-days", "30") as worker, Producer(site.ingest_endpoint) as producer:
            wait_until(lambda: left(site) == {str(alive): 4}, "the old ones are gone")
            wait_until(lambda: len(api.ok("/api/v1/runs")["runs"]) == 1, "they are not shown")
            assert api.get("/api/v1/runs/old-0").status == 404
            assert api.ok("/api/v1/runs/old-3")["error_summary"] == "still at it"
            wait_until(lambda: told(worker, "removed_runs_total") == 3, "they are counted")
            wait_until(lambda: told(worker, "removed_refused_total") == 1, "the refused one is gone")
            late = started("late", START)
            refused = producer.deliver([late, event(1, ts=START), event(2)])
            assert [(one.index, one.field) for one in refused.rejected] == [(0, "start_time"), (1, "ts")]
            assert "is expired" in refused.rejected[0].reason and refused.accepted == 1
            producer.flush()
            assert_whole(command)
            wait_until(lambda: not any(file.exists() for file in files), "no file has their bytes")
            assert worker.terminate() == 0
        assert one(site.catalog, "SELECT sum(messages)::BIGINT FROM removals") == 9
        with site.ingest(*NEVER) as worker, Producer(site.ingest_endpoint) as producer:
            assert len(producer.deliver([late]).rejected) == 1  # without the setting too: the horizon is the lake's
            assert worker.terminate() == 0
        assert query.terminate() == 0
    rebuilt, url = site.query("--read-model", str(site.data / "another"))
    with rebuilt, closing(Api(url)) as api:
        command.http = url.removeprefix("http://")
        assert [run["run_id"] for run in api.ok("/api/v1/runs")["runs"]] == ["old-3"]
        assert_whole(command)
        assert rebuilt.terminate() == 0


@pytest.mark.parametrize(
    "point", ["retain.before_commit", "retain.after_commit", "rewrite.before_commit", "rewrite.after_commit"]
)
def test_p1_a_removal_that_is_killed_is_finished_by_the_next_worker(point: str, site: Site, command: Command) -> None:
    alive = old_runs(site, 3)[2]
    with site.ingest(*NEVER) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([updated(alive)])
        assert worker.terminate() == 0
    crashing = site.ingest(*KEEP_MONTH, crash_at=f"maintain.{point}", ready=False)
    assert crashing.wait() == -signal.SIGKILL
    assert_whole(command)
    with site.ingest(*KEEP_MONTH) as worker:
        wait_until(lambda: left(site) == {str(alive): 4}, "the old ones are gone")
        assert worker.terminate() == 0
    assert_whole(command)
    assert one(site.catalog, "SELECT sum(messages)::BIGINT FROM removals") == 6


def forget(command: Command, name: str) -> None:
    done = command("forget", name)
    assert done.returncode == 0 and "To be forgotten" in done.stdout, done.stderr


def watched(site: Site) -> tuple[Process, Api]:
    query, url = site.query()
    return query, Api(url)


def test_a_run_that_is_forgotten_goes_with_all_that_was_said_of_it_and_what_comes_is_refused(
    site: Site, command: Command
) -> None:
    wanted, other = started("secret", error_summary="a password"), started("other")
    messages: list[Any] = [
        wanted, other, event(1, "other"), *(event_of(wanted.event_id, number) for number in range(3))
    ]  # fmt: skip
    with site.ingest(*OFTEN) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver(messages)
        query, api = watched(site)
        with query, closing(api):
            command.http = api.url.removeprefix("http://")
            dry = command("forget", "secret", "--dry-run")
            assert f"Would forget run secret ({wanted.event_id}): 1 changes, 3 events" in dry.stdout
            assert "Run not found" in command("forget", "nobody").stderr
            forget(command, "secret")
            wait_until(lambda: str(wanted.event_id) not in left(site), "it is gone")
            wait_until(lambda: api.get("/api/v1/runs/secret").status == 404, "it is not shown")
            assert api.ok("/api/v1/runs/other")["run_id"] == "other"
            new = [updated(wanted.event_id), event_of(wanted.event_id, 9)]
            assert [one.field for one in producer.deliver(new).rejected] == ["run_event_id", "run_event_id"]
            assert producer.deliver([wanted]).accepted == 0
            again = {
                "event_id": str(wanted.event_id), "run_id": "secret", "agent_name": "agent", "job_type": "job",
                "start_time": wanted.start_time.isoformat(),
            }  # fmt: skip
            for path, sent in (("/api/v1/runs", again), ("/api/v1/runs/batch", [again])):
                assert "event_id: is of a run that was forgotten" in api.post(path, sent).text
            of_event = {**again, "event_id": str(messages[2].event_id)}
            assert "event_id: is the id of another message, which is no run" in api.post("/api/v1/runs", of_event).text
            wait_until(lambda: told(worker, "removed_runs_total") == 1, "it is counted")
            assert_whole(command)
            assert query.terminate() == 0
        command.http = NO_QUERY
        worker.kill()
    with site.ingest(*OFTEN) as worker, Producer(site.ingest_endpoint) as producer:
        assert "was forgotten" in producer.deliver([wanted]).rejected[0].reason
        assert worker.terminate() == 0
    assert_whole(command)


def test_what_a_journal_still_held_of_a_forgotten_run_goes_at_the_next_start(site: Site, command: Command) -> None:
    run = started("secret")
    with site.ingest(*NEVER, "--flush-interval-ms", "600000") as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([run])
        producer.flush()
        producer.deliver([updated(run.event_id), event_of(run.event_id, 1)])
        worker.kill()
    forget(command, "secret")
    done = command("maintain")
    assert "1 runs removed that were to be forgotten" in done.stdout, done.stderr
    assert left(site) == {}
    with site.ingest(*OFTEN) as worker:
        wait_until(lambda: one(site.catalog, "SELECT count(*) FROM removals") == 2, "the rest is removed too")
        assert left(site) == {}
        assert worker.terminate() == 0
    assert_whole(command)


def event_of(run: UUID, number: int) -> Any:
    return replace(event(number, "secret"), run_event_id=run)
