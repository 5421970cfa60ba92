"""Runs that promised a sign of life and gave none: with a moved clock, and as real processes tell it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from runlake.messages import RunStarted
from runlake_query.progress import FEED_SILENCE_S, Progress
from runlake_query.promises import Promise, Promises
from runlake_query.staleclock import GRACE_S, StaleClock
from support.api import Api, Start
from support.lakes import LakeWriter, Worker, at
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.samples import event, started, updated
from support.streaming import Stream

KEY = UUID(int=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def promise(until_us: int, last_event_us: int = 0) -> Promise:
    return Promise(KEY, "r", "a", "j", until_us, last_event_us)


def test_a_promise_is_broken_when_it_has_passed_and_nothing_later_was_heard() -> None:
    promises = Promises()
    promises.changed([promise(100)], [KEY])
    assert promises.broken(100) == {}
    assert promises.broken(101) == {KEY: promise(100)}
    promises.spoke([(KEY, 100), (UUID(int=2), 500)])
    assert promises.broken(101) == {KEY: promise(100, 100)}
    promises.spoke([(KEY, 101)])
    assert promises.broken(10_000) == {}
    promises.changed([promise(200, 101)], [KEY])
    assert promises.broken(201) == {KEY: promise(200, 101)}
    promises.changed([], [KEY])
    assert not promises.any
    promises.restart([promise(7)])
    assert list(promises.broken(8)) == [KEY]


class Clocks:
    """A wall clock and a monotonic one that are moved together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1_000 + self.seconds


def test_the_clock_stands_still_while_nothing_can_be_heard_and_until_agents_had_time_to_catch_up() -> None:
    clocks = Clocks()
    progress = Progress(clocks.monotonic)
    clock = StaleClock(progress, clocks.wall)
    clocks.seconds = 100
    assert clock.now() == NOON, "no worker was heard yet"
    progress.in_step(progress.looked_at())
    progress.heard(KEY, 0)
    assert clock.now() == NOON + timedelta(seconds=100)
    clocks.seconds += FEED_SILENCE_S / 2
    assert clock.now() == NOON + timedelta(seconds=100)
    for _ in range(3):
        clocks.seconds += FEED_SILENCE_S
        assert clock.now() == NOON + timedelta(seconds=100)
    back = clocks.seconds
    for _ in range(3):
        progress.heard(KEY, 0)
        assert clock.now() == NOON + timedelta(seconds=100)
        clocks.seconds += 1
    clocks.seconds = back + GRACE_S - 0.5
    progress.heard(KEY, 0)
    assert clock.now() == NOON + timedelta(seconds=100)
    clocks.seconds = back + GRACE_S
    progress.heard(KEY, 0)
    assert clock.now() == clocks.wall()


def test_the_clock_does_not_pass_what_is_durable_and_not_yet_applied() -> None:
    clocks = Clocks()
    progress = Progress(clocks.monotonic)
    clock = StaleClock(progress, clocks.wall)
    progress.in_step(progress.looked_at())
    progress.heard(KEY, 5)
    clocks.seconds += 1.5
    progress.heard(KEY, 5)
    assert clock.now() == NOON
    progress.applied({KEY: 5})
    assert clock.now() == clocks.wall()


