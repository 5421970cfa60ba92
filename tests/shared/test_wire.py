"""Frames: what goes in comes out, and what is malformed is refused with a RunLake error and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.errors import InvalidMessage, WireError
from runlake.messages import Message, RunEvent
from runlake.validation import validate
from runlake.wire import (
    MAX_BATCH_MESSAGES,
    WIRE_VERSION,
    Ack,
    Batch,
    FlushRequest,
    Member,
    NotMine,
    Position,
    PositionRequest,
    Refused,
    Rejection,
    Reply,
    Request,
    Workers,
    WorkersRequest,
    decode_message,
    decode_payload,
    decode_reply,
    decode_request,
    encode_frame,
    encode_message,
    encode_payload,
    split_payload,
)
from support.messages import NOW, messages

WORKER = UUID("018d4f00-0000-7000-8000-0000000000aa")
LAKE = UUID("018d4f00-0000-7000-8000-0000000000bb")
AT = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)
EVENT = RunEvent(event_id=WORKER, run_id="r", ts=AT, type="t", payload={"a": [1, {"b": "c"}]})

pack = msgspec.msgpack.encode
thorough = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FRAMES: list[Request | Reply] = [
    Batch(producer="p", batch=1, first=1, count=1),
    Batch(producer="p" * 256, batch=2**63 - 1, first=2**63 - 1, count=MAX_BATCH_MESSAGES),
    Batch(producer="p", batch=1, first=1, count=1, list_version=0),
    PositionRequest(),
    FlushRequest(),
    WorkersRequest(),
    Ack(batch=1, worker=WORKER, first_seq=1, accepted=3, received_at=AT, credit=16),
    Ack(
        batch=2,
        worker=WORKER,
        first_seq=4,
        accepted=0,
        received_at=AT,
        credit=1,
        duplicate=[0, 2],
        rejected=[Rejection(index=1, reason="ts: is required", field="ts"), Rejection(index=3, reason="unreadable")],
    ),
    Position(lake=LAKE, worker=WORKER, accepted=9, durable=8, flushed=7),
    Refused(reason="Wire version 2 is not spoken here; this side speaks 1", batch=7),
    Refused(reason="The header cannot be read"),
    Workers(version=0, members=[]),
    NotMine(workers=Workers(version=2**63 - 1, members=[Member(worker=WORKER, endpoint="tcp://[::1]:8766")]), batch=9),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_frame_comes_back_as_it_was_sent(frame: Request | Reply) -> None:
    read: Callable[[bytes], Request | Reply] = decode_request if isinstance(frame, Request) else decode_reply
    assert read(encode_frame(frame)) == frame


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_unknown_fields_of_a_frame_are_ignored(frame: Request | Reply) -> None:
    fields = msgspec.msgpack.decode(encode_frame(frame)) | {"of_next_year": [{}]}
    read: Callable[[bytes], Request | Reply] = decode_request if isinstance(frame, Request) else decode_reply
    assert read(pack(fields)) == frame


HEADER: dict[str, Any] = {"type": "batch", "version": 1, "producer": "p", "batch": 1, "first": 1, "count": 1}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"producer": ""}, "producer"),
        ({"producer": "p" * 257}, "producer"),
        ({"producer": 7}, "producer"),
        ({"batch": 0}, "batch"),
        ({"batch": -1}, "batch"),
        ({"batch": 2**63}, "batch"),
        ({"first": 0}, "first"),
        ({"first": 1.5}, "first"),
        ({"count": 0}, "count"),
        ({"count": MAX_BATCH_MESSAGES + 1}, "count"),
        ({"list_version": -1}, "list_version"),
        ({"type": "hello"}, "type"),
        ({"version": "1"}, "version"),
    ],
)
def test_a_header_out_of_bounds_is_refused_by_name(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode_request(pack(HEADER | changed))


@pytest.mark.parametrize("missing", ["type", "producer", "batch", "first", "count"])
def test_a_header_without_one_of_its_fields_is_refused_by_name(missing: str) -> None:
    with pytest.raises(WireError, match=missing):
        decode_request(pack({name: value for name, value in HEADER.items() if name != missing}))


@pytest.mark.parametrize("version", [0, 2, 99, -1])
@pytest.mark.parametrize("kind", ["batch", "position?", "flush", "workers?"])
def test_another_version_is_refused_with_both_versions_named(kind: str, version: int) -> None:
    with pytest.raises(WireError, match=rf"version {version} is not spoken here; this side speaks {WIRE_VERSION}"):
        decode_request(pack(HEADER | {"type": kind, "version": version}))


def test_a_later_version_is_named_even_when_its_header_has_another_shape() -> None:
    for header in ({"type": "stream", "version": 2}, {"type": "batch", "version": 2, "producer": {"id": 1}}):
        with pytest.raises(WireError, match="version 2 is not spoken here"):
            decode_request(pack(header))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 500, 65_535])
def test_joined_messages_are_the_bytes_of_a_list_of_them(count: int) -> None:
    raw = encode_message(EVENT)
    payload = encode_payload([raw] * count)
    assert payload == pack([EVENT] * count)
    assert split_payload(payload) == [raw] * count
    if count <= MAX_BATCH_MESSAGES:
        assert decode_payload(payload) == [EVENT] * count


def test_more_messages_than_an_array_16_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match="65,535"):
        encode_payload([b"\xc0"] * 65_536)


class _Endless(dict[str, Any]):
    """A map that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self["me"] = self


