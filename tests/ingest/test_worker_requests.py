"""What a worker answers and keeps, request by request: the good, the bad beside it, and what is no request at all.

One real worker serves all tests of this file; each has a producer of its own and looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from runlake import wire
from runlake.messages import RunEvent
from support.processes import Site, wait_until
from support.producer import Producer, payload, push
from support.reading import lake_copy, one, rows
from support.samples import event, events, started, updated


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("served"))
    with site.ingest("--flush-interval-ms", "600000") as process:
        yield site
        assert process.terminate() == 0


@pytest.fixture
def producer(served: Site) -> Iterator[Producer]:
    with Producer(served.ingest_endpoint) as producer:
        yield producer


def books(site: Site, producer: str) -> list[tuple[int, ...]]:
    """Received, accepted, duplicate, rejected of each batch of a producer."""
    sql = "SELECT received, accepted, duplicate, rejected FROM deliveries WHERE producer = ? ORDER BY first_number"
    return rows(site.catalog, sql, producer)


def quarantined(site: Site, *raws: bytes) -> list[tuple[Any, ...]]:
    """The rows of quarantine that hold these bytes, in their order."""
    sql = "SELECT producer, batch, number, messages, field, reason FROM quarantine WHERE raw = ?"
    with lake_copy(site.catalog) as connection:
        return [row for raw in raws for row in connection.execute(sql, [raw]).fetchall()]


def test_a_batch_is_acknowledged_with_its_positions(served: Site, producer: Producer) -> None:
    before = producer.position().accepted
    ack = producer.deliver(events(3))
    assert (ack.first_seq, ack.accepted, ack.duplicate, ack.rejected) == (before + 1, 3, [], [])
    assert abs(ack.received_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert ack.credit == 16
    assert ack.worker == producer.position().worker


def test_the_position_says_how_far_the_worker_is(served: Site, producer: Producer) -> None:
    accepted = producer.deliver(events(5))
    position = producer.position()
    assert position.accepted == position.durable == accepted.first_seq + 4
    assert position.flushed < position.durable
    flushed = producer.flush()
    assert flushed.flushed == position.durable
    assert flushed.lake == position.lake
    assert one(served.catalog, "SELECT count(*) FROM events WHERE producer = ?", producer.name) == 5


def test_a_flush_of_nothing_is_answered_at_once(producer: Producer) -> None:
    producer.deliver(events(1))
    first = producer.flush()
    assert producer.flush() == first


def test_p8_one_bad_message_among_99_good_ones_harms_nobody(served: Site, producer: Producer) -> None:
    good = events(99)
    bad = wire.encode_message(event(ts=datetime.now(UTC) + timedelta(days=3)))
    ack = producer.deliver([*good[:40], bad, *good[40:]])
    assert ack.accepted == 99
    (rejection,) = ack.rejected
    assert (rejection.index, rejection.field) == (40, "ts")
    assert rejection.reason == "ts: must not be more than 24 hours ahead"
    producer.flush()
    stored = rows(served.catalog, "SELECT event_id, seq FROM events WHERE producer = ? ORDER BY seq", producer.name)
    assert stored == [(message.event_id, ack.first_seq + index) for index, message in enumerate(good)]
    assert quarantined(served, bad) == [(producer.name, 1, 41, 1, "ts", rejection.reason)]
    assert books(served, producer.name) == [(100, 99, 0, 1)]


def encoded(message: RunEvent, **changes: Any) -> bytes:
    """A message with fields changed to what no struct would hold, or taken away with `...`."""
    fields = msgspec.msgpack.decode(wire.encode_message(message)) | changes
    return msgspec.msgpack.encode({name: value for name, value in fields.items() if value is not ...})


def test_p8_each_bad_message_is_refused_for_its_own_reason_and_kept_as_it_was_sent(
    served: Site, producer: Producer
) -> None:
    bad: list[tuple[bytes, str | None, str]] = [
        (encoded(event(), event_id="no uuid"), "event_id", "event_id"),
        (encoded(event(), event_id=...), "event_id", "event_id: is required"),
        (encoded(event(), ts="2026-01-28T10:30:00"), "ts", "ts"),
        (encoded(event(), type=""), "type", "type"),
        (encoded(event(), run_id="r" * 2_000), "run_id", "run_id"),
        (encoded(event(), payload=[1]), "payload", "payload"),
        (encoded(event(), kind="run.exploded"), "kind", "kind"),
        (encoded(event(), payload={"a": {"b" * 40: [0] * 10_001}}), "payload", "at most 10,000 values"),
        (msgspec.msgpack.encode(17), None, "object"),
        (msgspec.msgpack.encode(None), None, "object"),
        (encoded(event(ts=datetime(1969, 12, 31, tzinfo=UTC)), shoe_size=[44]), "ts", "1970"),
        (encoded(event(), payload={"x": "y" * wire.MAX_MESSAGE_BYTES}), None, "bytes; allowed are"),
        (encoded(event(), type=b"\xff".decode("latin-1")).replace("ÿ".encode(), b"\xff\xfe"), "type", "UTF-8"),
    ]
    messages = [part for raw, _, _ in bad for part in (raw, wire.encode_message(event()))]
    ack = producer.deliver(messages)
    assert ack.accepted == len(bad)
    assert [rejection.index for rejection in ack.rejected] == list(range(0, len(messages), 2))
    producer.flush()
    for rejection, (_, field, words) in zip(ack.rejected, bad, strict=True):
        assert rejection.field == field, rejection
        assert words in rejection.reason
    assert quarantined(served, *(raw for raw, _, _ in bad)) == [
        (producer.name, 1, rejection.index + 1, 1, rejection.field, rejection.reason) for rejection in ack.rejected
    ]
    assert books(served, producer.name) == [(len(messages), len(bad), 0, len(bad))]


def test_a_message_with_fields_of_a_later_version_is_accepted(producer: Producer) -> None:
    assert producer.deliver([encoded(event(), shoe_size=44)]).accepted == 1


def test_payloads_that_cannot_be_taken_apart_are_refused_whole_and_the_next_are_not(
    served: Site, producer: Producer
) -> None:
    whole = payload(events(3))
    damaged = {
        whole[:-1]: "not a MessagePack array",
        whole[: len(whole) // 2]: "not a MessagePack array",
        whole + b"\xc0": "not a MessagePack array",
        b"": "not a MessagePack array",
        b"\x81\xa1a\x01": "not a MessagePack array",
        b"\xdd\xff\xff\xff\xff": "holds 4,294,967,295 messages; allowed are 500",
        b"\xdc\x01\xf5" + bytes(501): "holds 501 messages; allowed are 500",
        b"\xdd\x00\x00\x00\x04": "counts 3 messages, and the payload holds 4",
        payload(events(2)): "counts 3 messages, and the payload holds 2",
        payload(events(4)): "counts 3 messages, and the payload holds 4",
        b"\x90": "counts 3 messages, and the payload holds 0",
    }
    for raw, words in damaged.items():
        producer.send_frames(wire.encode_frame(producer.header(3)), raw)
        ack = producer.ack()
        assert (ack.accepted, ack.duplicate) == (0, [])
        assert words in ack.rejected[0].reason
    assert producer.deliver(events(2)).accepted == 2
    producer.flush()
    kept = rows(
        served.catalog,
        "SELECT raw, batch, number, messages FROM quarantine WHERE producer = ? ORDER BY batch",
        producer.name,
    )
    assert kept == [(raw, batch, 3 * batch - 2, 3) for batch, raw in enumerate(damaged, 1)]
    assert books(served, producer.name) == [(3, 0, 0, 3)] * len(damaged) + [(2, 2, 0, 0)]


_HEADER = {"type": "batch", "producer": "p", "batch": 8, "first": 1, "count": 1, "version": 1}


_NO_REQUESTS: list[tuple[list[bytes], str, int | None]] = [
    ([b"garbage " + uuid4().bytes], "cannot be read", None),
    ([b"", uuid4().bytes], "cannot be read", None),
    ([msgspec.msgpack.encode({"type": "hello"}), uuid4().bytes], "cannot be read", None),
    ([msgspec.msgpack.encode(_HEADER | {"version": 2}), uuid4().bytes], "version 2 is not spoken here", None),
    ([msgspec.msgpack.encode({"type": "?", "version": 9, "x": [1]}), uuid4().bytes], "version 9", None),
    ([msgspec.msgpack.encode(_HEADER | {"count": 501}), uuid4().bytes], "count", None),
    ([msgspec.msgpack.encode(_HEADER | {"count": 0}), uuid4().bytes], "count", None),
    ([msgspec.msgpack.encode(_HEADER | {"first": 0}), uuid4().bytes], "first", None),
    ([msgspec.msgpack.encode(_HEADER | {"producer": ""}), uuid4().bytes], "producer", None),
    ([msgspec.msgpack.encode(_HEADER | {"batch": 2**63}), uuid4().bytes], "batch", None),
    ([msgspec.msgpack.encode(_HEADER | {"alone": uuid4().bytes})], "has 2 frames, not 1", 8),
    ([msgspec.msgpack.encode(_HEADER), uuid4().bytes, b"more"], "has 2 frames, not 3", 8),
    ([wire.encode_frame(wire.PositionRequest()), uuid4().bytes], "has 1 frames, not 2", None),
    ([wire.encode_frame(wire.FlushRequest()), uuid4().bytes], "has 1 frames, not 2", None),
]


def test_what_is_no_request_is_refused_with_its_reason_and_kept(served: Site, producer: Producer) -> None:
    reasons = []
    for frames, words, batch in _NO_REQUESTS:
        producer.send_frames(*frames)
        reply = producer.reply()
        assert isinstance(reply, wire.Refused)
        assert words in reply.reason
        assert reply.batch == batch
        reasons.append(reply.reason)
        assert producer.deliver(events(1)).accepted == 1
    producer.flush()
    kept = quarantined(served, *(b"".join(frames) for frames, _, _ in _NO_REQUESTS))
    assert kept == [("(unreadable)", None, None, 1, None, reason) for reason in reasons]


def test_a_refusal_is_answered_in_turn_with_the_acks_around_it(producer: Producer) -> None:
    producer.send(events(1))
    producer.send_frames(b"garbage")
    producer.send(events(1))
    kinds = [type(producer.reply()) for _ in range(3)]
    assert kinds == [wire.Ack, wire.Refused, wire.Ack]


def test_of_many_large_frames_that_are_no_request_the_first_are_kept(served: Site, producer: Producer) -> None:
    mark = uuid4().bytes
    frames = [mark + bytes(wire.MAX_FRAME_BYTES - 16)] * 10
    producer.send_frames(*frames)
    assert isinstance(producer.reply(), wire.Refused)
    producer.flush()
    ((_, _, _, _, _, reason),) = quarantined(served, frames[0][:4096])
    assert reason.endswith(f"(the first 4,096 of {10 * wire.MAX_FRAME_BYTES:,} bytes are kept)")


def test_a_frame_beyond_the_limit_is_not_read_and_harms_nobody_else(served: Site, producer: Producer) -> None:
    with Producer(served.ingest_endpoint) as sender:
        sender.send_frames(wire.encode_frame(sender.header(1)), bytes(wire.MAX_FRAME_BYTES + 1))
        assert producer.deliver(events(1)).accepted == 1
        assert not sender.answered()


def test_a_batch_larger_than_a_message_may_be_is_read_message_by_message(producer: Producer) -> None:
    large = [event(number, text="x" * 600_000) for number in range(4)]
    assert producer.deliver(large).accepted == 4


def pushed(site: Site, asker: Producer, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query once it has some: a push is never answered."""
    found: list[tuple[Any, ...]] = []

    def there() -> bool:
        asker.flush()
        found[:] = rows(site.catalog, sql, *parameters)
        return bool(found)

    wait_until(there, "the push is in the lake")
    return found


