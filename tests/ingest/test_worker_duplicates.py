"""P2 in a real worker: whatever is sent again, and whenever, is accepted once over the whole history."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from runlake import wire
from runlake.messages import CommitAssociated, Message
from support.processes import Process, Site
from support.producer import Producer, payload
from support.reading import assert_stored_once, one
from support.samples import START, event, events, started, updated


def all_kinds() -> list[Message]:
    """Messages of every kind, of this moment and of years ago."""
    now = datetime.now(UTC)
    found: list[Message] = []
    for ts in (now, now - timedelta(seconds=3), START.replace(year=2009), datetime(1970, 1, 1, tzinfo=UTC)):
        run = started(start_time=ts)
        commit = CommitAssociated(
            event_id=uuid4(), run_event_id=run.event_id, ts=ts, commit_hash="abcdef0", commit_source="ci"
        )
        found += [run, updated(run.event_id, ts=ts), commit, *events(3, ts=ts)]
    return found


def stop(process: Process) -> dict[str, int]:
    """Stop the worker cleanly; returns its counters."""
    assert process.terminate() == 0
    counters: dict[str, int] = process.wait_for("stopped")["counters"]
    return counters


@pytest.mark.parametrize("end", [Process.terminate, Process.kill], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("window", ["2000000", "1"], ids=["in the window", "outside the window"])
def test_p2_messages_sent_again_after_a_restart_add_nothing(
    window: str, end: Callable[[Process], object], site: Site
) -> None:
    messages = all_kinds()
    flags = ("--flush-interval-ms", "600000", "--window-ids", window)
    with site.ingest(*flags) as first, Producer(site.ingest_endpoint) as producer:
        assert producer.deliver(messages).accepted == len(messages)
        end(first)
    with site.ingest(*flags) as second, Producer(site.ingest_endpoint) as producer:
        assert producer.deliver(messages).duplicate == list(range(len(messages)))
        assert producer.deliver([*reversed(messages), event()]).accepted == 1
        assert producer.position().accepted == len(messages) + 1
        counters = stop(second)
    assert counters["duplicate"] == 2 * len(messages)
    assert bool(counters["late"]) == (window == "1")
    assert_stored_once(site.catalog, len(messages) + 1)


def test_p2_messages_sent_again_after_they_left_the_window_add_nothing(site: Site) -> None:
    messages = all_kinds()
    with site.ingest("--flush-interval-ms", "600000", "--window-ids", "1") as process:
        with Producer(site.ingest_endpoint) as producer:
            assert producer.deliver(messages).accepted == len(messages)
            producer.flush()
            assert producer.deliver(messages).duplicate == list(range(len(messages)))
        with Producer(site.ingest_endpoint) as other:
            assert other.deliver([*messages, *messages]).accepted == 0
        counters = stop(process)
    assert counters["late"] >= len(messages)
    assert_stored_once(site.catalog, len(messages))


def test_p2_copies_of_late_messages_that_wait_together_are_accepted_once(site: Site) -> None:
    """Each is late, none is in the lake, and all are asked about before one is accepted."""
    with site.ingest("--flush-interval-ms", "600000", "--window-ids", "1") as process:
        with Producer(site.ingest_endpoint) as first, Producer(site.ingest_endpoint) as second:
            first.deliver([event()])
            first.flush()
            old = events(5, ts=START)
            for producer in (first, second, first, second):
                producer.send([*old, *old])
            acks = [*first.acks(2), *second.acks(2)]
            assert sorted(ack.accepted for ack in acks) == [0, 0, 0, 5]
        stop(process)
    assert_stored_once(site.catalog, 6)


def test_batches_without_late_messages_overtake_those_that_wait_but_not_those_of_their_own_producer(
    site: Site, tmp_path: Path
) -> None:
    with site.ingest("--flush-interval-ms", "600000", "--window-ids", "1") as process:
        with Producer(site.ingest_endpoint) as waits, Producer(site.ingest_endpoint) as overtakes:
            known = events(5, ts=START)
            waits.deliver(known)
            waits.flush()
            hidden = hide_parquet(site, tmp_path / "hidden")
            old, new, others = event(ts=START), event(), event()
            waits.send([*known, old])
            waits.send([new])
            process.wait_for("lookup_waits")
            ack = overtakes.deliver([others])
            assert (ack.accepted, ack.first_seq) == (1, 6)
            assert not waits.answered()
            assert waits.batch == 3
            for path, place in hidden.items():
                place.rename(path)
            first, second = waits.acks(2)
            assert (first.batch, first.duplicate, first.first_seq) == (2, [0, 1, 2, 3, 4], 7)
            assert (second.batch, second.accepted, second.first_seq) == (3, 1, 8)
        stop(process)
    assert_stored_once(site.catalog, 8)
    assert one(site.catalog, "SELECT event_id FROM events WHERE seq = 7") == old.event_id


def hide_parquet(site: Site, folder: Path) -> dict[Path, Path]:
    """Take the lake's files away, as storage that is gone does; returns where each is now."""
    folder.mkdir()
    files = list((site.data / "lake").rglob("*.parquet"))
    return {path: path.rename(folder / f"{number}.parquet") for number, path in enumerate(files)}


