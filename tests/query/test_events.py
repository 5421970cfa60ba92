"""`GET /api/v1/runs/{run_id}/events`."""

from __future__ import annotations

import json
from typing import Any

from support.api import Api, Start
from support.lakes import LakeWriter, Worker, at

RECENT = "--recent-days"
OLD = "2020-01-01T00:00:00Z"


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_id"] for event in events]


def test_events_have_this_shape_and_go_by_time_then_position(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    third = worker.event("r", run, at(5), payload={"a": [1]}, trace_id="t", span_id="s", parent_span_id="p")
    fourth = worker.event("r", run, at(5))
    first = worker.event("r", run, at(1.25))
    second = worker.event("r", run, at(2), type="other")
    lake.flush(worker)
    _, api = start(RECENT, "36500")
    found = api.ok("/api/v1/runs/r/events")
    assert ids(found) == [str(key) for key in (first, second, third, fourth)]
    assert found[2] == {
        "event_id": str(third), "run_id": "r", "ts": "2026-01-28T10:30:05Z", "type": "step", "payload": {"a": [1]},
        "trace_id": "t", "span_id": "s", "parent_span_id": "p",
    }  # fmt: skip
    assert found[0]["ts"] == "2026-01-28T10:30:01.25Z"
    assert found[0]["payload"] is None
    assert ids(api.ok("/api/v1/runs/r/events", type="other")) == [str(second)]


def test_a_run_without_events_has_none(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    worker.update(run, status="success")
    worker.start("other")
    worker.event("other")
    lake.flush(worker)
    _, api = start()
    assert api.ok("/api/v1/runs/r/events") == []


def test_events_older_than_the_window_come_from_the_lake(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    expected = [worker.event("r", run, ts) for ts in (OLD, "2021-01-01T00:00:00Z", at(1), at(2))]
    loose = worker.event("r", None, "2020-06-01T00:00:00Z")
    expected.insert(1, loose)
    lake.flush(worker)
    answers = []
    for days in ("1", "1500", "36500"):
        with_process, api = start(RECENT, days, "--read-model", str(lake.catalog.with_name(f"model-{days}")))
        answers.append(ids(api.ok("/api/v1/runs/r/events")))
        api.close()
        with_process.kill()
    assert answers == [[str(key) for key in expected]] * 3


def test_events_that_name_no_run_belong_to_the_latest_created_of_their_run_id(lake: LakeWriter, start: Start) -> None:
    worker, other = Worker(), Worker()
    before = worker.event("r", None, at(1))
    first = worker.start("r")
    own = worker.event("r", first, at(2))
    lake.flush(worker)
    _, api = start(RECENT, "36500")
    assert ids(api.ok("/api/v1/runs/r/events")) == [str(before), str(own)]
    other.seq = 10
    second = other.start("r")
    after = other.event("r", None, at(3))
    lake.flush(other)
    seen = api.ok("/api/v1/runs/r/events", after=f"{other.id}:{other.seq}")
    assert ids(seen) == [str(before), str(after)]
    assert ids(api.ok(f"/api/v1/runs/{first}/events")) == [str(own)]
    assert ids(api.ok(f"/api/v1/runs/{second}/events")) == [str(before), str(after)]
    rows = api.ok("/api/v1/rollups", measures="events")
    assert rows["totals"] == {"events": 3}


def test_pages_of_events_are_all_events(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    for number in range(23):
        worker.event("r", run, at(number // 4))
    lake.flush(worker)
    _, api = start()
    whole = api.ok("/api/v1/runs/r/events")
    assert len(whole) == 23
    pages: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        reply = api.get("/api/v1/runs/r/events", None, limit=5, **cursor)
        pages += reply.json
        if "runlake-next-cursor" not in reply.headers:
            break
        cursor = {"cursor": reply.headers["runlake-next-cursor"]}
    assert pages == whole


def test_events_come_as_lines_when_asked(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    for _ in range(3):
        worker.event("r", run, payload={"text": "a\nb"})
    lake.flush(worker)
    _, api = start()
    reply = api.get("/api/v1/runs/r/events", {"Accept": "application/x-ndjson"})
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in reply.text.splitlines()] == api.ok("/api/v1/runs/r/events")


def test_the_fleet_has_the_events_that_were_counted(api: Api, fleet: Any) -> None:
    runs = api.ok("/api/v1/runs", limit=1000)["runs"]
    for run in runs[:60]:
        assert len(api.ok(f"/api/v1/runs/{run['event_id']}/events")) == fleet.events[run["event_id"]]


def test_lines_come_a_page_at_a_time_and_are_all_of_them(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = worker.start("r")
    expected = [worker.event("r", run, at(number / 1000), type=f"t{number % 2}") for number in range(2_500)]
    lake.flush(worker)
    _, api = start(RECENT, "36500")

    def lines(**parameters: Any) -> list[str]:
        reply = api.get("/api/v1/runs/r/events", {"Accept": "application/x-ndjson"}, **parameters)
        assert reply.status == 200
        assert reply.headers["runlake-position"].endswith(":2501")
        return [json.loads(line)["event_id"] for line in reply.text.splitlines()]

    assert lines() == [str(key) for key in expected]
    assert lines(type="t1") == [str(key) for key in expected[1::2]]
    assert lines(limit=3) == [str(key) for key in expected[:3]]
