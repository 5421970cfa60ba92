"""Golden bytes: wire version 1 cannot drift unseen.

`vectors/` holds hexadecimal listings with comments. Those under `messages/` and `frames/`, and `payload.hex`, are what
our encoder gives, byte for byte, and what our decoder must go on reading. Those under `foreign/` are what other
MessagePack libraries may send for the same. To change one of these files is to change the wire version.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated
from runlake.validation import validate
from runlake.wire import (
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

VECTORS = Path(__file__).parent / "vectors"
RUN = UUID("018d4f00-0000-7000-8000-000000000001")
CHANGE = UUID("018d4f00-0000-7000-8000-000000000002")
WORKER = UUID("018d4f00-0000-7000-8000-0000000000aa")
LAKE = UUID("018d4f00-0000-7000-8000-0000000000bb")
TWO_WORKERS = Workers(
    version=3,
    members=[
        Member(worker=WORKER, endpoint="tcp://10.0.0.1:8766"),
        Member(worker=UUID("018d4f00-0000-7000-8000-0000000000ab"), endpoint="tcp://10.0.0.2:8766"),
    ],
)
AT = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)
NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)

SMALLEST: dict[str, Message] = {
    "start_smallest": RunStarted(event_id=RUN, run_id="scout-1", agent_name="scout", job_type="crawl", start_time=AT),
    "update_smallest": RunUpdated(event_id=CHANGE, run_event_id=RUN, ts=AT),
    "commit_smallest": CommitAssociated(
        event_id=CHANGE, run_event_id=RUN, ts=AT, commit_hash="0123abc", commit_source="ci"
    ),
    "event_smallest": RunEvent(event_id=CHANGE, run_id="scout-1", ts=AT, type="step"),
}
MESSAGES: dict[str, Message] = SMALLEST | {
    "start_full": RunStarted(
        event_id=RUN,
        run_id="scout-1",
        agent_name="scout",
        job_type="crawl",
        start_time=datetime(2026, 1, 28, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
        parent_run_id="fleet-7",
        status="completed",
        trigger_type="cron",
        environment="prod",
        host="node-3",
        product="shop",
        product_family="retail",
        platform="web",
        website="example.org",
        subdomain="www",
        website_section="news",
        item_name="article",
        insight_id="i-1",
        end_time=AT,
        duration_ms=0,
        heartbeat_until=AT,
        items_discovered=127,
        items_succeeded=128,
        items_failed=65_536,
        items_skipped=2**63 - 1,
        input_summary="in",
        output_summary="größer",
        error_summary="err",
        error_details="line one\nline two",
        source_ref="s3://in",
        target_ref="s3://out",
        git_repo="org/repo",
        git_branch="main",
        git_run_tag="v1",
        commit_hash="0123456789abcdef0123456789abcdef01234567",
        commit_source="llm",
        commit_author="Ada <ada@example.org>",
        commit_timestamp=AT,
        model="m-1",
        provider="p-1",
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_tokens=4,
        cost_usd=Decimal("0.012500000"),
        trace_id="t",
        span_id="s",
        metrics_json={"pages": 3, "ratio": 0.5},
        context_json={"nested": {"list": [1, "two", None, True]}},
    ),
    "update_status": RunUpdated(
        event_id=CHANGE, run_event_id=RUN, ts=AT, status="failure", error_summary="timeout after 30 s", items_failed=1
    ),
    "commit_full": CommitAssociated(
        event_id=CHANGE,
        run_event_id=RUN,
        ts=AT,
        commit_hash="0123abc",
        commit_source="manual",
        commit_author="Ada",
        commit_timestamp=AT,
    ),
    "event_full": RunEvent(
        event_id=CHANGE,
        run_id="scout-1",
        ts=AT,
        type="step",
        payload={"text": "日本", "bytes": b"\x00\xff", "none": None, "deep": [[[{}]]], "negative": -129},
        run_event_id=RUN,
        trace_id="t",
        span_id="s",
        parent_span_id="p",
        prev_hash="h0",
        event_hash="h1",
    ),
}
BATCH = list(SMALLEST.values())
FRAMES: dict[str, Request | Reply] = {
    "batch": Batch(producer="scout@host", batch=7, first=41, count=2),
    "batch_sorted": Batch(producer="scout@host/3", batch=7, first=41, count=2, list_version=3),
    "position_request": PositionRequest(),
    "flush_request": FlushRequest(),
    "workers_request": WorkersRequest(),
    "ack": Ack(batch=7, worker=WORKER, first_seq=1001, accepted=2, received_at=AT, credit=16),
    "ack_mixed": Ack(
        batch=7,
        worker=WORKER,
        first_seq=1001,
        accepted=1,
        received_at=AT,
        credit=16,
        duplicate=[1],
        rejected=[Rejection(index=2, reason="ts: is required", field="ts"), Rejection(index=3, reason="unreadable")],
    ),
    "position": Position(lake=LAKE, worker=WORKER, accepted=300, durable=200, flushed=100),
    "workers": TWO_WORKERS,
    "workers_alone": Workers(version=0, members=[Member(worker=WORKER, endpoint="tcp://127.0.0.1:8766")]),
    "not_mine": NotMine(workers=TWO_WORKERS, batch=7),
    "refused": Refused(reason="Wire version 2 is not spoken here; this side speaks 1", batch=7),
}
SAYS = {
    "start_smallest": "A run.started with its required fields alone.",
    "start_full": "A run.started with every field set.",
    "update_smallest": "A run.updated that changes nothing.",
    "update_status": "A run.updated that ends a run in failure.",
    "commit_smallest": "A commit.associated with its required fields alone.",
    "commit_full": "A commit.associated with every field set.",
    "event_smallest": "A run.event with its required fields alone.",
    "event_full": "A run.event with every field set.",
    "batch": "The header of a batch of two messages.",
    "batch_sorted": "The header of a batch that was sent by version 3 of the list of workers.",
    "workers_request": "The question which workers there are.",
    "workers": "A worker's answer which workers there are.",
    "workers_alone": "The answer of a worker that stands alone.",
    "not_mine": "A worker's answer to a batch that is not its own.",
    "position_request": "The question how far a worker is.",
    "flush_request": "The request to flush.",
    "ack": "The ack of a batch all of whose messages were accepted.",
    "ack_mixed": "The ack of a batch with one message accepted, one duplicate and two refused.",
    "position": "A worker's answer how far it is.",
    "refused": "A worker's answer to what it does not speak.",
}
"""The descriptions, as they stand on the first lines of the files."""

FOREIGN: dict[str, Message] = {
    "start": RunStarted(
        event_id=RUN,
        run_id="scout-1",
        agent_name="scout",
        job_type="crawl",
        start_time=AT,
        cost_usd=Decimal("0.25"),
        metrics_json={"ratio": 0.5, "n": -7, "big": 300},
    ),
    "update": RunUpdated(
        event_id=CHANGE,
        run_event_id=RUN,
        ts=AT,
        status="success",
        items_failed=300,
        duration_ms=7,
        cost_usd=Decimal("0.25"),
    ),
    "commit": CommitAssociated(
        event_id=CHANGE,
        run_event_id=RUN,
        ts=AT.replace(microsecond=500_000),
        commit_hash="0123abc",
        commit_source="ci",
        commit_timestamp=datetime(2026, 1, 28, 10, 29, 0, 250_000, tzinfo=UTC),
    ),
    "event": RunEvent(
        event_id=CHANGE,
        run_id="scout-1",
        ts=AT.replace(microsecond=123_456),
        type="step",
        payload={
            "u8": 2**8 - 1,
            "u16": 2**16 - 1,
            "u32": 2**32 - 1,
            "u64": 2**64 - 1,
            "i8": -(2**7),
            "i16": -(2**15),
            "i32": -(2**31),
            "i64": -(2**63),
            "f32": 0.5,
            "f64": 0.1,
            "bin": b"\x00\xff",
            "at": AT,
            "list": [True],
        },
    ),
}


def vector(name: str) -> bytes:
    """The bytes of a listing: what stands before the `#` of each line."""
    lines = (VECTORS / f"{name}.hex").read_text("utf-8").splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_bytes_of_its_vector_and_is_read_from_them(name: str) -> None:
    assert encode_message(MESSAGES[name]) == vector(f"messages/{name}")
    assert decode_message(vector(f"messages/{name}")) == MESSAGES[name]
    validate(MESSAGES[name], NOW)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_has_the_bytes_of_its_vector_and_is_read_from_them(name: str) -> None:
    frame, raw = FRAMES[name], vector(f"frames/{name}")
    assert encode_frame(frame) == raw
    if isinstance(frame, Request):
        assert decode_request(raw) == frame
    else:
        assert decode_reply(raw) == frame


def test_a_payload_has_the_bytes_of_its_vector_and_is_read_from_them() -> None:
    encoded = [encode_message(message) for message in BATCH]
    assert encode_payload(encoded) == vector("payload")
    assert decode_payload(vector("payload")) == BATCH
    assert split_payload(vector("payload")) == encoded


@pytest.mark.parametrize("name", FOREIGN)
def test_what_other_libraries_write_is_read_as_the_same_message(name: str) -> None:
    message = decode_message(vector(f"foreign/{name}"))
    assert message == FOREIGN[name]
    validate(message, NOW)
    assert decode_payload(encode_payload([vector(f"foreign/{name}")])) == [FOREIGN[name]]


def test_what_other_libraries_write_as_a_header_is_read_as_the_same_header() -> None:
    assert decode_request(vector("foreign/header")) == FRAMES["batch"]


def test_every_vector_is_used_and_says_what_it_is() -> None:
    used = {f"messages/{name}" for name in MESSAGES} | {f"frames/{name}" for name in FRAMES}
    used |= {f"foreign/{name}" for name in FOREIGN} | {"foreign/header", "payload"}
    found = {str(path.relative_to(VECTORS).with_suffix("")): path for path in VECTORS.rglob("*.hex")}
    assert set(found) == used
    for name, path in found.items():
        first = path.read_text("utf-8").splitlines()[0]
        assert first.startswith("# ")
        if Path(name).name in SAYS and not name.startswith("foreign/"):
            assert first == f"# {SAYS[Path(name).name]}"


def test_the_full_start_sets_every_field_there_is() -> None:
    start = MESSAGES["start_full"]
    assert all(getattr(start, field) is not None for field in start.__struct_fields__)
    assert len(msgspec.msgpack.decode(vector("messages/start_full"))) == len(start.__struct_fields__) + 1


def test_the_vectors_are_of_the_version_that_is_spoken() -> None:
    assert WIRE_VERSION == 1
