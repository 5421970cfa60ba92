"""The feed: what ingest has journaled is visible before the lake has it; and every way in which the feed can fail."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import zmq
from msgspec import structs

from runlake import feed, wire
from runlake.feed import FeedGroup, encode_beat, encode_group
from runlake_query.feedbuffer import FeedBuffer
from runlake_query.progress import FEED_SILENCE_S, Progress
from support.api import Api, Start
from support.lakes import LakeWriter, Worker
from support.models import Model
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import event, events, started, updated

NEVER = ("--flush-interval-ms", "600000")
"""Nothing goes to the lake by itself."""


def after(ack: wire.Reply) -> str:
    assert isinstance(ack, wire.Ack)
    return f"{ack.worker}:{ack.first_seq + ack.accepted - 1}"


def fed(api: Api, producer: Producer, name: str) -> None:
    """A run that was just accepted is there, in every kind of read, and nothing was flushed for it."""
    run = structs.replace(started(name), agent_name=name)
    before = producer.position().flushed
    ack = producer.deliver([run, event(1, name), updated(run.event_id, status="success")])
    assert api.ok(f"/api/v1/runs/{name}", after=after(ack))["status"] == "success"
    assert api.ok("/api/v1/runs", agent_name=name)["total"] == 1
    assert [found["payload"]["number"] for found in api.ok(f"/api/v1/runs/{name}/events")] == [1]
    (row,) = api.ok("/api/v1/rollups", group_by="agent_name", agent_name=name)["rows"]
    assert (row["success"], row["events"]) == (1, 1)
    assert producer.position().flushed == before


def test_what_is_acknowledged_is_visible_before_the_lake_has_it(site: Site, start: Start) -> None:
    with site.ingest(*NEVER), Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        fed(api, producer, "live")
        (books,) = api.ok("/api/v1/producers")["producers"]
        assert (books["received"], books["accepted"], books["gaps"]) == (3, 3, 0)
        page = api.get("/metrics").text
        assert "runlake_query_feed_messages_total 3.0\n" in page
        for name in ("lake_messages", "lake_catch_ups", "feed_gaps", "feed_duplicates", "feed_dropped", "feed_refused"):
            assert f"runlake_query_{name}_total 0.0\n" in page


def test_after_either_side_was_killed_the_feed_goes_on_by_itself(site: Site, start: Start) -> None:
    with site.ingest(*NEVER) as ingest, Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        fed(api, producer, "one")
        ingest.kill()
    process.wait_for("feed_silent")
    ingest = site.ingest(*NEVER)
    wait_until(lambda: len([line for line in process.log if line["event"] == "feed_heard"]) == 2, "it is heard again")
    with ingest, Producer(site.ingest_endpoint) as producer:
        fed(api, producer, "two")
        process.kill()
        process, api = start()
        process.wait_for("feed_heard")
        assert api.ok("/api/v1/runs")["total"] == 2
        fed(api, producer, "three")


def test_what_was_missed_comes_from_the_lake_and_then_the_feed_goes_on(site: Site, start: Start) -> None:
    with site.ingest(*NEVER), Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        fed(api, producer, "heard")
        process.kill()
        missed = producer.deliver([started("missed")])
        process, api = start()
        process.wait_for("feed_heard")
        ahead = producer.deliver([started("ahead")])
        process.wait_for("feed_gap")
        assert [run["run_id"] for run in api.ok("/api/v1/runs")["runs"]] == ["heard"]
        wait_until(lambda: api.get("/ready").json["lag_ms"] > 0, "the lag shows")
        producer.flush()
        runs = api.ok("/api/v1/runs", after=after(ahead))["runs"]
        assert {run["run_id"] for run in runs} == {"heard", "missed", "ahead"}
        assert after(missed)
        fed(api, producer, "again")


def test_books_of_batches_with_nothing_to_accept_are_counted_once(site: Site, start: Start) -> None:
    with site.ingest(*NEVER), Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        batch = events(5)
        ack = producer.deliver(batch)
        producer.deliver(batch)
        producer.deliver([b"\x80"])
        last = producer.deliver([event()])
        for flushed in (False, True):
            if flushed:
                producer.flush()
                position = f"{last.worker}:{last.first_seq}"
                wait_until(lambda: api.get("/api/v1/quarantine").json["total"] == 1, "the lake is followed")
                assert api.get("/api/v1/producers", after=position).status == 200
            found = api.ok("/api/v1/producers", after=after(last))["producers"]
            (books,) = found
            counts = (books["received"], books["accepted"], books["duplicate"], books["rejected"], books["gaps"])
            assert counts == (12, 6, 5, 1, 0)
        assert ack.accepted == 5


@pytest.fixture
def publisher(site: Site) -> Iterator[zmq.Socket[bytes]]:
    """What a test publishes in the place of a worker. XPUB: it sees when somebody listens."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(site.feed_endpoint)
        yield socket