@pytest.mark.parametrize(
    "value",
    [object(), 2**64, -(2**63) - 1, "\ud800", _Endless()],
    ids=["object", "too large", "too small", "lone surrogate", "endless"],
)
def test_what_messagepack_cannot_hold_is_a_type_error_when_encoding(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_message(RunEvent(event_id=WORKER, run_id="r", ts=AT, type="t", payload={"a": value}))


# Malformed input: InvalidMessage or WireError comes out, and nothing else.


def _read_as_a_worker(payload: bytes) -> None:
    """Read bytes in all the ways that a worker and a sender do. Only RunLake's own errors may be met."""
    for read in (decode_request, decode_reply):
        try:
            read(payload)
        except WireError as error:
            assert 0 < len(str(error)) < 400
    try:
        for message in decode_payload(payload):
            _validate(message)
    except InvalidMessage as error:
        assert 0 < len(error.reason) < 400
    try:
        parts = split_payload(payload)
    except InvalidMessage as error:
        assert 0 < len(error.reason) < 400
        parts = []
    for raw in [payload, *parts]:
        try:
            message = decode_message(raw)
        except InvalidMessage as error:
            assert 0 < len(error.reason) < 400
        else:
            _validate(message)


def _validate(message: Message) -> None:
    try:
        validate(message, NOW)
    except InvalidMessage as error:
        assert error.field is not None
        assert error.reason.startswith(error.field)


@thorough
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_harm_nothing(data: bytes) -> None:
    _read_as_a_worker(data)


@thorough
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_a_cut_payload_is_refused(sent: list[Message], data: st.DataObject) -> None:
    payload = encode_payload([encode_message(message) for message in sent])
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    _read_as_a_worker(cut)
    with pytest.raises(InvalidMessage):
        decode_payload(cut)
    with pytest.raises(InvalidMessage):
        split_payload(cut)


@thorough
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_flipped_bits_and_overwritten_bytes_harm_nothing(sent: list[Message], data: st.DataObject) -> None:
    payload = bytearray(encode_payload([encode_message(message) for message in sent]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] = data.draw(st.one_of(st.integers(0, 255), st.just(payload[place] ^ 0x80)))
    _read_as_a_worker(bytes(payload))


@thorough
@given(st.sampled_from(FRAMES), st.data())
def test_flipped_bits_in_headers_and_replies_harm_nothing(frame: Request | Reply, data: st.DataObject) -> None:
    raw = bytearray(encode_frame(frame))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    _read_as_a_worker(bytes(raw))


def test_every_single_overwritten_byte_of_one_payload_harms_nothing() -> None:
    payload = encode_payload([encode_message(EVENT), encode_message(EVENT)])
    for place in range(len(payload) // 2):
        for value in range(256):
            _read_as_a_worker(payload[:place] + bytes((value,)) + payload[place + 1 :])


def test_trailing_bytes_are_refused() -> None:
    for read in (decode_payload, split_payload):
        with pytest.raises(InvalidMessage):
            read(encode_payload([encode_message(EVENT)]) + b"\x00")
    with pytest.raises(WireError):
        decode_request(pack(HEADER) + b"\xc0")


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\xc0", b"\x01", b"\x80", b"\xa0", b"\x91\x01", b"\x91\x90"])
def test_what_is_not_an_array_of_maps_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_payload(value)


def _event_with(field: str, raw: bytes) -> bytes:
    """An event with one more field, whose value is these bytes."""
    small = encode_message(RunEvent(event_id=WORKER, run_id="r", ts=AT, type="t"))
    return bytes((small[0] + 1,)) + small[1:] + pack(field) + raw


@pytest.mark.parametrize(
    ("field", "raw", "says"),
    [
        ("payload", b"\x81\x01\x01", "keys must be strings"),
        ("payload", b"\x81\xc4\x01a\x01", "keys must be strings"),
        ("payload", b"\x81\xa1a\x81\x81\x01\x01\x01", "cannot be read"),
        ("payload", b"\x81\xa1a\x81\xd4\x05\x00\x01", "cannot be read"),
        ("payload", b"\x81\xa1a\xa2\xff\xfe", "not UTF-8"),
        ("payload", b"\x81\xa2\xff\xfe\x01", "not UTF-8"),
        ("trace_id", b"\xa2\xff\xfe", "not UTF-8"),
        ("trace_id", b"\xa3\xed\xa0\x80", "not UTF-8"),
        ("payload", b"\x81\xa1a\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8, "out of range"),
        ("payload", b"\x81\xa1a\xc7\x0c\xff\xff\xff\xff\xff" + b"\x00" * 8, "out of range"),
        ("payload", b"\x81\xa1a\xc7\x03\xff\xff\xff\xff", "timestamp"),
    ],
)
def test_malformed_values_are_refused_by_the_name_of_their_field(field: str, raw: bytes, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says) as caught:
        decode_message(_event_with(field, raw))
    assert caught.value.field == field
    assert caught.value.reason.startswith(f"{field}: ")


def test_bad_text_in_a_field_that_is_not_ours_is_not_blamed_on_it() -> None:
    both = _event_with("trace_id", b"\xa2\xff\xfe")
    both = bytes((both[0] + 1,)) + pack("not_ours") + b"\xa1\xff" + both[1:]
    with pytest.raises(InvalidMessage) as caught:
        decode_message(both)
    assert caught.value.field == "trace_id"


@pytest.mark.parametrize("field", ["payload", "not_ours"])
@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
def test_a_message_nested_without_end_is_refused(field: str, level: bytes) -> None:
    with pytest.raises(InvalidMessage, match="nested too deeply"):
        decode_message(_event_with(field, b"\x81\xa1a" + level * 100_000 + b"\x01"))


@pytest.mark.parametrize("field", ["payload", "not_ours"])
def test_p8_a_message_nested_without_end_does_not_harm_its_neighbours(field: str) -> None:
    good, deep = encode_message(EVENT), _event_with(field, b"\x81\xa1a" + b"\x91" * 100_000 + b"\x01")
    payload = encode_payload([good, deep, good])
    with pytest.raises(InvalidMessage):
        decode_payload(payload)
    assert split_payload(payload) == [good, deep, good]


def test_a_payload_that_is_deep_and_cut_off_is_refused() -> None:
    for payload in (b"\x91" * 100_000, b"\x91" * 100_000 + b"\x01\x01", b"\x91" * 100_000 + b"\xc1"):
        with pytest.raises(InvalidMessage, match="not a MessagePack array"):
            split_payload(payload)


def test_deep_nesting_in_a_header_is_refused() -> None:
    deep = b"\x91" * 100_000 + b"\x01"
    with pytest.raises(WireError):
        decode_request(b"\x82\xa4type\xa5batch\xa1x" + deep)


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_sizes_that_the_bytes_do_not_bear_out_take_no_memory(head: bytes) -> None:
    """Four thousand million elements announced, none sent: were they reserved, this would need 32 GB each time."""
    _read_as_a_worker(head)
    _read_as_a_worker(_event_with("payload", b"\x81\xa1a" + head))
    with pytest.raises(InvalidMessage):
        decode_message(_event_with("payload", b"\x81\xa1a" + head))


def test_of_a_key_sent_twice_the_last_value_counts() -> None:
    assert decode_message(_event_with("run_id", pack("other"))).run_id == "other"  # type: ignore[union-attr]


@pytest.mark.parametrize("field", ["kind", "trace_id"])
def test_a_reason_does_not_grow_with_what_was_sent(field: str) -> None:
    fields = msgspec.msgpack.decode(encode_message(EVENT)) | {field: "x" * 500_000}
    with pytest.raises(InvalidMessage) as caught:
        decode_message(pack(fields))
    assert caught.value.field == field
    assert len(caught.value.reason) <= 300
    with pytest.raises(WireError) as refused:
        decode_request(pack(HEADER | {"type": "x" * 500_000}))
    assert len(str(refused.value)) <= 300


def test_text_that_looks_like_a_reason_does_not_move_the_blame() -> None:
    fields = msgspec.msgpack.decode(encode_message(EVENT))
    for lie in ("Object missing required field `run_id`", "x - at `$.run_id`", "x' - at `$.run_id"):
        with pytest.raises(InvalidMessage) as caught:
            decode_message(pack(fields | {"kind": lie}))
        assert caught.value.field == "kind"