def test_a_bare_push_is_stored_like_anything_else(served: Site, producer: Producer) -> None:
    run = started("pushed " + str(uuid4()))
    change = updated(run.event_id, status="success")
    push(served.push_endpoint, payload([run, change]))
    found = pushed(served, producer, "SELECT run_id, status FROM runs WHERE event_id = ?", run.event_id)
    assert found == [(run.run_id, "success")]
    (producers,) = rows(served.catalog, "SELECT producer FROM run_changes WHERE event_id = ?", change.event_id)
    assert producers == ("(push)",)
    assert rows(served.catalog, "SELECT batch, first_number FROM deliveries WHERE producer = '(push)' LIMIT 1") == [
        (None, None)
    ]


def test_a_bad_message_in_a_push_is_kept_and_its_neighbours_are_stored(served: Site, producer: Producer) -> None:
    good, bad = event(), encoded(event(), ts="never")
    push(served.push_endpoint, payload([bad, good]))
    assert pushed(served, producer, "SELECT 1 FROM events WHERE event_id = ?", good.event_id)
    ((name, batch, number, messages, field, _),) = quarantined(served, bad)
    assert (name, batch, number, messages, field) == ("(push)", None, None, 1, "ts")


@pytest.mark.parametrize("frames", [1, 3], ids=["one frame", "three frames"])
def test_a_push_that_cannot_be_read_is_kept(frames: int, served: Site, producer: Producer) -> None:
    parts = [msgspec.msgpack.encode(str(uuid4())) for _ in range(frames)]
    push(served.push_endpoint, *parts)
    ((name, reason),) = pushed(
        served, producer, "SELECT producer, reason FROM quarantine WHERE raw = ?", b"".join(parts)
    )
    assert name == "(push)"
    assert ("A push has one frame, not 3" if frames == 3 else "not a MessagePack array") in reason