def listened(publisher: zmq.Socket[bytes]) -> None:
    for _ in range(2):  # one subscription for each topic
        assert publisher.poll(20_000)
        publisher.recv()


def test_a_feed_of_another_lake_or_that_is_no_feed_or_has_other_lines_changes_nothing(
    site: Site, lake: LakeWriter, tmp_path: Path, publisher: zmq.Socket[bytes]
) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    with Model(lake, tmp_path / "model", feed=site.feed_endpoint) as model:
        model.caught_up(worker)
        listened(publisher)

        def is_told(times: int) -> bool:
            return model.log.getvalue().count("feed_unreadable") == times

        def publish(lines: bytes, lake_id: UUID = lake.id, seq: int = 2) -> None:
            group = FeedGroup(lake=lake_id, worker=worker.id, segment=2, first_seq=seq, last_seq=seq, flushed=1)
            publisher.send_multipart(encode_group(group, lines))

        good = (
            f'{{"seq":2,"received_at":"2026-01-28T10:30:00Z","producer":"p","kind":"run.started","event_id":"{uuid4()}",'
            '"run_id":"fed","agent_name":"a","job_type":"j","start_time":"2026-01-28T10:30:00Z","status":"running"}\n'
        ).encode()
        publisher.send_multipart([b"log", b"\xff", b""])
        publisher.send_multipart([b"beat"])
        publish(good, lake_id=uuid4())
        bad = (b"", good.replace(b'"seq":2', b'"seq":3'), b'{"seq":2,"kind":"run.started","event_id":"no UUID"}\n')
        for told, lines in enumerate(bad, 1):
            publish(lines)
            wait_until(partial(is_told, told), "it is told")
        publish(good)
        wait_until(lambda: model.progress.positions[worker.id] == 2, "the one good message is applied")
        assert [row[0] for row in model.rows("SELECT run_id FROM shown ORDER BY seq")] == ["r", "fed"]


def test_a_lake_that_has_not_what_the_feed_told_takes_the_read_model_back(
    site: Site, lake: LakeWriter, tmp_path: Path, publisher: zmq.Socket[bytes]
) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    with Model(lake, tmp_path / "model", feed=site.feed_endpoint) as model:
        model.caught_up(worker)
        listened(publisher)
        lines = b"".join(
            b'{"seq":%d,"received_at":"2026-01-28T10:30:00Z","producer":"p","kind":"run.event","event_id":"%s",'
            b'"run_id":"r","ts":"2026-01-28T10:30:00Z","type":"t"}\n' % (seq, str(uuid4()).encode())
            for seq in (2, 3, 4)
        )
        group = FeedGroup(lake=lake.id, worker=worker.id, segment=2, first_seq=2, last_seq=4, flushed=1)
        publisher.send_multipart(encode_group(group, lines))
        wait_until(lambda: model.progress.positions[worker.id] == 4, "the feed is applied")
        worker.start("other")
        lake.flush(worker)  # its second segment ends at 2
        wait_until(lambda: "read_model_emptied" in model.log.getvalue(), "the read model is emptied")
        model.caught_up(worker)
        wait_until(lambda: [row[0] for row in model.rows("SELECT seq FROM positions")] == [2], "it is built anew")
        assert len(model.shown()) == 2
        assert model.rows("SELECT count(*) FROM events") == [(0,)]


