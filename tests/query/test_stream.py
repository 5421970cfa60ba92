"""`GET /api/v1/stream`, and the events of a run as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import structs

from runlake.messages import RunStarted
from runlake_query.positions import parse_positions
from runlake_query.sse import frame
from runlake_query.streambatch import Filter, Selection
from runlake_query.streamframes import Frame, coalesce
from runlake_query.subscribers import MAX_FILTERS, Subscribers, TooMany
from support.api import Api, Start
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.samples import event, started, updated
from support.streaming import Stream


@pytest.fixture
def producer(site: Site) -> Iterator[Producer]:
    with site.ingest("--flush-interval-ms", "300"), Producer(site.ingest_endpoint) as producer:
        yield producer


@pytest.fixture
def served(producer: Producer, start: Start) -> tuple[Process, Api]:
    process, api = start()
    process.wait_for("feed_heard")
    return process, api


@pytest.fixture
def url(served: tuple[Process, Api]) -> str:
    return served[1].url


def run_of(agent: str) -> RunStarted:
    return structs.replace(started(f"{agent}-{uuid4()}"), agent_name=agent)


def seq(position: str) -> int:
    (at,) = parse_positions(position).values()
    return at


def test_changes_of_runs_and_run_events_are_told_as_they_happen(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served
    with Stream(api.url) as stream:
        stream.wait("position")
        run = run_of("a")
        ack = producer.deliver([run, structs.replace(event(1, run.run_id), run_event_id=run.event_id)])
        (told,), (happened,) = stream.wait("run"), stream.wait("event")
        assert told.data == api.ok(f"/api/v1/runs/{run.run_id}")
        assert [happened.data] == api.ok(f"/api/v1/runs/{run.run_id}/events")
        assert (seq(told.position), seq(happened.position)) == (1, 2)
        ack = producer.deliver([updated(run.event_id, status="success")])
        assert stream.wait("run", 2)[1].data["status"] == "success"
        assert stream.of("run")[1].position == f"{ack.worker}:3"
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-cache" in stream.headers["cache-control"]
        assert stream.headers["x-accel-buffering"] == "no"


def test_filters_are_those_of_the_list(producer: Producer, served: tuple[Process, Api]) -> None:
    _, api = served
    with (
        Stream(api.url, agent_name=["a", "b"], min_duration_ms=5) as filtered,
        Stream(api.url, type="step") as steps,
        Stream(api.url, q="NOTHING") as nothing,
        Stream(api.url) as everything,
    ):
        for stream in (filtered, steps, nothing, everything):
            stream.wait("position")
        runs = [run_of(agent) for agent in ("a", "b", "c", "a")]
        durations = (5, 4, 9, 60)
        producer.deliver([structs.replace(run, duration_ms=ms) for run, ms in zip(runs, durations, strict=True)])
        producer.deliver(
            [structs.replace(event(n, run.run_id), run_event_id=run.event_id) for n, run in enumerate(runs)]
        )
        producer.deliver([structs.replace(event(9), type="other")])
        everything.wait("event", 5)
        filtered.wait("event", 2)
        steps.wait("event", 4)
        listed = api.ok("/api/v1/runs", agent_name=["a", "b"], min_duration_ms=5)["runs"]
        assert sorted(told.data["event_id"] for told in filtered.of("run")) == sorted(run["event_id"] for run in listed)
        assert [told.data["payload"]["number"] for told in filtered.of("event")] == [0, 3]
        assert {told.data["type"] for told in steps.of("event")} == {"step"}
        assert steps.of("run") == nothing.of("run", "event") == []
        assert len(everything.of("run")) == 4


def test_who_comes_back_with_the_last_event_id_misses_nothing_and_hears_nothing_twice(
    producer: Producer, start: Start, served: tuple[Process, Api]
) -> None:
    process, api = served
    run = run_of("a")
    producer.deliver([run])
    heard: list[int] = []
    last: str | None = ""
    for number in range(12):
        with Stream(api.url, last=last, type="step") as stream:
            for step in range(5):
                producer.deliver(
                    [structs.replace(event(number * 10 + step * 2 + one), run_event_id=run.event_id) for one in (0, 1)]
                )
            if number % 3 == 2:
                stream.wait("event", 1)
            told = list(stream.told)  # more may come meanwhile
            heard += [one.data["payload"]["number"] for one in told if one.kind == "event"]
            last = told[-1].position if told else last
        if number == 6:
            process.kill()
            process, api = start()
    with Stream(api.url, last=last, type="step") as stream:
        if len(heard) < 120:
            stream.wait("event", 120 - len(heard))
        heard += [one.data["payload"]["number"] for one in stream.of("event")]
    assert heard == list(range(120))


def test_the_events_of_a_run_are_told_from_the_first_and_go_on(producer: Producer, served: tuple[Process, Api]) -> None:
    _, api = served
    run, other = run_of("a"), run_of("a")

    def of(owner: RunStarted, number: int) -> msgspec.Struct:
        return structs.replace(event(number, owner.run_id), run_event_id=owner.event_id)

    producer.deliver([run, other, of(run, 1), of(other, 2), of(run, 3)])  # type: ignore[list-item]
    with Stream(api.url, f"/api/v1/runs/{run.run_id}/events") as stream:
        stream.wait("event", 2)
        producer.deliver([of(other, 4), of(run, 5), event(6, run.run_id)])  # type: ignore[list-item]
        assert [told.data["payload"]["number"] for told in stream.wait("event", 4)] == [1, 3, 5, 6]
        assert stream.of("run") == []
        position = stream.of("event")[1].position
    with Stream(api.url, f"/api/v1/runs/{run.run_id}/events", last=position) as stream:
        assert [told.data["payload"]["number"] for told in stream.wait("event", 2)] == [5, 6]
    reply = api.get("/api/v1/runs/nobody/events", {"Accept": "text/event-stream"})
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")


def test_fifty_watchers_all_hear_everything(producer: Producer, url: str) -> None:
    streams = [Stream(url, agent_name=f"a{number % 5}" if number % 2 else []) for number in range(50)]
    try:
        for stream in streams:
            stream.wait("position")
        runs = [run_of(f"a{number}") for number in range(5)]
        producer.deliver(runs)
        for number in range(40):
            producer.deliver([structs.replace(event(number), run_event_id=run.event_id) for run in runs])
        for number, stream in enumerate(streams):
            told = stream.wait("event", 40 if number % 2 else 200)
            assert len(told) == (40 if number % 2 else 200)
            assert [seq(one.position) for one in told] == sorted(seq(one.position) for one in told)
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


def flood(producer: Producer, *quick: Stream) -> None:
    """260 events of 60 kB: too many for who does not read; those who read keep up."""
    before = [len(stream.of("event")) for stream in quick]
    for number in range(260):
        producer.deliver([event(number, text="x" * 60_000)])
        if number % 10 == 9:
            for heard, stream in zip(before, quick, strict=True):
                stream.wait("event", heard + number + 1)


def test_who_does_not_read_is_dropped_with_the_reason_and_nobody_else_suffers(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served
    with Stream(api.url, paused=True) as slow, Stream(api.url) as quick:
        quick.wait("position")
        flood(producer, quick)
        assert [told.data["payload"]["number"] for told in quick.wait("event", 260)] == list(range(260))
        slow.resume()
        assert "too slow" in slow.wait("dropped")[0].data["reason"]
        assert len(slow.of("event")) < 260
        assert api.get("/health").status == 200


def test_events_that_name_no_run_reach_streams_without_a_filter_of_runs_and_the_latest_run_of_their_run_id(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served
    old, new = run_of("a"), run_of("a")
    new = structs.replace(new, run_id=old.run_id)
    ack = producer.deliver([old, new])
    assert len(api.ok(f"/api/v1/runs?after={ack.worker}:2")["runs"]) == 2
    with (
        Stream(api.url) as everything,
        Stream(api.url, type="step") as steps,
        Stream(api.url, agent_name="a") as filtered,
        Stream(api.url, f"/api/v1/runs/{old.event_id}/events") as of_old,
        Stream(api.url, f"/api/v1/runs/{old.run_id}/events") as of_latest,
    ):
        for stream in (everything, steps, filtered):
            stream.wait("position")
        own = structs.replace(event(2, old.run_id), run_event_id=old.event_id)
        last = structs.replace(event(3, old.run_id), run_event_id=new.event_id)
        producer.deliver([event(1, old.run_id), own, last])
        for stream, numbers in (
            (everything, [1, 2, 3]), (steps, [1, 2, 3]), (filtered, [2, 3]), (of_old, [2]), (of_latest, [1, 3]),
        ):  # fmt: skip
            assert [told.data["payload"]["number"] for told in stream.wait("event", len(numbers))] == numbers
        begin = everything.of("position")[0].position
    with Stream(api.url, last=begin, agent_name="a") as again:
        assert [told.data["payload"]["number"] for told in again.wait("event", 2)] == [2, 3]


def test_a_page_of_an_allowed_origin_may_read_a_stream(producer: Producer, start: Start) -> None:
    _, api = start("--cors-origins", "https://a.example")
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        with Stream(api.url, headers={"Origin": origin}) as stream:
            stream.wait("position")
            assert stream.headers.get("access-control-allow-origin") == allowed
            assert "Origin" in stream.headers["vary"]


def test_the_metrics_page_counts_clients_frames_and_drops_by_reason(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served

    def counts() -> dict[str, float]:
        lines = [line.rpartition(" ") for line in api.get("/metrics").text.splitlines()]
        return {name: float(value) for name, _, value in lines if name.startswith("runlake_stream_")}

    with Stream(api.url) as one, Stream(api.url) as two, Stream(api.url, paused=True) as slow:
        for stream in (one, two):
            stream.wait("position")
        producer.deliver([event(number) for number in range(3)])
        for stream in (one, two):
            stream.wait("event", 3)
        assert counts()["runlake_stream_clients"] == 3
        assert counts()["runlake_stream_frames_sent_total"] == 9
        assert counts()["runlake_stream_queued_bytes"] == 0
        flood(producer, one, two)
        slow.resume()
        slow.wait("dropped")
    wait_until(lambda: counts()["runlake_stream_clients"] == 0, "the clients that left are seen")
    assert counts()['runlake_stream_dropped_total{reason="slow"}'] == 1
    assert counts()['runlake_stream_dropped_total{reason="stopping"}'] == 0


def test_a_process_that_stops_says_so(producer: Producer, served: tuple[Process, Api]) -> None:
    process, api = served
    with Stream(api.url) as stream:
        stream.wait("position")
        assert process.terminate() == 0
        assert stream.wait("dropped")[0].data["reason"] == "this process stops"


def test_while_nothing_happens_a_comment_comes(producer: Producer, url: str) -> None:
    with Stream(url, agent_name="nobody") as stream:
        wait_until(lambda: stream.comments > 0, "a heartbeat comes")


def test_what_cannot_be_streamed_is_refused(producer: Producer, served: tuple[Process, Api]) -> None:
    _, api = served
    for parameters, headers in (({"colour": "red"}, {}), ({"limit": 1}, {}), ({}, {"Last-Event-ID": "yesterday"})):
        reply = api.get("/api/v1/stream", headers, **parameters)
        assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json"), parameters


def test_too_many_different_filters_are_refused() -> None:
    subscribers = Subscribers()
    for number in range(MAX_FILTERS):
        subscribers.add(Selection(filter_key=str(number)), Filter("true", {}), {})
    with pytest.raises(TooMany):
        subscribers.add(Selection(filter_key="more"), Filter("true", {}), {})
    subscribers.add(Selection(filter_key="1"), Filter("true", {}), {})
    assert subscribers.count == MAX_FILTERS + 1


def test_what_is_coalesced_is_said_to_be() -> None:
    worker = UUID(int=1)

    def made(kind: str, at: int, name: str) -> Frame:
        return Frame(worker, at, (name, name), kind, frame(kind, f'{{"at":{at}}}', f"{worker}:{at}"))

    frames = [
        made("run", 1, "a"),
        made("event", 2, "a"),
        made("run", 3, "b"),
        made("event", 4, "a"),
        made("run", 5, "a"),
    ]
    shorter = coalesce(frames)
    assert [(item.kind, item.seq) for item in shorter] == [("run", 3), ("run", 5), ("coalesced", 5)]
    text = shorter[-1].data.decode()
    assert text.startswith(f"id: {worker}:5\nevent: coalesced\ndata: ")
    assert msgspec.json.decode(text.split("data: ")[1]) == {
        "runs": [{"event_id": "a", "run_id": "a", "changes": 1, "events": 2}],
        "more_runs": 0,
        "changes": 1,
        "events": 2,
    }