def test_a_push_of_what_a_producer_delivered_is_a_duplicate(served: Site, producer: Producer) -> None:
    first, second = event(), event()
    producer.deliver([first])
    push(served.push_endpoint, payload([first, second]))
    assert pushed(served, producer, "SELECT 1 FROM events WHERE event_id = ?", second.event_id)
    stored = one(served.catalog, "SELECT count(*) FROM events WHERE event_id = ?", first.event_id)
    assert stored == 1


def test_p2_duplicates_are_named_in_the_ack_within_a_batch_and_across_batches_and_producers(
    served: Site, producer: Producer
) -> None:
    first, second, third = events(3)
    ack = producer.deliver([first, second, first])
    assert (ack.accepted, ack.duplicate) == (2, [2])
    assert producer.deliver([second, third, third]).duplicate == [0, 2]
    producer.flush()
    with Producer(served.ingest_endpoint) as other:
        assert other.deliver([third, first, second]).duplicate == [0, 1, 2]
        other.flush()
        assert books(served, other.name) == [(3, 0, 3, 0)]
    assert books(served, producer.name) == [(3, 2, 1, 0), (3, 1, 2, 0)]
    stored = rows(served.catalog, "SELECT event_id FROM events WHERE producer = ? ORDER BY seq", producer.name)
    assert stored == [(message.event_id,) for message in (first, second, third)]


