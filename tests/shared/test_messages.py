"""The four kinds of message, and what each of them is to the wire and to dedupe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.messages import (
    STATUS_ALIASES,
    CommitAssociated,
    Message,
    RunEvent,
    RunStarted,
    RunUpdated,
    Status,
    StatusOrAlias,
    home_run,
    message_time,
)
from runlake.validation import validate
from runlake.wire import decode_message, decode_payload, encode_message, encode_payload, split_payload
from support.messages import NOW, messages, runs_started, runs_updated

RUN = UUID("018d4f00-0000-7000-8000-000000000001")
CHANGE = UUID("018d4f00-0000-7000-8000-000000000002")
AT = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)

quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(messages())
def test_every_message_comes_back_from_the_wire_as_it_was_sent(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@quick
@given(messages())
def test_encoding_what_was_decoded_gives_the_same_bytes(message: Message) -> None:
    raw = encode_message(message)
    assert encode_message(decode_message(raw)) == raw


@quick
@given(messages())
def test_every_generated_message_is_valid(message: Message) -> None:
    validate(decode_message(encode_message(message)), NOW)


@quick
@given(messages())
def test_the_same_message_comes_back_from_json(message: Message) -> None:
    """The journal and the HTTP side hold messages as JSON; all but bytes in maps has a word there."""
    text = msgspec.json.encode(message)
    assert msgspec.json.encode(msgspec.json.decode(text, type=Message)) == text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), max_size=20))
def test_a_payload_gives_its_messages_back_in_order(sent: list[Message]) -> None:
    encoded = [encode_message(message) for message in sent]
    payload = encode_payload(encoded)
    assert decode_payload(payload) == sent
    assert split_payload(payload) == encoded


@quick
@given(st.one_of(runs_started(), runs_updated()))
def test_null_is_the_same_as_absent(message: RunStarted | RunUpdated) -> None:
    full = {name: getattr(message, name) for name in message.__struct_fields__}
    spelled_out = msgspec.msgpack.encode({"kind": message.__struct_config__.tag, **full})
    assert spelled_out.count(b"\xc0") > 20
    assert decode_message(spelled_out) == message


def test_absent_fields_take_no_room_on_the_wire() -> None:
    raw = encode_message(RunUpdated(event_id=CHANGE, run_event_id=RUN, ts=AT))
    assert set(msgspec.msgpack.decode(raw)) == {"kind", "event_id", "run_event_id", "ts"}


@pytest.mark.parametrize("kind", get_args(Message))
def test_unknown_fields_of_a_newer_agent_are_ignored(kind: type[Message]) -> None:
    message = _smallest(kind)
    fields = msgspec.msgpack.decode(encode_message(message))
    fields |= {"a_field_of_next_year": {"deep": [1, 2, {"x": None}]}, "another": "text"}
    assert decode_message(msgspec.msgpack.encode(fields)) == message


@pytest.mark.parametrize("kind", get_args(Message))
def test_messages_cannot_be_changed_after_they_are_made(kind: type[Message]) -> None:
    with pytest.raises(AttributeError):
        _smallest(kind).event_id = CHANGE  # type: ignore[misc]


def test_the_time_of_a_message_is_its_start_or_its_ts() -> None:
    assert {message_time(_smallest(kind)) for kind in get_args(Message)} == {AT}


def test_all_messages_of_one_run_have_one_home() -> None:
    start = RunStarted(event_id=RUN, run_id="r", agent_name="a", job_type="j", start_time=AT)
    update = RunUpdated(event_id=CHANGE, run_event_id=RUN, ts=AT)
    commit = CommitAssociated(event_id=CHANGE, run_event_id=RUN, ts=AT, commit_hash="abcdef0", commit_source="manual")
    event = RunEvent(event_id=CHANGE, run_id="r", ts=AT, type="t", run_event_id=RUN)
    assert {home_run(message) for message in (start, update, commit, event)} == {RUN}


def test_an_event_without_a_run_key_goes_home_by_its_run_id() -> None:
    assert home_run(RunEvent(event_id=CHANGE, run_id="r", ts=AT, type="t")) == "r"


def test_every_alias_of_a_status_leads_to_a_status() -> None:
    assert set(get_args(StatusOrAlias)) == {*get_args(Status), *STATUS_ALIASES}
    assert set(STATUS_ALIASES.values()) <= set(get_args(Status))
    assert not set(STATUS_ALIASES) & set(get_args(Status))


def _smallest(kind: type[Message]) -> Message:
    if kind is RunStarted:
        return RunStarted(event_id=RUN, run_id="r", agent_name="a", job_type="j", start_time=AT)
    if kind is RunUpdated:
        return RunUpdated(event_id=CHANGE, run_event_id=RUN, ts=AT)
    if kind is CommitAssociated:
        return CommitAssociated(event_id=CHANGE, run_event_id=RUN, ts=AT, commit_hash="abcdef0", commit_source="manual")
    return RunEvent(event_id=CHANGE, run_id="r", ts=AT, type="t")