def test_lists_and_rollups_know_which_runs_are_stale(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    passed, far = at(60), "2126-01-01T00:00:00Z"
    stale = worker.start("stale", heartbeat_until=passed)
    worker.event("stale", stale, ts=at(59))
    worker.start("promises", heartbeat_until=far)
    worker.start("never-promised")
    worker.start("ended", heartbeat_until=passed, status="success")
    renewed = worker.start("renewed", heartbeat_until=passed)
    worker.update(renewed, heartbeat_until=far)
    spoke = worker.start("spoke", heartbeat_until=passed)
    worker.event("spoke", spoke, ts=at(61))
    lake.flush(worker)
    _, api = start()
    body = api.ok("/api/v1/runs", stale="true")
    assert ([run["run_id"] for run in body["runs"]], body["total"]) == (["stale"], 1)
    assert {run["run_id"] for run in api.ok("/api/v1/runs", stale="false")["runs"]} == {
        "promises", "never-promised", "ended", "renewed", "spoke",
    }  # fmt: skip
    assert api.ok("/api/v1/rollups", measures="runs,running,stale")["totals"] == {"runs": 6, "running": 5, "stale": 1}
    rows = api.ok("/api/v1/rollups", measures="stale", group_by="status", stale="true", bucket="day")["rows"]
    assert [(row["status"], row["stale"]) for row in rows] == [("running", 1)]
    assert api.get("/api/v1/runs", stale="perhaps").status == 400


@pytest.fixture
def producer(site: Site) -> Iterator[Producer]:
    with site.ingest("--flush-interval-ms", "300"), Producer(site.ingest_endpoint) as producer:
        yield producer


@pytest.fixture
def served(producer: Producer, start: Start) -> tuple[Process, Api]:
    process, api = start()
    process.wait_for("feed_heard")
    return process, api


def promising(agent: str, seconds: float) -> RunStarted:
    run = started(f"{agent}-{uuid4()}", heartbeat_until=datetime.now(UTC) + timedelta(seconds=seconds))
    return structs.replace(run, agent_name=agent)


def stale_runs(api: Api) -> set[str]:
    return {run["run_id"] for run in api.ok("/api/v1/runs", stale="true")["runs"]}


def test_streams_tell_when_a_run_becomes_stale_and_when_it_revives_by_a_promise_an_event_or_its_end(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served
    runs = [promising("a", 0.3), promising("a", 0.3), promising("b", 0.3)]
    patient = promising("a", 3_600)
    with (
        Stream(api.url) as everything,
        Stream(api.url, agent_name="b") as filtered,
        Stream(api.url, type="x") as typed,
    ):
        for stream in (everything, filtered, typed):
            stream.wait("position")
        producer.deliver([*runs, patient])
        told = everything.wait("stale", 3)
        assert {one.data["run_id"] for one in told} == {run.run_id for run in runs} == stale_runs(api)
        of_first = next(one for one in told if one.data["run_id"] == runs[0].run_id)
        shown = api.ok(f"/api/v1/runs/{runs[0].run_id}")
        assert datetime.fromisoformat(of_first.data["since"]) == runs[0].heartbeat_until
        assert {name: of_first.data[name] for name in ("event_id", "agent_name", "status")} == {
            name: shown[name] for name in ("event_id", "agent_name", "status")
        }
        assert of_first.position == ""
        # A sign of life that was given in time and came late; an event after the promise; an end.
        late = updated(runs[0].event_id, ts=runs[0].start_time, heartbeat_until=datetime.now(UTC) + timedelta(hours=1))
        spoken = structs.replace(event(1, runs[1].run_id), run_event_id=runs[1].event_id)
        producer.deliver([late, spoken, updated(runs[2].event_id, status="failure")])
        revived = everything.wait("revived", 3)
        assert {one.data["run_id"]: one.data["status"] for one in revived} == {
            runs[0].run_id: "running", runs[1].run_id: "running", runs[2].run_id: "failure",
        }  # fmt: skip
        assert stale_runs(api) == set()
        assert [one.data["run_id"] for one in filtered.wait("revived")] == [runs[2].run_id]
        assert [one.data["run_id"] for one in filtered.of("stale")] == [runs[2].run_id]
        assert typed.of("stale", "revived") == []


def test_no_run_dies_because_the_worker_was_away(site: Site, start: Start) -> None:
    with site.ingest() as ingest, Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        run = promising("a", FEED_SILENCE_S + 8)
        producer.deliver([run])
        with Stream(api.url) as stream:
            stream.wait("position")
            ingest.kill()
            process.wait_for("feed_silent")
            assert run.heartbeat_until is not None
            until = run.heartbeat_until + timedelta(seconds=1)
            wait_until(lambda: datetime.now(UTC) > until, "the promise has passed")
            assert stale_runs(api) == set()
            assert stream.of("stale") == []
            with site.ingest(), Producer(site.ingest_endpoint) as again:
                wait_until(lambda: api.ok("/ready")["feed_heard"], "the worker is heard again")
                again.deliver([updated(run.event_id, heartbeat_until=datetime.now(UTC) + timedelta(hours=1))])
                stream.wait("run")
                assert stale_runs(api) == set()
                assert stream.of("stale") == []