def test_a_duplicate_is_acknowledged_after_its_original(served: Site, producer: Producer) -> None:
    message = event()
    with Producer(served.ingest_endpoint) as other:
        producer.send([message])
        other.send([message])
        acks = [producer.ack(), other.ack()]
        assert sorted((ack.accepted, ack.duplicate) for ack in acks) == [(0, [0]), (1, [])]
        assert other.position().durable >= max(ack.first_seq for ack in acks if ack.accepted)


def test_p3_the_books_balance_and_show_the_producers_own_numbers(served: Site, producer: Producer) -> None:
    message = event()
    producer.deliver([message, encoded(event(), ts=1)])
    producer.deliver([message, event(), event()])
    producer.number += 5  # what the producer had to drop
    producer.deliver([event()])
    producer.flush()
    found = rows(
        served.catalog,
        "SELECT batch, first_number, received, accepted, duplicate, rejected FROM deliveries WHERE producer = ?"
        " ORDER BY batch",
        producer.name,
    )
    assert found == [(1, 1, 2, 1, 0, 1), (2, 3, 3, 2, 1, 0), (3, 11, 1, 1, 0, 0)]


def test_a_producers_order_is_kept_over_many_batches_in_flight(served: Site, producer: Producer) -> None:
    sent = events(1_000)
    for index in range(0, 1_000, 100):
        producer.send(sent[index : index + 100])
    acks = producer.acks(10)
    assert [ack.batch for ack in acks] == list(range(1, 11))
    producer.flush()
    stored = rows(served.catalog, "SELECT event_id FROM events WHERE producer = ? ORDER BY seq", producer.name)
    assert [event_id for (event_id,) in stored] == [message.event_id for message in sent]
