"""For every client of a stream: what it was sent and what it was told the number of is what was published."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import pytest
from msgspec import structs

from runlake.cli.follow import Told, read_events
from runlake_query.positions import parse_positions
from runlake_query.streambatch import Batch, EventItem, Filter, RunItem, Selection
from runlake_query.streamframes import BatchFrames
from runlake_query.subscriber import Subscriber
from runlake_query.subscribers import MAX_BURST, Subscribers
from support.api import Api, Start
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.rawproducer import RawProducer
from support.samples import event, started
from support.streaming import Stream

WORKER = UUID(int=7)
RUNS = [UUID(int=number) for number in range(1, 4)]


@pytest.fixture
def producer(site: Site) -> Iterator[Producer]:
    with site.ingest("--flush-interval-ms", "300"), Producer(site.ingest_endpoint) as producer:
        yield producer


@pytest.fixture
def served(producer: Producer, start: Start) -> tuple[Process, Api]:
    process, api = start()
    process.wait_for("feed_heard")
    return process, api


def events_told(told: list[Told]) -> int:
    counted: list[int] = [one.data["events"] for one in told if one.kind == "coalesced"]
    return sum(one.kind == "event" for one in told) + sum(counted)


def test_every_client_is_sent_or_told_the_number_of_each_event_of_a_flood(site: Site, start: Start) -> None:
    total = 12_000
    with site.ingest("--flush-interval-ms", "60000"), RawProducer(site.ingest_endpoint) as producer:
        _, api = start("--feed", f"ipc://{site.sockets}/nobody")  # so that all of it comes at once, from the lake
        with Stream(api.url) as everything, Stream(api.url) as same, Stream(api.url, type="step") as typed:
            streams = (everything, same, typed)
            for stream in streams:
                stream.wait("position")
            assert producer.send_all(producer.prepare(total, 500)) == total
            last = producer.flush()
            for stream in streams:
                wait_until(lambda stream=stream: events_told(stream.told) >= total, "all of it is told or counted")  # type: ignore[misc]
                assert events_told(stream.told) == total
                assert len(stream.of("event")) < total
                assert stream.of("coalesced")
                assert stream.of("lost", "dropped") == []
                counted = sum(run["events"] for one in stream.of("coalesced") for run in one.data["runs"])
                assert counted == sum(one.data["events"] for one in stream.of("coalesced"))
                assert stream.told[-1].position == f"{last.worker}:{last.durable}"
            counts = {
                line.split()[0]: float(line.split()[1])
                for line in api.get("/metrics").text.splitlines()
                if line.startswith("runlake_stream_")
            }
            left_out = sum(one.data["events"] for stream in streams for one in stream.of("coalesced"))
            assert counts["runlake_stream_frames_coalesced_total"] == left_out
            assert counts["runlake_stream_frames_sent_total"] == sum(
                one.kind != "position" for stream in streams for one in stream.told
            )
            assert counts["runlake_stream_clients"] == 3


def test_who_joins_while_much_happens_hears_everything_after_its_position_once(
    producer: Producer, served: tuple[Process, Api]
) -> None:
    _, api = served
    runs = [structs.replace(started(f"r{number}"), agent_name=f"a{number}") for number in (0, 1)]
    first = producer.deliver(runs).first_seq + len(runs)
    over = threading.Event()
    produced = 0

    def produce() -> None:
        nonlocal produced
        while not over.is_set() and produced < 20_000:
            batch = [
                structs.replace(event(number), run_event_id=runs[number % 2].event_id)
                for number in range(produced, produced + 10)
            ]
            producer.deliver(batch)
            produced += len(batch)

    busy = threading.Thread(target=produce)
    busy.start()
    streams: list[Stream] = []
    try:
        for number in range(16):  # each with a filter of its own: nobody has asked for it before
            streams.append(Stream(api.url, agent_name=["a1", f"nobody-{number}"]))
            streams[-1].wait("position")
            streams[-1].wait("event")
    finally:
        over.set()
        busy.join()
    try:
        for stream in streams:
            told = stream.of("position")[0].position
            begin = sum(parse_positions(told).values()) if told else 0
            expected = [number for number in range(1, produced, 2) if first + number > begin]
            wait_until(
                lambda stream=stream, expected=expected: len(stream.of("event")) >= len(expected),  # type: ignore[misc]
                "all of it is told",
            )
            assert [told.data["payload"]["number"] for told in stream.of("event")] == expected
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


class Published(NamedTuple):
    kind: str
    seq: int
    run: int


class _Client:
    """Reads what a subscriber is given, at times of its own."""

    def __init__(self, subscriber: Subscriber, begun_at: int) -> None:
        self.subscriber = subscriber
        self.begun_at = begun_at
        self.heard = b""

    def read(self) -> None:
        self.heard += self.subscriber.take()

    @property
    def told(self) -> list[Told]:
        return list(read_events(iter(self.heard.splitlines(keepends=True))))

    def share(self, published: list[Published]) -> list[Published]:
        """What of all that was published is for this one."""
        odd_only = bool(self.subscriber.selection.filter_key)
        return [item for item in published if item.seq > self.begun_at and (item.run % 2 == 1 or not odd_only)]

    def last_of(self, published: list[Published]) -> int:
        return max((item.seq for item in self.share(published)), default=0)

    def reached(self) -> int:
        """The last position that it has heard of."""
        self.read()
        last = self.heard.rfind(b"id: ")
        return parse_positions(self.heard[last:].split(b"\n")[0][4:].decode())[WORKER] if last >= 0 else 0


@pytest.mark.parametrize("seed", range(6))
async def test_sent_and_coalesced_are_what_was_published_for_whoever_joins_whenever(seed: int) -> None:
    """The published items are the model: each client's share is counted beside, item by item."""
    chance = random.Random(seed)
    subscribers = Subscribers()
    subscribers.start()
    clients: list[_Client] = []
    published: list[Published] = []
    seq = 0
    for _ in range(40):
        if chance.random() < 0.4:
            key = chance.choice(["", "odd"])
            condition = Filter("true", {}) if key else None
            subscriber = subscribers.add(Selection(filter_key=key), condition, {WORKER: seq})
            client = _Client(subscriber, seq)
            clients.append(client)
            if chance.random() < 0.7:
                subscriber.start(subscriber.at)
        keys = [key for key, _ in subscribers.filters()]
        size = chance.choice([1, 5, MAX_BURST // 2, MAX_BURST])
        runs, events = [], []
        for _ in range(size):
            seq += 1
            run = chance.randrange(3)
            passes = [run % 2 == 1] * len(keys)
            if chance.random() < 0.2:
                runs.append(RunItem(seq, RUNS[run], f"r{run}", '{"n":1}', passes))
                published.append(Published("run", seq, run))
            else:
                events.append(EventItem(seq, RUNS[run], f"r{run}", "step", '{"n":1}', passes))
                published.append(Published("event", seq, run))
        subscribers.publish(Batch(WORKER, keys, runs, events, whole=subscribers.any()), {WORKER: seq})
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        for client in clients:
            if client.subscriber.holds and chance.random() < 0.5:
                client.subscriber.start(client.subscriber.at)
            if chance.random() < 0.9:
                client.read()
    for client in clients:
        if client.subscriber.holds:
            client.subscriber.start(client.subscriber.at)
    async with asyncio.timeout(20):
        while any(client.reached() < client.last_of(published) for client in clients if not client.subscriber.dropped):
            await asyncio.sleep(0.005)
    assert any(client.subscriber.coalesced for client in clients)
    for client in clients:
        if client.subscriber.dropped:
            continue
        assert not client.subscriber.missed
        mine, heard = client.share(published), client.told
        coalesced = [one.data for one in heard if one.kind == "coalesced"]
        for kind, left_out in (("event", "events"), ("run", "changes")):
            sent = sum(one.kind == kind for one in heard)
            assert sent + sum(data[left_out] for data in coalesced) == sum(item.kind == kind for item in mine)
        assert client.subscriber.coalesced == sum(data["events"] + data["changes"] for data in coalesced)
        assert client.subscriber.sent == len(heard)
    for client in clients:
        subscribers.remove(client.subscriber)
    assert subscribers.counts.connected == subscribers.counts.queued_bytes == 0
    assert subscribers.counts.coalesced == sum(client.subscriber.coalesced for client in clients)


async def test_a_batch_that_was_read_before_the_first_watcher_came_is_one_that_it_must_read_itself() -> None:
    subscribers = Subscribers()
    subscribers.start()
    batch = Batch(WORKER, [], [], [], whole=False)
    early = subscribers.add(Selection(), None, {WORKER: 4})
    early.start(early.at)
    subscribers.publish(batch, {WORKER: 9})
    late = subscribers.add(Selection(), None, {WORKER: 4})
    late.start(late.at)
    await asyncio.sleep(0)
    await asyncio.wait_for(early.wake.wait(), 5)
    assert (early.missed, early.at) == (True, {WORKER: 4})
    assert late.at == {WORKER: 9}
    assert late.take() == b""


def test_who_has_to_read_again_while_it_reads_what_it_missed_is_sent_nothing_twice() -> None:
    """A batch that was read without it in mind comes while it reads: what follows is in what it reads next."""
    frame = BatchFrames(Batch(WORKER, [], [RunItem(2, RUNS[0], "r", '{"n":1}', [])], []), {WORKER: 2}).of(Selection())
    later = BatchFrames(Batch(WORKER, [], [RunItem(3, RUNS[0], "r", '{"n":1}', [])], []), {WORKER: 3}).of(Selection())
    subscriber = Subscriber(Selection(), {WORKER: 0})
    subscriber.hold()
    subscriber.start({WORKER: 1})
    for told in (frame, later):
        subscriber.give(told, told[0].data, {WORKER: told[0].seq})
    assert subscriber.take() == b"", "it reads again, from 1"
    subscriber.missed = False
    subscriber.start({WORKER: 2})
    assert subscriber.take() == later[0].data