def test_lag_is_that_of_the_oldest_message_known_and_not_applied() -> None:
    now = [10.0]
    progress, worker = Progress(lambda: now[0]), uuid4()
    progress.applied({worker: 5})
    progress.in_step(progress.looked_at())
    now[0] = 11.0
    assert progress.lag_ms() == 1000, "without a feed, since the lake was looked at"
    progress.heard(worker, 5)
    now[0] = 12.5
    assert progress.lag_ms() == 0, "the feed is heard, and tells of nothing new"
    progress.heard(worker, 7)
    now[0] = 12.75
    progress.heard(worker, 9)
    assert progress.lag_ms() == 250
    progress.applied({worker: 9})
    assert progress.lag_ms() == 0
    assert progress.feed_live
    now[0] += FEED_SILENCE_S
    assert not progress.feed_live
    assert progress.lag_ms() > 0


def test_the_header_and_the_beat_travel_whole() -> None:
    group = FeedGroup(lake=uuid4(), worker=uuid4(), segment=3, first_seq=7, last_seq=9, flushed=2)
    assert feed.decode_feed(encode_group(group, b"lines")) == (group, b"lines")
    beat = wire.Position(lake=uuid4(), worker=uuid4(), accepted=3, durable=2, flushed=1)
    assert feed.decode_feed(encode_beat(beat)) == beat


LAKE, WORKER = uuid4(), uuid4()


def add(buffer: FeedBuffer, first: int, last: int, segment: int = 1, lines: bytes = b"") -> None:
    group = FeedGroup(lake=LAKE, worker=WORKER, segment=segment, first_seq=first, last_seq=last, flushed=0)
    buffer.add(group, lines or b"%d-%d;" % (first, last))


def test_groups_that_follow_are_taken_together_up_to_the_end_of_a_segment() -> None:
    buffer = FeedBuffer(WORKER)
    for first, last, segment in ((5, 6, 1), (1, 2, 1), (3, 4, 1), (7, 9, 2), (12, 13, 2), (3, 4, 1)):
        add(buffer, first, last, segment)
    assert buffer.take(0, 0) == (1, 6, b"1-2;3-4;5-6;", 3)
    assert buffer.take(6, 0) == (2, 9, b"7-9;", 1)
    assert buffer.take(9, 0) is None
    assert buffer.waiting
    assert buffer.take(11, 1) == (2, 13, b"12-13;", 1)
    assert (buffer.waiting, buffer.size) == (False, 0)


def test_what_the_lake_has_brought_meanwhile_is_forgotten_and_a_group_that_it_cut_is_taken() -> None:
    buffer = FeedBuffer(WORKER)
    for first, last in ((1, 3), (4, 6), (7, 9)):
        add(buffer, first, last)
    assert buffer.take(5, 0) == (1, 9, b"4-6;7-9;", 2)
    assert buffer.size == 0


def test_a_group_with_nothing_accepted_is_taken_once_and_not_when_the_lake_has_its_segment() -> None:
    buffer = FeedBuffer(WORKER)
    for _ in range(2):
        add(buffer, 1, 0, lines=b"x")
    add(buffer, 1, 0, lines=b"y")
    assert buffer.take(0, 0) == (1, 0, b"xy", 2)
    add(buffer, 1, 0, lines=b"x")
    assert buffer.take(0, 0) is None
    add(buffer, 1, 0, lines=b"z")
    assert buffer.take(0, 1) is None
    assert buffer.size == 0


def test_what_does_not_fit_is_dropped_from_the_far_end() -> None:
    buffer = FeedBuffer(WORKER, max_bytes=10)
    for first in (2, 1, 3):
        add(buffer, first, first, lines=b"%d....;" % first)
    assert buffer.dropped == 2
    assert buffer.take(0, 0) == (1, 1, b"1....;", 1)
    assert buffer.take(1, 0) is None
