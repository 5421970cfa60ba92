"""The lake cannot be written for a while: the worker goes on up to its journal's limit, and catches up afterwards."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from itertools import count

import pytest
import zmq

from runlake import wire
from support.lakeaway import lake_away
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.reading import assert_stored_once
from support.samples import event, events


def journal_bytes(site: Site) -> int:
    return sum(path.stat().st_size for path in (site.data / "ingest" / "journal").iterdir())


def test_accepting_goes_on_while_the_lake_is_away(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "10") as process, Producer(site.ingest_endpoint) as producer:
        with lake_away(site):
            for _ in range(50):
                assert producer.deliver(events(10)).accepted == 10
            position = producer.position()
            assert (position.durable, position.flushed) == (500, 0)
        assert producer.flush().flushed == 500
        assert process.terminate() == 0
    assert_stored_once(site.catalog, 500)


def test_a_full_journal_stops_the_reading_and_nothing_is_lost_or_doubled(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "10", "--journal-max-mb", "1") as process:
        with Producer(site.ingest_endpoint) as producer, Producer(site.ingest_endpoint) as other:
            batches = [[event(number, text="x" * 10_000) for number in range(10)] for _ in range(20)]
            acknowledged = 0
            with lake_away(site):
                for batch in batches:
                    producer.send(batch)
                    wait_until(lambda: producer.answered(0.02) or paused(process), "an ack or a pause")
                    if not producer.answered(0.5):  # its ack may be on its way yet when the pause is logged
                        break
                    acknowledged += producer.ack().accepted
                assert 50 <= acknowledged < 200
                assert process.wait_for("paused")["journal_bytes"] >= 1024 * 1024
                assert journal_bytes(site) < 2 * 1024 * 1024
                other.send(events(1))
                assert not other.answered(0.3)
                assert not producer.answered()
            process.wait_for("resumed")
            assert other.ack().accepted == 1
            for _ in range(acknowledged // 10, producer.batch):
                acknowledged += producer.ack().accepted
            assert acknowledged == producer.number
            assert producer.deliver(batches[0]).accepted == 0
        assert process.terminate() == 0
    assert journal_bytes(site) == 0
    assert_stored_once(site.catalog, acknowledged + 1)


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.PUSH])
def test_a_flooding_peer_that_leaves_a_paused_worker_harms_nobody(kind: int, site: Site) -> None:
    """libzmq's own heartbeats (ZMQ_HEARTBEAT_IVL) on the worker's sockets abort the process here after some seconds."""
    batch = [wire.encode_message(event(number, text="x" * 10_000)) for number in range(20)]
    payload = wire.encode_payload(batch)
    with site.ingest("--flush-interval-ms", "10", "--journal-max-mb", "1") as process:
        with lake_away(site):
            with zmq.Context() as context, context.socket(kind) as flood:
                flood.linger = 0
                flood.sndtimeo = 500
                flood.connect(site.ingest_endpoint if kind == zmq.DEALER else site.push_endpoint)
                numbers = count(1)

                def flooded_until_paused() -> bool:
                    """Send all that goes out: a busy machine may stop taking it for a while, and go on."""
                    with suppress(zmq.Again):
                        for number in numbers:
                            header = wire.Batch(producer="flood", batch=number, first=20 * number - 19, count=20)
                            head = [wire.encode_frame(header)] if kind == zmq.DEALER else []
                            flood.send_multipart([*head, payload])
                    return paused(process)

                wait_until(flooded_until_paused, "the worker has paused")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(8)
        process.wait_for("resumed")
        with Producer(site.ingest_endpoint) as producer:
            assert producer.deliver(events(1)).accepted == 1
        assert process.terminate() == 0


def paused(process: Process) -> bool:
    return any(line["event"] == "paused" for line in process.log)


def test_a_worker_that_starts_while_the_lake_is_away_serves_once_it_is_back(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "600000") as first, Producer(site.ingest_endpoint) as producer:
        assert producer.deliver(events(20)).accepted == 20
        first.kill()
    with lake_away(site):
        second = site.ingest(ready=False)
        second.wait_for("lake_unavailable")
    with second:
        second.wait_for("ready")
        assert second.wait_for("recovered")["position"] == 20
        assert second.terminate() == 0
    assert_stored_once(site.catalog, 20)


def test_segments_grow_while_the_lake_is_away_instead_of_piling_up(site: Site) -> None:
    with site.ingest("--flush-interval-ms", "10") as process, Producer(site.ingest_endpoint) as producer:
        with lake_away(site):
            for _ in range(30):
                producer.deliver(events(5))
            files = list((site.data / "ingest" / "journal").iterdir())
            assert len(files) <= 3
        wait_until(lambda: producer.position().flushed == 150, "all is flushed")
        assert process.terminate() == 0
    assert_stored_once(site.catalog, 150)