def test_a_worker_that_ends_while_batches_wait_has_not_accepted_them(site: Site, tmp_path: Path) -> None:
    flags = ("--flush-interval-ms", "600000", "--window-ids", "1")
    known, old = events(5, ts=START), event(ts=START)
    with site.ingest(*flags) as process, Producer(site.ingest_endpoint) as producer:
        producer.deliver(known)
        producer.flush()
        hidden = hide_parquet(site, tmp_path / "hidden")
        producer.send([*known, old])
        process.wait_for("lookup_waits")
        process.kill()
    for path, place in hidden.items():
        place.rename(path)
    with site.ingest(*flags) as process, Producer(site.ingest_endpoint) as producer:
        assert producer.position().accepted == 5
        assert producer.deliver([*known, old]).accepted == 1
        stop(process)
    assert_stored_once(site.catalog, 6)


def test_a_worker_told_to_stop_first_answers_what_waits_for_the_lake(site: Site, tmp_path: Path) -> None:
    known, old = events(5, ts=START), event(ts=START)
    with site.ingest("--flush-interval-ms", "600000", "--window-ids", "1") as process:
        with Producer(site.ingest_endpoint) as producer:
            producer.deliver(known)
            producer.flush()
            hidden = hide_parquet(site, tmp_path / "hidden")
            producer.send([*known, old])
            process.wait_for("lookup_waits")
            process.send(signal.SIGTERM)
            process.wait_for("stopping")
            for path, place in hidden.items():
                place.rename(path)
            assert producer.ack().accepted == 1
        assert process.wait() == 0
    assert_stored_once(site.catalog, 6)


@pytest.mark.parametrize("restarted", [False, True])
def test_p2_a_run_that_its_gateway_had_not_seen_is_known_whatever_time_its_copies_carry(
    site: Site, restarted: bool
) -> None:
    run, now = started(start_time=START.replace(year=2010)), datetime.now(UTC)
    worker = site.ingest("--window-ids", "1")
    with Producer(site.ingest_endpoint) as producer:
        assert producer.deliver([run, event(ts=now)]).accepted == 2
        producer.flush()
        assert producer.deliver([event(ts=now + timedelta(minutes=1))]).accepted == 1  # now the window holds neither
        position = producer.flush()
    if restarted:
        stop(worker)
        worker = site.ingest("--window-ids", "1")
    with worker, Producer(site.ingest_endpoint) as gateway:

        def create(message: Message, searched: int) -> wire.Ack:
            header = msgspec.structs.replace(gateway.header(1), searched={str(position.worker): searched})
            gateway.send_frames(wire.encode_frame(header), payload([message]))
            return gateway.ack()

        for start in (START.replace(year=2011), now + timedelta(minutes=2)):
            copy = msgspec.structs.replace(run, start_time=start)
            assert create(copy, 0).duplicate == [0]
        for searched in (0, position.flushed):
            assert create(started(start_time=START.replace(year=2012)), searched).accepted == 1
        stop(worker)
    assert_stored_once(site.catalog, 5)
